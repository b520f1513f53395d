"""A table of any number of rows that fetches, measures and draws only those in sight.

Textual's DataTable measures every row it is given: 10,000 rows take 3 s. Here 2.2 million rows
scroll as easily as 20: the source is asked for pages in a thread, the rest is arithmetic.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engine.text import clip, safe_line
from tui.widgets.lines import QUIET, scroll_bar

__all__ = ["Column", "Fetch", "PagedTable", "one_line"]

PAGE = 100
"""Rows fetched at a time."""
PAGES_KEPT = 30
GAP = "  "
WAIT = "…"
NARROWEST = 8
"""Cells that a column of words keeps as long as possible."""

Row = Sequence[str]
Fetch = Callable[[int, int], Sequence[Row]]
"""``fetch(start, count)`` gives the cells of up to ``count`` rows; called in a thread."""

HEAD = Style(bold=True)
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


class PagedTable(Widget, can_focus=True):
    """Rows under a header, a cursor, a scroll bar. Moves by the same actions as every list."""

    DEFAULT_CSS = "PagedTable { width: 1fr; height: 1fr; }"

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, table: "PagedTable", row: int) -> None:
            super().__init__()
            self.table, self.row = table, row

        @property
        def control(self) -> "PagedTable":
            return self.table

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, PagedTable.Moved) and message.table is self.table

    class Chosen(Message):
        """A row was clicked a second time."""

        def __init__(self, table: "PagedTable", row: int) -> None:
            super().__init__()
            self.table, self.row = table, row

        @property
        def control(self) -> "PagedTable":
            return self.table

    class Failed(Message):
        """The source could not give its rows."""

        def __init__(self, table: "PagedTable", error: Exception) -> None:
            super().__init__()
            self.table, self.error = table, error

        @property
        def control(self) -> "PagedTable":
            return self.table

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.columns: tuple[Column, ...] = ()
        self.count = 0
        self.cursor = 0
        self.top = 0
        self.empty_words = "Nothing here."
        self._fetch: Fetch | None = None
        self._pages: OrderedDict[int, Sequence[Row]] = OrderedDict()
        self._loading = False
        self._generation = 0
        self._look = Style.null()
        self._drawn_top = -1
        """What the last whole repaint showed first: paging moves it before the cursor."""

    # --- what it shows

    def show(
        self,
        columns: Sequence[Column],
        count: int,
        fetch: Fetch | None,
        *,
        cursor: int = 0,
        empty: str = "Nothing here.",
    ) -> None:
        """Show another source. ``empty``: the words shown when ``count`` is 0."""
        self.columns, self.count, self._fetch = tuple(columns), count, fetch
        self.empty_words = empty
        self._pages.clear()
        self._generation += 1
        self._loading = False
        self.top = 0
        self.cursor = max(0, min(cursor, count - 1))
        self._keep_in_sight()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    def row(self, index: int) -> Row | None:
        """The cells of a row that is loaded already."""
        page = self._pages.get(index // PAGE)
        if page is None or index % PAGE >= len(page):
            return None
        return page[index % PAGE]

    @property
    def visible_rows(self) -> int:
        return max(1, self.size.height - 1)

    # --- moving

    def go(self, row: int) -> None:
        """Put the cursor on a row (the nearest one there is)."""
        row = max(0, min(row, self.count - 1))
        if row == self.cursor:
            return
        before, top = self.cursor, self.top
        self.cursor = row
        self._keep_in_sight()
        if self.top == top == self._drawn_top:
            # Only what changed is drawn: the header with the position, and two rows.
            width = self.size.width
            lines = {0, before - top + 1, row - top + 1}
            self.refresh(*(Region(0, y, width, 1) for y in lines if 0 <= y < self.size.height))
        else:
            self.refresh()
        self.post_message(self.Moved(self, row))

    def _keep_in_sight(self) -> None:
        if self.cursor < self.top:
            self.top = self.cursor
        elif self.cursor >= self.top + self.visible_rows:
            self.top = self.cursor - self.visible_rows + 1
        self.top = max(0, min(self.top, self.count - self.visible_rows))

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
        if row == self.cursor:
            self.post_message(self.Chosen(self, row))
        self.go(row)

    def on_resize(self, event: events.Resize) -> None:
        self._keep_in_sight()
        self.refresh()

    # --- loading

    def _missing(self) -> int | None:
        """The nearest page in sight that is not loaded."""
        if not self.count:
            return None
        last = min(self.count, self.top + self.visible_rows) - 1
        for page in range(self.top // PAGE, last // PAGE + 1):
            if page not in self._pages:
                return page
        return None

    def _load(self) -> None:
        if not self._loading and self._fetch is not None and self._missing() is not None:
            self._loading = True
            # With exit_on_error a source's error would end the workbench.
            self.run_worker(partial(self._load_in_sight, self._generation), exit_on_error=False)

    async def _load_in_sight(self, generation: int) -> None:
        """Loads what is in sight when its turn comes: what was scrolled past is never fetched."""
        while generation == self._generation and (page := self._missing()) is not None:
            fetch, start = self._fetch, page * PAGE
            assert fetch is not None
            try:
                rows = await asyncio.to_thread(fetch, start, min(PAGE, self.count - start))
            except Exception as error:
                if generation == self._generation:
                    self._fetch = None  # asked again only for another source
                    self.post_message(self.Failed(self, error))
                break
            if generation != self._generation:
                return
            self._pages[page] = rows
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
            self.refresh()
            self.post_message(self.Moved(self, self.cursor))
        if generation == self._generation:
            self._loading = False

    # --- drawing

    def _widths(self, width: int) -> list[int]:
        """Cells of every column; flexible ones share what the fixed ones leave.

        Where that is too little, the widest fixed column of words gives way.
        """
        widths = [column.width for column in self.columns]
        flexible = [index for index, column in enumerate(self.columns) if not column.width]
        room = width - len(GAP) * max(0, len(widths) - 1) - sum(widths)
        short = NARROWEST * len(flexible) - room
        words = [i for i, column in enumerate(self.columns) if column.width and not column.right]
        if short > 0 and words:
            widest = max(words, key=lambda index: widths[index])
            given = max(0, min(short, widths[widest] - NARROWEST))
            widths[widest] -= given
            room += given
        shares = sum(self.columns[index].share for index in flexible)
        left = room
        for index in flexible:
            part = left if index == flexible[-1] else room * self.columns[index].share // shares
            widths[index] = max(1, part)
            left -= widths[index]
        return widths

    def render_lines(self, crop: Region) -> list[Strip]:
        self._look = self.rich_style  # 0.1 ms: once a repaint, not once a line
        self._drawn_top = self.top
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self._look
        if width < 6:
            return Strip.blank(width, base)
        if not self.count:
            words = clip(self.empty_words, width) if y == min(1, self.size.height - 1) else ""
            return self._strip([Segment(words, QUIET)], width)
        inner = width - 3  # the cursor's mark before, the scroll bar behind
        widths = self._widths(inner)
        if y == 0:
            self._load()
            return self._header(widths, width)
        index = self.top + y - 1
        if index >= self.count:
            return Strip.blank(width, base)
        row = self.row(index)
        values = row if row is not None else [WAIT] * len(self.columns)
        segments = [
            Segment(
                self._cell(value, size, column.right),
                QUIET if column.quiet or row is None else None,
            )
            for column, size, value in zip(self.columns, widths, values, strict=False)
        ]
        here = index == self.cursor
        line = Strip([Segment("› " if here else "  "), *_joined(segments)])
        line = line.crop_extend(0, width - 1, base)
        bar = scroll_bar(y - 1, self.top, self.visible_rows, self.count)
        if here:
            mark = MARKED if self.has_focus else UNFOCUSED
            line = Strip([Segment(line.text, mark)], line.cell_length)
        return self._strip([*line, bar], width)

    def _header(self, widths: Sequence[int], width: int) -> Strip:
        """The columns' titles, and where the cursor is as far as the last title leaves room."""
        cells = [
            self._cell(column.title, size, column.right)
            for column, size in zip(self.columns, widths, strict=True)
        ]
        place, count = f"{self.cursor + 1:,}", f"{self.count:,}"
        room = widths[-1] - cell_len(self.columns[-1].title) - 2
        told = f"row {place} of {count}"
        if len(told) > room:
            told = f"{place}/{count}"
        segments = _joined([Segment(cell, HEAD) for cell in cells])
        if len(told) <= room:
            segments[-1] = Segment(cells[-1][: -len(told)], HEAD)
            segments.append(Segment(told, QUIET))
        return self._strip([Segment("  "), *segments, Segment(" ")], width)

    def _cell(self, value: str, size: int, right: bool) -> str:
        text = clip(value, size)
        space = " " * max(0, size - cell_len(text))
        return space + text if right else text + space

    def _strip(self, segments: Sequence[Segment], width: int) -> Strip:
        base = self._look
        return Strip(segments).crop_extend(0, width, base).apply_style(base)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    made: list[Segment] = []
    for segment in segments:
        if made:
            made.append(Segment(GAP))
        made.append(segment)
    return made


def one_line(value: object, limit: int = 600) -> str:
    """A cell's text from any value of outside, short enough to keep many rows in memory."""
    return "" if value is None else safe_line(str(value)[:limit])
