"""Lines of which some stand for something: a cursor goes from one of those to the next."""

from collections.abc import Callable, Iterable

from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip

from tui.widgets.cursortable import MARKED, UNFOCUSED
from tui.widgets.lines import Line, LinesView, scroll_bar

__all__ = ["Named", "NamedLines"]

Named = tuple[str, Line]
"""What a line stands for, or "", and the line."""
UNDERLINED = Style(underline=True)


class NamedLines(LinesView):
    """A scrollable pane with a cursor that skips lines without a name."""

    KEEP_CURSOR = False
    """Whether the cursor is seen while another pane has the focus."""

    class Reached(Message):
        """The cursor is on another line."""

        def __init__(self, view: "NamedLines", name: str) -> None:
            super().__init__()
            self.view, self.name = view, name

        @property
        def control(self) -> "NamedLines":
            return self.view

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self._named_for: Callable[[int], list[Named]] = lambda width: []
        self._names: list[str] = []
        self.cursor = 0

    def show_named(self, layout: Callable[[int], list[Named]], *, keep: bool = False) -> None:
        """Show what ``layout`` makes for a width. ``keep``: the cursor stays on its name."""
        chosen = self.chosen if keep else ""
        self._named_for = layout
        self.show_layout(self._lay_out)
        if chosen and chosen in self._names:
            self.cursor = self._names.index(chosen)
        elif not keep or not self.chosen:
            self.cursor = next((at for at, name in enumerate(self._names) if name), 0)
            self.top = 0
        self._keep_in_sight()

    def _lay_out(self, width: int) -> list[Line]:
        lines = self._named_for(width)
        self._names = [name for name, _ in lines]
        self.cursor = max(0, min(self.cursor, len(lines) - 1))
        return [line for _, line in lines]

    @property
    def chosen(self) -> str:
        """What the line under the cursor stands for, or ""."""
        return self._names[self.cursor] if self.cursor < len(self._names) else ""

    def choose(self, name: str) -> None:
        """Put the cursor on a name."""
        if name in self._names:
            self._move([self._names.index(name)])

    def _move(self, places: Iterable[int]) -> None:
        """Put the cursor on the first of ``places`` that stands for something."""
        for place in places:
            if 0 <= place < len(self._names) and self._names[place]:
                if place != self.cursor:
                    self.cursor = place
                    self.post_message(self.Reached(self, self._names[place]))
                break
        self._keep_in_sight()

    def _keep_in_sight(self) -> None:
        height = max(1, self.size.height)
        if not any(self._names[: self.cursor]):
            self.top = 0  # with the headings above it
        if self.cursor < self.top:
            self.top = self.cursor
        elif self.cursor >= self.top + height:
            self.top = self.cursor - height + 1
        self.refresh()

    def action_scroll_down(self) -> None:
        self._move(range(self.cursor + 1, len(self._names)))

    def action_scroll_up(self) -> None:
        self._move(range(self.cursor - 1, -1, -1))

    def action_page_down(self) -> None:
        step, last = max(1, self.size.height - 1), len(self._names) - 1
        self._move([*range(self.cursor + step, last + 1), *range(last, -1, -1)])

    def action_page_up(self) -> None:
        step = max(1, self.size.height - 1)
        self._move([*range(self.cursor - step, -1, -1), *range(len(self._names))])

    def action_first(self) -> None:
        self._move(range(len(self._names)))

    def action_last(self) -> None:
        self._move(range(len(self._names) - 1, -1, -1))

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def render_line(self, y: int) -> Strip:
        index = self.top + y
        if index != self.cursor or not self.chosen or not (self.has_focus or self.KEEP_CURSOR):
            return super().render_line(y)
        text = self._lines[index].fitted(self.size.width - 1).text
        # Seen without colour too: a mark in the gap before the number, and a line below.
        text = f"›{text[1:]}" if text.startswith(" ") else text.replace("  ", " ›", 1)
        look = MARKED if self.has_focus else UNFOCUSED
        bar = scroll_bar(y, self.top, self.size.height, len(self._lines))
        return Strip([Segment(text, look + UNDERLINED), bar]).apply_style(self._look)
