"""A line chart on Textual's Line API: draws only when its data, size or scale changed."""

from collections.abc import Callable, Sequence
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
    from tui.raster import Frame, Line, Options

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
        self.title = title
        self.lines: Sequence[Line] = ()
        self._legend = True
        self.colours: Sequence[str] = SERIES_COLOURS
        self._key: object = None
        self._more: dict[str, Any] = {"y_zero": y_zero}
        self.steer: Callable[[str], object] | None = None
        """Told of the keys that move: ``left``, ``page_down``, ..."""
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
        legend: bool = True,
        **options: Any,
    ) -> None:
        """Draw ``lines``; nothing happens when ``key`` (what they were made of) is the last one.

        ``options``: others of :class:`tui.raster.Options`, ``x_range``, ``log_x``, ``markers`` (a
        tuple), ``cursor``, ``y_zero``; a change of them is drawn under the same ``key`` too.
        """
        key = (key, log_y, title, legend, tuple(sorted(options.items())))
        if key == self._key:
            return
        self._key, self.lines, self.colours = key, lines, colours
        self._more, self._legend = self._more | options | {"log_y": log_y}, legend
        if title is not None:
            self.title = title
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

    @property
    def options(self) -> "Options":
        """What it was drawn by last."""
        from tui.raster import Options, charset_for

        return Options(charset_for(), **self._more)

    def _show_titles(self) -> None:
        log = " (log)" if self._more.get("log_y") else ""
        title = Text(clip(self.title + log, 60) or " ")
        legend = Text()
        reading = self._more.get("cursor")
        named = [(at, line) for at, line in enumerate(self.lines) if not line.quiet]
        if reading is not None:
            legend = self._readings(named, reading)
        elif len(named) > 1 and self._legend:
            for at, line in named:
                legend.append_text(self._sample(at, line))
                legend.append(f" {clip(line.name, 24)}  ", "bold" if line.pinned else "")
        if self._legend and reading is None:
            self._explain_markers(legend)
        legend.right_crop(2)
        if (title, legend) != self._titles:  # setting a title repaints the whole chart
            self._titles = (title, legend)
            self.border_title = title
            self.border_subtitle = legend if legend.plain else None

    def _explain_markers(self, legend: Text) -> None:
        """The letters above the plot, where there is room for that."""
        from tui.eventmarks import LETTERS

        kinds = dict.fromkeys(marker.kind for marker in self._more.get("markers", ()))
        words = "".join(f"{LETTERS[kind]} {kind}  " for kind in kinds)
        if words and legend.cell_len + len(words) <= self.size.width - 2:
            legend.append(words, "#af87d7")

    def _sample(self, at: int, line: "Line") -> Text:
        """How a line looks, and its letter."""
        from tui.raster import charset_for

        colour = self.colours[at % len(self.colours)]
        sample = (PLAIN if charset_for() == "ascii" else SAMPLE)[line.mark]
        return Text(sample + (f" {clip(line.tag, 1)}" if line.tag else ""), colour)

    def _readings(self, named: "list[tuple[int, Line]]", x: float) -> Text:
        """What the lines read at ``x``; without their names where there is no room for those."""
        made = []
        for wide in (True, False):
            made.append(Text())
            for at, line in named:
                place = line.points.nearest(x)
                if place is None:
                    continue
                if len(named) > 1:
                    made[-1].append_text(self._sample(at, line)).append(" ")
                    if wide:
                        made[-1].append(f"{clip(line.name, 16)} ")
                made[-1].append(f"{line.points.y[place]:.4g}  ", "bold")
        return made[0] if made[0].cell_len - 2 <= self.size.width - 2 else made[1]

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
        if not self.lines:  # numpy waits until there is something to draw
            return self._say("no points yet")
        from tui import plotting, raster

        self.frames += 1
        width, height = self.size
        frame = plotting.draw(self.lines, width, height, self.options)
        self.frame = frame
        base = self.rich_style
        styles = {
            raster.AXIS: base + Style(color="#9e9e9e"),
            raster.GUIDE: base + Style(color="#444444"),
            raster.BAD: base + Style(color="#ff8787", bold=True),
            raster.MARKER: base + Style(color="#af87d7"),
            raster.CURSOR: base + Style(color="#ffffff"),
        }
        for number, line in enumerate(self.lines):
            colour = self.colours[number % len(self.colours)]
            styles[number] = base + Style(color=colour, bold=line.pinned or None)
        return [
            Strip([Segment(text, styles[style]) for text, style in frame.runs(row)], width)
            for row in range(height)
        ]

    # --- moving about, by whoever holds several charts

    def _steer(self, where: str) -> None:
        if self.steer:
            self.steer(where)

    def action_cursor_left(self) -> None:
        self._steer("left")

    def action_cursor_right(self) -> None:
        self._steer("right")

    def action_cursor_up(self) -> None:
        self._steer("up")

    def action_cursor_down(self) -> None:
        self._steer("down")

    def action_scroll_top(self) -> None:
        self._steer("first")

    def action_scroll_bottom(self) -> None:
        self._steer("last")

    def action_page_up(self) -> None:
        self._steer("page_up")

    def action_page_down(self) -> None:
        self._steer("page_down")
