"""A table of live rows that draws what is in sight and nothing else: any number costs the same.

Textual's DataTable measures every cell it is given (3 s for 10,000 rows); here widths are fixed and
cells are cut by terminal cells when their row is drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engine.text import clip

__all__ = ["Cell", "Column", "Rows"]

MARKED = Style(color="#ffffff", bgcolor="#005f87", bold=True)
UNFOCUSED = Style(color="#d0d0d0", bgcolor="#303030")

Cell = str | tuple[str, str]
"""Outside text or ours, or (text, colour); always cut and made safe by the table."""


@dataclass(frozen=True)
class Column:
    """``width`` in cells; 0: what is left (for the last column, where outside text belongs)."""

    title: str
    width: int = 0
    right: bool = False


class Rows(Widget, can_focus=True):
    """Rows drawn on demand, with a cursor and a header line."""

    DEFAULT_CSS = "Rows { height: 1fr; min-height: 2; }"

    @dataclass
    class Highlighted(Message):
        """The cursor stands on another row."""

        table: "Rows"
        index: int

        @property
        def control(self) -> "Rows":
            return self.table

    @dataclass
    class Selected(Message):
        """A row was chosen by mouse."""

        table: "Rows"
        index: int

        @property
        def control(self) -> "Rows":
            return self.table

    def __init__(self, *, empty: str = "nothing here yet", **options: Any) -> None:
        super().__init__(**options)
        self.columns: Sequence[Column] = ()
        self.count = 0
        self.cursor = 0
        self._top = 0
        self._row: Callable[[int], Sequence[Cell]] = lambda index: ()
        self._empty = empty
        self._sent: dict[int, list[Cell]] = {}
        """Line on the screen -> the cells that it shows."""

    def show(
        self,
        columns: Sequence[Column],
        count: int,
        row: Callable[[int], Sequence[Cell]],
        *,
        cursor: int | None = None,
        empty: str | None = None,
    ) -> None:
        """``row(index)`` gives the cells of one row and is asked only for visible ones."""
        before = (self.columns, self.count, self.cursor, self._top, self._empty)
        self.columns, self.count, self._row = columns, count, row
        if empty is not None:
            self._empty = empty
        self.cursor = min(max(0, self.cursor if cursor is None else cursor), max(0, count - 1))
        self._keep_visible()
        if before != (self.columns, self.count, self.cursor, self._top, self._empty):
            self.refresh()
            return
        # Only rows that read differently are sent: one live run of 36 in sight, not all of them.
        changed = [
            Region(0, y, self.size.width, 1)
            for y, cells in self._sent.items()
            if self._top + y - 1 < count and list(row(self._top + y - 1)) != cells
        ]
        if changed:
            self.refresh(*changed)

    @property
    def visible_rows(self) -> int:
        return max(1, self.size.height - 1)

    @property
    def top(self) -> int:
        """Index of the first visible row."""
        return self._top

    def move(self, to: int) -> None:
        """Put the cursor on row ``to`` (or the nearest there is)."""
        to = min(max(0, to), max(0, self.count - 1))
        if to != self.cursor:
            self.cursor = to
            self._keep_visible()
            self.refresh()
            self.post_message(self.Highlighted(self, to))

    def _keep_visible(self) -> None:
        room = self.visible_rows
        self._top = min(max(self._top, self.cursor - room + 1), self.cursor)
        self._top = max(0, min(self._top, self.count - room))

    def on_resize(self, event: events.Resize) -> None:
        self._sent.clear()
        self._keep_visible()
        self.refresh()

    def _widths(self, width: int) -> list[int]:
        fixed = 2 + sum(column.width + 1 for column in self.columns)
        widths = []
        for column in self.columns:
            widths.append(column.width or max(0, width - fixed))
        return widths

    def _line(
        self, cells: Sequence[Cell], width: int, style: Style, plain: bool, mark: str = "  "
    ) -> Strip:
        segments = [Segment(mark, style)]
        for column, cell_width, cell in zip(self.columns, self._widths(width), cells, strict=False):
            text, colour = cell if isinstance(cell, tuple) else (cell, "")
            text = clip(text, cell_width)
            pad = max(0, cell_width - cell_len(text))
            text = " " * pad + text if column.right else text + " " * pad
            look = style if plain or not colour else style + Style(color=colour)
            segments += [Segment(text, look), Segment(" ", style)]
        return Strip(segments).adjust_cell_length(width, style)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if y == 0:
            return self._line([c.title for c in self.columns], width, base + Style(bold=True), True)
        index = self._top + y - 1
        if not self.count and y == 2:
            text = set_cell_size(f" {self._empty}", width)
            return Strip([Segment(text, base)])
        if index >= self.count:
            return Strip.blank(width, base)
        cells = self._sent[y] = list(self._row(index))
        if index == self.cursor:  # the mark before it is seen without colour too
            look = MARKED if self.has_focus else UNFOCUSED
            return self._line(cells, width, base + look, True, "› ")
        return self._line(cells, width, base, False)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def action_cursor_up(self) -> None:
        self.move(self.cursor - 1)

    def action_cursor_down(self) -> None:
        self.move(self.cursor + 1)

    def action_page_up(self) -> None:
        self.move(self.cursor - self.visible_rows)

    def action_page_down(self) -> None:
        self.move(self.cursor + self.visible_rows)

    def action_first(self) -> None:
        self.move(0)

    def action_last(self) -> None:
        self.move(self.count - 1)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if (
            offset is not None
            and offset.y >= 1
            and (index := self._top + offset.y - 1) < self.count
        ):
            if index == self.cursor and event.chain > 1:
                self.post_message(self.Selected(self, index))
            self.move(index)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.move(self.cursor + 3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.move(self.cursor - 3)
