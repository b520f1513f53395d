"""The rows of one dataset: a table of every view, one row whole, and what the model sees of it."""

import asyncio
from collections.abc import Sequence
from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import ContentSwitcher

from engine.errors import UserError
from engine.text import clip, steady
from tui.rowlist import FilteredRows, RowList
from tui.rowviews import SPLITS, TABLES, VIEWS, Rows, columns_of
from tui.rowwords import example_runs, row_runs
from tui.tabs import tab_words
from tui.widgets.compare import Compared, CompareView, compare
from tui.widgets.lengthspane import LengthsPane
from tui.widgets.lines import BAD, PLAIN, QUIET, LinesView, Run
from tui.widgets.rowdetail import RowDetail
from tui.widgets.rowsearch import RowSearch
from tui.widgets.table import PagedTable
from tui.widgets.tokens import TokensView

__all__ = ["RowBrowser"]

SOON = 0.15
"""Seconds that the next view waits for its row before it is shown without."""


class RowBrowser(Vertical):
    """Shows ``rows`` (None: words in their place).

    All views follow one line of the source: that of the row the cursor was last put on.
    """

    DEFAULT_CSS = """
    RowBrowser #views { height: 1fr; }
    RowBrowser #detail { display: none; height: 14; border-top: solid $border; }
    RowBrowser #detail:focus { border-top: heavy $primary; }
    """

    class Changed(Message):
        """Other things than before are possible now."""

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: Rows | None = None
        self.view = "train"
        self.whole = ""
        """What stands in place of the table: row, compare, lengths, words, or nothing."""
        self._split = "train"
        """Whose row is shown as formatted text and tokens."""
        self._line: int | None = None
        """The line of the source that all views follow; None: that of the cursor's row."""
        self._note = ""
        """What became of that line, where this view does not have it."""
        self._lists: dict[str, RowList] = {}
        self._cursor: dict[str, int] = {}
        self._table_view = "train"
        """The view that the table shows: it follows ``view`` when its row is found."""
        self.search = RowSearch(self._place, id="ask")

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="words", id="views"):
            yield LinesView(id="words")
            with Vertical(id="browse"):
                yield PagedTable(id="table")
                yield RowDetail(id="detail")
            yield TokensView(id="tokens")
            yield CompareView(id="compare")
            yield LengthsPane(id="lengths")
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

    def say(self, runs: list[Run], *, whole: str = "") -> None:
        """Words in place of rows."""
        if whole:
            self.whole = whole
        self._switch("words")
        view = self.query_one("#words", LinesView)
        view.show(runs)
        view.go(0)

    def show_compared(self, seen: Compared, *, whole: str = "compare") -> None:
        """Texts before and after, in place of the rows."""
        self.whole = whole
        self.query_one(CompareView).show_compared(seen)
        self._switch("compare")
        self._shown_whole()

    def fail(self, error: Exception) -> None:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self.say([("✗\u00a0", BAD), (steady(told[:2000]), PLAIN), ("\n\nr tries again", QUIET)])

    @property
    def one_row(self) -> bool:
        """Whether something else than a table is shown."""
        return bool(self.whole) or self.view not in TABLES

    @property
    def _row_view(self) -> str:
        """The view whose cursor names the row that is shown whole."""
        return self.view if self.view in TABLES else self._split

    @property
    def _here(self) -> tuple[RowList, int] | None:
        """The rows and the one among them that the cursor names."""
        view = self._row_view
        rows = self._lists.get(view)
        return (rows, self._cursor.get(view, 0)) if rows is not None and rows.count else None

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

    def _show_view(self, came_from: tuple[RowList, int] | None = None) -> None:
        if self.view in SPLITS:
            self._split = self.view
        self.show_titles()
        work = partial(self._show_same_row, came_from)
        self.run_worker(work, group="row", exclusive=True)
        self.post_message(self.Changed())

    async def _show_same_row(self, came_from: tuple[RowList, int] | None) -> None:
        """Show the view with its cursor on the line that is followed."""
        view = self.view
        finding = asyncio.ensure_future(asyncio.to_thread(self._find_row, came_from))
        try:
            done, _ = await asyncio.wait({finding}, timeout=SOON)
            if not done and view in TABLES and not self.whole:
                self._show_table()
                self.border_subtitle = "looking for the same line …"
            row_view, place, line, note = await finding
        except (UserError, OSError):
            # Without the source a line cannot be found; the table says so itself.
            row_view, place, line, note = view, self._cursor.get(view, 0), None, ""
        if view != self.view:
            return
        if view not in TABLES:
            self._split = row_view if row_view in SPLITS else self._split
            row_view = self._split
        self._cursor[row_view], self._line, self._note = place, line, note
        if self.one_row:
            await self._read_whole()
        else:
            self._show_table()
        self.show_titles()

    def _find_row(self, came_from: tuple[RowList, int] | None) -> tuple[str, int, int | None, str]:
        """(view, place in it, line that is followed, note) for the view to be shown; in a thread.

        A view of one row shows that of the split which has the line.
        """
        view, line, rows = self.view, self._line, self.rows
        assert rows is not None
        own = view if view in TABLES else self._split
        if line is None and came_from is not None:
            line = int(came_from[0].one(came_from[1])["line"])
        if line is None:
            return own, self._cursor.get(own, 0), None, ""
        views = [own] if view in TABLES else sorted(SPLITS, key=lambda split: split != own)
        nearest: tuple[str, int, int] | None = None
        for each in views:
            if not self._lists[each].count:
                continue
            place, found = self._lists[each].closest(line)
            if found == line:
                return each, place, line, ""
            nearest = nearest or (each, place, found)
        if nearest is None:
            return own, 0, line, ""
        each, place, found = nearest
        filtered = isinstance(self._lists[each], FilteredRows) and view in TABLES
        why = "" if filtered else rows.why_not(own, line)
        told = f"line {line:,} {why or 'is not among these'} · nearest: {found:,}"
        return each, place, line, told

    def _show_table(self) -> None:
        view, rows = self.view, self.rows
        assert rows is not None
        shown = self._lists[view]
        inside = self._focus_inside
        self._table_view = view
        self._switch("browse")
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

    @property
    def _focus_inside(self) -> bool:
        focused = self.screen.focused
        return focused is not None and self in focused.ancestors

    def focus_view(self) -> None:
        current = self.query_one(ContentSwitcher).current
        self.screen.set_focus(self.query_one("#table" if current == "browse" else f"#{current}"))

    def _switch(self, id: str) -> None:
        self.query_one(ContentSwitcher).current = id

    def show_titles(self) -> None:
        rows, room = self.rows, max(10, self.outer_size.width - 6)
        if rows is None:
            self.border_title = self.border_subtitle = ""
            return
        self.border_title = Text(tab_words(self.view, room))
        self.border_subtitle = Text(clip(self._told(rows), room))

    def _told(self, rows: Rows) -> str:
        """The line below the rows."""
        view = self._row_view
        shown = self._lists[view]
        if self.whole in ("lengths", "words"):
            return "esc: back to the rows" + " · n: next split" * (self.whole == "lengths")
        if self.one_row:  # a table says itself where its cursor is
            told = f"row {self._cursor.get(view, 0) + 1:,} of {shown.count:,}"
            if self._note:
                return f"{view} {told} · {self._note}"
            line = f" · line {self._line:,}" if self._line is not None else ""
            if self.whole:
                return f"esc: back to the rows · {told}{line}"
            return f"{view} {told}{line} · as {rows.seen_by} sees it"
        if self._note:
            return self._note
        if isinstance(shown, FilteredRows):
            whole = rows.count(view)
            looked = "" if shown.done else f" in the first {shown.scanned:,}"
            return f"only {shown.words}: {shown.count:,} of {whole:,}{looked} · esc: all rows"
        return "[ and ]: other views of this row"

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

    # --- one row

    def open_row(self) -> None:
        """The whole row in place of the table; :meth:`back` returns. Of lengths: all rows'."""
        if self.whole == "lengths":
            self.query_one(LengthsPane).count_all()
        elif not self.one_row and self._here is not None:
            self._read("row")

    def compare_row(self) -> None:
        """The row before and after the rules, or back from it."""
        if self.whole == "compare":
            self.back()
        elif self._here is not None:
            self._read("compare")

    def show_lengths(self) -> None:
        """How long the rows of a split are in tokens, or back from it."""
        if self.rows is None or self.whole == "lengths":
            self.back()
            return
        self.whole = "lengths"
        self._switch("lengths")
        self.query_one(LengthsPane).look_at(self.rows, self._split)
        self._shown_whole()

    def step(self, by: int) -> None:
        """The next row or the one before; in a table: the next match."""
        if self.whole == "lengths":
            self.query_one(LengthsPane).next_split(by)
            return
        if not self.one_row:
            self.search.again(by)
            return
        if (here := self._here) is not None and self.whole != "words":
            rows, place = here
            self._cursor[self._row_view] = max(0, min(place + by, rows.count - 1))
            self._line, self._note = None, ""
            self._read(self.whole)

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

    def _read(self, whole: str) -> None:
        self.whole = whole
        self.run_worker(self._read_whole, group="row", exclusive=True)

    async def _read_whole(self) -> None:
        """Show one row in place of the table, as ``view`` and ``whole`` say."""
        rows, here, view, whole = self.rows, self._here, self.view, self.whole
        if rows is None:
            return
        if here is None:
            self.say([(f"No rows in {self._row_view}.", QUIET)])
            return
        try:
            if whole == "compare":
                seen = await asyncio.to_thread(self._compared, rows, here)
            elif view in TABLES:
                row = await asyncio.to_thread(here[0].one, here[1])
            else:
                preview = await asyncio.to_thread(rows.preview, here[0].view, here[1])
        except (UserError, OSError) as error:
            self._failed_whole(error)
            return
        except Exception as error:  # a tokenizer's own
            self._failed_whole(error)
            return
        if (view, whole) != (self.view, self.whole):
            return
        if whole == "compare":
            self.query_one(CompareView).show_compared(seen)
            self._switch("compare")
        elif view in TABLES:
            self._line = self._line or row["line"]
            self.say(row_runs(view, row))
        else:
            self._line = self._line or preview.get("line")
            self._show_preview(view, preview)
        self._shown_whole()

    def _failed_whole(self, error: Exception) -> None:
        self.fail(error)
        self._shown_whole()

    def _compared(self, rows: Rows, here: tuple[RowList, int]) -> Compared:
        return compare(rows.retrace(here[0].one(here[1])["line"]))

    def _show_preview(self, view: str, seen: dict[str, object]) -> None:
        if view == "tokens":
            tokens = self.query_one(TokensView)
            tokens.show_tokens(seen["tokens"], seen["truncated_at"], seen.get("length"))  # type: ignore[arg-type]
            self._switch("tokens")
        else:
            self.say(example_runs(seen))

    def _shown_whole(self) -> None:
        if self._focus_inside or self.screen.focused is None:
            self.focus_view()
        self.show_titles()
        self.post_message(self.Changed())

    # --- finding, jumping, filtering

    def ask_filter(self) -> None:
        shown = self._lists.get(self.view)
        hint = "only rows that contain this text; empty: all rows"
        if self.view == "dropped":
            hint = "only rows with this text or reason; empty: all rows"
        self.search.ask_filter(hint, getattr(shown, "wanted", ""))

    def reasons(self) -> Sequence[str]:
        """Why rows of this dataset were dropped."""
        if self.rows is None:
            return ()
        return [name for name, count in self.rows.dataset.report.dropped.items() if count]

    def _filter(self, wanted: str) -> None:
        rows, view = self.rows, self.view
        if rows is None:
            return
        came_from = self._here
        if not wanted:
            self._lists[view] = RowList(rows, view)
            self._show_view(came_from)
            return
        by_reason = view == "dropped" and wanted in self.reasons()
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

    def on_lengths_pane_progress(self, event: LengthsPane.Progress) -> None:
        if event.words and self.whole == "lengths":
            self.border_subtitle = event.words
        else:
            self.show_titles()
            self.post_message(self.Changed())

    def on_row_search_left(self) -> None:
        self.focus_view()

    def on_row_search_failed(self, event: RowSearch.Failed) -> None:
        self.fail(event.error)
