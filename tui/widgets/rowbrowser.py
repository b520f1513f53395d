"""The rows of one dataset: a table of every view, one row whole, and what the model sees of it."""

import asyncio
from functools import partial

from textual.app import ComposeResult

from engine.errors import UserError
from engine.text import clip
from tui.rowlist import FilteredRows, RowList
from tui.rowplace import Place, find_row
from tui.rowviews import SPLITS, TABLES, VIEWS, Rows, columns_of
from tui.widgets.lengthspane import LengthsPane
from tui.widgets.rowdetail import RowDetail
from tui.widgets.rowreader import Here, RowReader
from tui.widgets.rowsearch import RowSearch
from tui.widgets.table import PagedTable

__all__ = ["RowBrowser"]

SOON = 0.15
"""Seconds that the next view waits for its row before it is shown without."""


class RowBrowser(RowReader):
    """Shows ``rows`` (None: words in their place).

    All views follow one line of the source: that of the row the cursor was last put on.
    """

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self._table_view = "train"
        """The view that the table shows: it follows ``view`` when its row is found."""
        self._unfiltered: Here | None = None
        """Where the cursor was before a filter was set."""
        self.search = RowSearch(self._place, id="ask")

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield self.search

    # --- what is shown

    def show(self, rows: Rows) -> None:
        """The rows of a dataset, in the view that was last shown."""
        if self.rows is None or self.rows.name != rows.name:
            self._cursor.clear()
            self._line = None
        self.rows = rows
        self._lists = {view: RowList(rows, view) for view in TABLES}
        self._note = ""
        self._show_view()

    def show_view(self, view: str, reason: str = "") -> None:
        """A view of the rows; of dropped ones only those of one reason."""
        if self.rows is None:
            return
        came_from = self._here
        self.view, self.whole = view, ""
        if reason:
            self._filter(reason)
        else:
            self._show_view(came_from)

    def _place(self) -> tuple[RowList | None, int]:
        here = None if self.one_row else self._here
        return here or (None, 0)

    def turn(self, by: int) -> None:
        """The next view or the one before, of the same row."""
        if self.rows is None:
            return
        came_from = self._here
        self.view = VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)]
        if self.whole != "row":
            self.whole = ""
        self.query_one(LengthsPane).stop()
        self._show_view(came_from)

    def _show_view(self, came_from: Here | None = None) -> None:
        if self.view in SPLITS:
            self._split = self.view
        self.show_titles()
        work = partial(self._show_same_row, came_from)
        self.run_worker(work, group="row", exclusive=True)
        self.post_message(self.Changed())

    async def _show_same_row(self, came_from: Here | None) -> None:
        """Show the view with its cursor on the line that is followed."""
        view = self.view
        finding = asyncio.ensure_future(asyncio.to_thread(self._find_row, came_from))
        try:
            done, _ = await asyncio.wait({finding}, timeout=SOON)
            if not done and view in TABLES and not self.whole:
                self._show_table()
                self.border_subtitle = "looking for the same line …"
            found = await finding
        except (UserError, OSError):
            # Without the source a line cannot be found; the table says so itself.
            found = Place(view, self._cursor.get(view, 0), None, "")
        if view != self.view:
            return
        if view not in TABLES and found.view in SPLITS:
            self._split = found.view
        self._cursor[self._row_view] = found.place
        self._line, self._note = found.line, found.note
        if self.one_row:
            await self._read_whole()
        else:
            self._show_table()
        self.show_titles()

    def _find_row(self, came_from: Here | None) -> Place:
        assert self.rows is not None
        line = self._line
        if line is None and came_from is not None:
            line = int(came_from[0].one(came_from[1])["line"])
        here = self._cursor.get(self._row_view, 0)
        return find_row(self.rows, self._lists, self.view, self._split, line, here)

    def _show_table(self) -> None:
        view, rows = self.view, self.rows
        assert rows is not None
        shown = self._lists[view]
        inside = self.focus_inside
        self._table_view = view
        self.switch("browse")
        empty = "No row was dropped." if view == "dropped" else "No rows here."
        if isinstance(shown, FilteredRows):
            empty = f"No row with {clip(shown.words, 40)}." if shown.done else "Looking …"
        table = self.query_one(PagedTable)
        table.show(
            columns_of(view, rows.shape),
            shown.count,
            shown.cells,
            cursor=self._cursor.get(view, 0),
            empty=empty,
        )
        self._cursor[view] = table.cursor
        self._look_at_row()
        if inside or self.screen.focused is None:
            self.focus_view()

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_titles)

    def on_cursor_table_moved(self, event: PagedTable.Moved) -> None:
        event.stop()
        if event.row != event.table.cursor or self.rows is None:
            return  # of the table as it was before
        view = self._table_view
        if event.row != self._cursor.get(view, 0):  # moved by hand
            self._cursor[view], self._line = event.row, None
            if self._note:
                self._note = ""
                self.show_titles()
        self._look_at_row()

    def on_cursor_table_chosen(self, event: PagedTable.Chosen) -> None:
        event.stop()
        self.open_row()

    def on_paged_table_failed(self, event: PagedTable.Failed) -> None:
        self.fail(event.error)

    def _look_at_row(self) -> None:
        """With room for it, the row under the cursor is shown whole below the table."""
        if self.screen.has_class("-tall") and not self.one_row:
            rows = self._lists[self._table_view]
            self.query_one(RowDetail).follow(rows, self._cursor.get(self._table_view, 0))

    def step(self, by: int) -> None:
        """The next row or the one before; in a table: the next match."""
        if self.one_row:
            super().step(by)
        else:
            self.search.again(by)

    def back(self) -> bool:
        """One step back from what is done here; False: nothing is."""
        if self.search.stop() or self.query_one(LengthsPane).stop():
            return True
        if self.whole:
            self.whole = ""
            self._show_view(self._here)
            return True
        if self.view in TABLES and isinstance(self._lists.get(self.view), FilteredRows):
            self._filter("")
            return True
        return False

    # --- finding, jumping, filtering

    def ask_filter(self) -> None:
        shown = self._lists.get(self.view)
        hint = "only rows that contain this text; empty: all rows"
        if self.view == "dropped":
            hint = "only rows with this text or reason; empty: all rows"
        self.search.ask_filter(hint, getattr(shown, "wanted", ""))

    def _filter(self, wanted: str) -> None:
        """Show only rows with this text, or of this reason; "": all."""
        rows, view = self.rows, self.view
        if rows is None:
            return
        here = self._here
        if not wanted:
            self._lists[view] = RowList(rows, view)
            self._show_view(here or self._unfiltered)
            return
        if not isinstance(self._lists[view], FilteredRows):
            self._unfiltered = here
        reasons = rows.dataset.report.dropped
        by_reason = view == "dropped" and bool(reasons.get(wanted))
        shown = FilteredRows(rows, view, wanted, reason=by_reason)
        self._lists[view] = shown
        self._cursor[view], self._line, self._note = 0, None, ""
        self._show_table()
        self.show_titles()
        self.search.scan(shown)
        self.post_message(self.Changed())

    def on_row_search_wanted(self, event: RowSearch.Wanted) -> None:
        if not self.one_row:
            self._filter(event.text)

    def on_row_search_grown(self, event: RowSearch.Grown) -> None:
        if event.rows is self._lists.get(self._table_view) and not self.one_row:
            table = self.query_one(PagedTable)
            if event.rows.done and not event.rows.count:
                self._show_table()
            table.grow(event.rows.count)

    def on_row_search_reached(self, event: RowSearch.Reached) -> None:
        if event.rows is self._lists.get(self._table_view) and not self.one_row:
            self.query_one(PagedTable).go(event.row)

    def on_row_search_progress(self, event: RowSearch.Progress) -> None:
        if event.words:
            self.border_subtitle = event.words
        else:
            self.show_titles()

    def on_row_search_left(self) -> None:
        self.focus_view()

    def on_row_search_failed(self, event: RowSearch.Failed) -> None:
        self.fail(event.error)
