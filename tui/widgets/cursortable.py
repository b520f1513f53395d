"""What tables share: columns, a header line, a cursor over rows of which only those in sight count.

Textual's DataTable measures every row it is given: 10,000 rows take 3 s. Here widths follow from
the columns, and a subclass draws the rows in sight.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

__all__ = ["MARKED", "UNFOCUSED", "Column", "CursorTable"]

MARKED = Style(color="#ffffff", bgcolor="#005f87", bold=True)
UNFOCUSED = Style(color="#d0d0d0", bgcolor="#303030")


@dataclass(frozen=True)
class Column:
    """One column. Put the one with outside text last: its width is what terminals disagree on."""

    title: str
    width: int = 0
    """Cells; 0: what the fixed columns leave, shared by ``share``."""
    right: bool = False
    """Align to the right (numbers)."""
    share: int = 1
    quiet: bool = False


class CursorTable(Widget, can_focus=True):
    """Moves by the same actions as every list. A subclass draws."""

    CLICKS = 1
    """Clicks on the row under the cursor that choose it."""

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, table: "CursorTable", row: int) -> None:
            super().__init__()
            self.table, self.row = table, row

        @property
        def control(self) -> "CursorTable":
            return self.table

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, CursorTable.Moved) and message.table is self.table

    class Chosen(Message):
        """A row was clicked that the cursor was on."""

        def __init__(self, table: "CursorTable", row: int) -> None:
            super().__init__()
            self.table, self.row = table, row

        @property
        def control(self) -> "CursorTable":
            return self.table

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.columns: Sequence[Column] = ()
        self.count = 0
        self.cursor = 0
        self.top = 0
        """Index of the first row in sight."""
        self._drawn_top = -1
        """What the last whole repaint showed first: paging moves it before the cursor."""

    @property
    def visible_rows(self) -> int:
        return max(1, self.size.height - 1)

    def go(self, row: int) -> None:
        """Put the cursor on a row (the nearest one there is)."""
        row = max(0, min(row, self.count - 1))
        if row == self.cursor:
            return
        before, top = self.cursor, self.top
        self.cursor = row
        self.keep_in_sight()
        if self.top == top == self._drawn_top:
            # Only what changed is drawn: the header with the position, and two rows.
            width = self.size.width
            lines = {0, before - top + 1, row - top + 1}
            self.refresh(*(Region(0, y, width, 1) for y in lines if 0 <= y < self.size.height))
        else:
            self.refresh()
        self.post_message(self.Moved(self, row))

    def keep_in_sight(self) -> None:
        if self.cursor < self.top:
            self.top = self.cursor
        elif self.cursor >= self.top + self.visible_rows:
            self.top = self.cursor - self.visible_rows + 1
        self.top = max(0, min(self.top, self.count - self.visible_rows))

    def render_lines(self, crop: Region) -> list[Strip]:
        self._drawn_top = self.top
        return super().render_lines(crop)

    def action_cursor_up(self) -> None:
        self.go(self.cursor - 1)

    def action_cursor_down(self) -> None:
        self.go(self.cursor + 1)

    def action_page_up(self) -> None:
        self.top = max(0, self.top - self.visible_rows)
        self.go(self.cursor - self.visible_rows)

    def action_page_down(self) -> None:
        self.top = min(max(0, self.count - self.visible_rows), self.top + self.visible_rows)
        self.go(self.cursor + self.visible_rows)

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.go(self.count - 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.go(self.cursor + 3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.go(self.cursor - 3)
        event.stop()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y == 0:
            return
        row = self.top + offset.y - 1
        if row >= self.count:
            return
        if row == self.cursor and event.chain >= self.CLICKS:
            self.post_message(self.Chosen(self, row))
        self.go(row)

    def on_resize(self, event: events.Resize) -> None:
        self.keep_in_sight()
        self.refresh()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
