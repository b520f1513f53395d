"""The end of a log: only the visible lines are measured, made safe and drawn."""

from collections.abc import Sequence

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from engine.text import clip

__all__ = ["LogTail"]


class LogTail(Widget, can_focus=True):
    """Last lines of a log, outside text; follows the end unless scrolled away from it."""

    DEFAULT_CSS = "LogTail { height: 1fr; min-height: 2; }"

    def __init__(
        self, *, empty: str = "nothing written yet", hint: str = "", **options: object
    ) -> None:
        """``hint``: what a key does with it, shown while it has the focus."""
        super().__init__(**options)  # type: ignore[arg-type]
        self._hint = hint
        self._lines: Sequence[str] = ()
        self._back = 0
        self._empty = empty

    def on_focus(self) -> None:
        self.border_subtitle = self._hint

    def on_blur(self) -> None:
        self.border_subtitle = ""

    def show(self, lines: Sequence[str]) -> None:
        """``lines`` may hold anything; repaints only when they differ."""
        if lines == self._lines:
            return
        if self._back:  # keep the eye where it is
            self._back = min(len(lines), self._back + max(0, len(lines) - len(self._lines)))
        self._lines = lines
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        style = self.rich_style
        if not self._lines:
            text = self._empty[:width] if y == 0 else ""
            return Strip([Segment(text, style)]).adjust_cell_length(width, style)
        end = len(self._lines) - self._back
        first = max(0, end - height)
        index = first + y
        text = clip(self._lines[index], width) if index < end else ""
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)

    def _scroll(self, by: int) -> None:
        most = max(0, len(self._lines) - self.size.height)
        back = min(most, max(0, self._back + by))
        if back != self._back:
            self._back = back
            self.refresh()

    def action_cursor_up(self) -> None:
        self._scroll(1)

    def action_cursor_down(self) -> None:
        self._scroll(-1)

    def action_page_up(self) -> None:
        self._scroll(self.size.height)

    def action_page_down(self) -> None:
        self._scroll(-self.size.height)

    def action_first(self) -> None:
        self._scroll(len(self._lines))

    def action_last(self) -> None:
        self._scroll(-len(self._lines))
