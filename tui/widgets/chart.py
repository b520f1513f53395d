"""A line chart on Textual's Line API: draws only when its data, size or scale changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from engine.text import clip
from tui.theme import SERIES_COLOURS

if TYPE_CHECKING:
    from tui.raster import Frame, Line

__all__ = ["Chart"]

SAMPLE = {
    "solid": "━━",
    "dots": "⠌⠡",
    "dashed": "╍╍",
    "dotted": "··",
    "dashdot": "━·",
    "points": "◆",
}
PLAIN = {
    "solid": "--",
    "dots": "':",
    "dashed": "- ",
    "dotted": "..",
    "dashdot": "-.",
    "points": "o",
}
"""How a series looks, for the legend; PLAIN: where there are no such characters."""


class Chart(Widget, can_focus=True):
    """Several series over steps. ``show`` hands it everything; numpy is imported by then."""

    DEFAULT_CSS = "Chart { height: 1fr; min-height: 3; }"

    def __init__(self, title: str, *, y_zero: bool = False, **options: Any) -> None:
        super().__init__(classes="pane", **options)
        self._title = title
        self._lines: Sequence[Line] = ()
        self._colours: Sequence[str] = SERIES_COLOURS
        self._key: object = None
        self._log_y = False
        self._options: dict[str, Any] = {}
        self._y_zero = y_zero
        self._strips: list[Strip] = []
        self._drawn: object = None
        self._titles: tuple[Text, Text] | None = None
        self.frame: Frame | None = None
        """What is drawn, for a cursor (:mod:`tui.chartview`); its ``area`` begins at the widget's
        inside."""
        self.frames = 0
        """How often it was drawn: tests watch that nothing is drawn without need."""

    def on_mount(self) -> None:
        self._show_titles()

    def show(
        self,
        lines: "Sequence[Line]",
        key: object,
        *,
        colours: Sequence[str] = SERIES_COLOURS,
        log_y: bool = False,
        title: str | None = None,
        **options: Any,
    ) -> None:
        """Draw ``lines``; nothing happens when ``key`` (what they were made of) is the last one.

        ``options``: others of :class:`tui.raster.Options`, ``x_range``, ``log_x``, ``markers`` (a
        tuple), ``cursor``; a change of them is drawn under the same ``key`` too.
        """
        key = (key, log_y, title, tuple(sorted(options.items())))
        if key == self._key:
            return
        self._key, self._lines, self._colours, self._log_y = key, lines, colours, log_y
        self._options = options
        if title is not None:
            self._title = title
        self._show_titles()
        if len(self._strips) != self.size.height or not self.size.height:
            self.refresh()
            return
        # The axes move in steps, so most rows stay as they are: only the others are sent.
        before, self._strips = self._strips, self._draw()
        self._drawn = (self._key, self.size)
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y, (old, new) in enumerate(zip(before, self._strips, strict=False))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def _show_titles(self) -> None:
        title = Text(clip(self._title + (" (log)" if self._log_y else ""), 60) or " ")
        legend = Text()
        if len(self._lines) > 1:
            from tui.raster import charset_for

            sample = PLAIN if charset_for() == "ascii" else SAMPLE
            for number, line in enumerate(self._lines):
                colour = self._colours[number % len(self._colours)]
                legend.append(sample[line.mark], colour)
                legend.append(f" {clip(line.tag, 1)}" if line.tag else "", colour)
                legend.append(f" {clip(line.name, 24)}  ", "bold" if line.pinned else "")
            legend.right_crop(2)
        if (title, legend) != self._titles:  # setting a title repaints the whole chart
            self._titles = (title, legend)
            self.border_title = title
            self.border_subtitle = legend if legend.plain else None

    def render_line(self, y: int) -> Strip:
        wanted = (self._key, self.size)
        if wanted != self._drawn:
            self._strips = self._draw()
            self._drawn = wanted
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def _say(self, words: str) -> list[Strip]:
        width, height = self.size
        strips = [Strip.blank(width, self.rich_style) for _ in range(height)]
        if width > len(words) and height:
            text = words.center(width)
            strips[height // 2] = Strip([Segment(text, self.rich_style + Style(color="#9e9e9e"))])
        return strips

    def _draw(self) -> list[Strip]:
        if not self._lines:  # numpy waits until there is something to draw
            return self._say("no points yet")
        from tui import plotting, raster

        self.frames += 1
        options = raster.Options(
            raster.charset_for(), self._log_y, y_zero=self._y_zero, **self._options
        )
        width, height = self.size
        frame = plotting.draw(self._lines, width, height, options)
        self.frame = frame
        base = self.rich_style
        styles = {
            raster.AXIS: base + Style(color="#9e9e9e"),
            raster.GUIDE: base + Style(color="#444444"),
            raster.BAD: base + Style(color="#ff8787", bold=True),
            raster.MARKER: base + Style(color="#af87d7"),
            raster.CURSOR: base + Style(color="#ffffff"),
        }
        for number, line in enumerate(self._lines):
            colour = self._colours[number % len(self._colours)]
            styles[number] = base + Style(color=colour, bold=line.pinned or None)
        return [
            Strip([Segment(text, styles[style]) for text, style in frame.runs(row)], width)
            for row in range(height)
        ]
