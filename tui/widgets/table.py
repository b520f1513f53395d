"""A table of any number of rows that fetches, measures and draws only those in sight.

Textual's DataTable measures every row it is given: 10,000 rows take 3 s. Here 2.2 million rows
scroll as easily as 20: the source is asked for pages in a thread, the rest is arithmetic.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from engine.text import clip, safe_line
from tui.widgets.cursortable import MARKED, UNFOCUSED, Column, CursorTable
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


class PagedTable(CursorTable):
    """Rows under a header, a cursor, a scroll bar."""

    DEFAULT_CSS = "PagedTable { width: 1fr; height: 1fr; }"

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
        self.empty_words = "Nothing here."
        self._fetch: Fetch | None = None
        self._pages: OrderedDict[int, Sequence[Row]] = OrderedDict()
        self._loading = False
        self._generation = 0
        self._look = Style.null()

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
        self.keep_in_sight()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor))

    def grow(self, count: int) -> None:
        """The same rows, and more of them behind."""
        if count <= self.count:
            return
        last = self.count // PAGE
        if self.count % PAGE:
            self._pages.pop(last, None)  # it ended early
        self.count = count
        self.refresh()

    def row(self, index: int) -> Row | None:
        """The cells of a row that is loaded already."""
        page = self._pages.get(index // PAGE)
        if page is None or index % PAGE >= len(page):
            return None
        return page[index % PAGE]

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
