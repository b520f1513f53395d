"""The rows of one dataset: a table of every view, one row whole, and what the model sees of it."""

import asyncio
from functools import partial

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import ContentSwitcher

from engine.errors import UserError
from engine.text import clip, steady
from tui.rowviews import COLUMNS, SPLITS, VIEWS, Rows
from tui.rowwords import example_runs, row_runs
from tui.widgets.lines import BAD, PLAIN, QUIET, LinesView, Run
from tui.widgets.rowsearch import RowSearch
from tui.widgets.table import PagedTable
from tui.widgets.tokens import TokensView

__all__ = ["RowBrowser", "tab_words"]

SHORT = {"validation": "val", "example": "text"}


class RowBrowser(Vertical):
    """Shows ``rows`` (None: words in their place); keeps the cursor of every view."""

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
        self._split = "train"
        self._reading = False
        """Whether one whole row is shown instead of the table."""
        self._following = False
        self._cursor: dict[str, int] = {}
        self.search = RowSearch(self._place, id="ask")

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="words", id="views"):
            yield LinesView(id="words")
            with Vertical(id="browse"):
                yield PagedTable(id="table")
                yield LinesView(id="detail")
            yield TokensView(id="tokens")
        yield self.search

    # --- what is shown

    def show(self, rows: Rows) -> None:
        """The rows of a dataset, in the view that was last shown."""
        if self.rows is None or self.rows.name != rows.name:
            self._cursor.clear()
        self.rows = rows
        self._show_view()

    def say(self, runs: list[Run]) -> None:
        """Words in place of rows."""
        self._switch("words")
        view = self.query_one("#words", LinesView)
        view.show(runs)
        view.go(0)

    def fail(self, error: Exception) -> None:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        self.say([("✗\u00a0", BAD), (steady(told), PLAIN), ("\n\nr tries again", QUIET)])

    @property
    def one_row(self) -> bool:
        """Whether one row is shown whole, not a table."""
        return self._reading or self.view not in COLUMNS

    @property
    def _row_view(self) -> str:
        """The view whose cursor names the row that is shown whole."""
        return self.view if self.view in COLUMNS else self._split

    def turn(self, by: int) -> None:
        """The next view or the one before."""
        if self.rows is not None:
            self.view = VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)]
            self._show_view()

    def _show_view(self) -> None:
        rows, view = self.rows, self.view
        if rows is None:
            return
        inside = self._focus_inside
        self._reading = False
        if view in SPLITS:
            self._split = view
        if view in COLUMNS:
            self._switch("browse")
            self.query_one(PagedTable).show(
                COLUMNS[view],
                rows.count(view),
                partial(rows.cells, view),
                cursor=self._cursor.get(view, 0),
                empty="No row was dropped." if view == "dropped" else "No rows here.",
            )
        else:
            self._read_whole()
        self.show_titles()
        if inside:
            self.focus_view()
        self.post_message(self.Changed())

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
        told = "[ and ]: other views"
        if self.one_row:  # a table says itself where its cursor is
            view = self._row_view
            told = f"row {self._cursor.get(view, 0) + 1:,} of {rows.count(view):,}"
            if view != self.view:
                told = f"{view} {told} · as {rows.seen_by} sees it"
            else:
                told = f"esc: back to the rows · {told}"
        self.border_subtitle = Text(clip(told, room))

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_titles)

    def on_cursor_table_moved(self, event: PagedTable.Moved) -> None:
        if not self.one_row:
            self._cursor[self.view] = event.row
            self._look_at_row()

    def on_cursor_table_chosen(self, event: PagedTable.Chosen) -> None:
        self.open_row()

    def on_paged_table_failed(self, event: PagedTable.Failed) -> None:
        self.fail(event.error)

    # --- one row

    def _look_at_row(self) -> None:
        """With room for it, the row under the cursor is shown whole below the table."""
        if self.screen.has_class("-tall") and not self._following:
            self._following = True
            self.run_worker(self._follow_cursor, group="follow")

    async def _follow_cursor(self) -> None:
        """Rows that the cursor has passed before their turn came are never read."""
        seen: object = None
        try:
            while (rows := self.rows) is not None and not self.one_row:
                view = self.view
                place = self._cursor.get(view, 0)
                if seen == (rows, view, place):
                    return
                seen = (rows, view, place)
                told: list[Run] = []
                if rows.count(view):
                    told = row_runs(view, await asyncio.to_thread(rows.one, view, place))
                detail = self.query_one("#detail", LinesView)
                detail.show(told)
                detail.go(0)
        except (UserError, OSError):
            return  # the table says so itself
        finally:
            self._following = False

    def open_row(self) -> None:
        """The whole row in place of the table; :meth:`back` returns."""
        if self.rows is not None and not self.one_row:
            self._read_whole()

    def step(self, by: int) -> None:
        """The next row or the one before; in a table: the next match."""
        rows, view = self.rows, self._row_view
        if rows is None:
            return
        if not self.one_row:
            self.search.again(by)
            return
        self._cursor[view] = max(0, min(self._cursor.get(view, 0) + by, rows.count(view) - 1))
        self._read_whole()
        self.show_titles()

    def back(self) -> bool:
        """One step back from what is done here; False: nothing is."""
        if self.search.stop():
            return True
        if self._reading:
            self._show_view()
            return True
        return False

    def _read_whole(self) -> None:
        read = self._read_row if self.view in COLUMNS else self._preview
        self.run_worker(read, group="row", exclusive=True)

    async def _read_row(self) -> None:
        rows, view = self.rows, self.view
        if rows is None or not rows.count(view):
            return
        try:
            row = await asyncio.to_thread(rows.one, view, self._cursor.get(view, 0))
        except (UserError, OSError) as error:
            self.fail(error)
            return
        if view == self.view:
            self._reading = True
            self.say(row_runs(view, row))
            self.focus_view()
            self.show_titles()
            self.post_message(self.Changed())

    async def _preview(self) -> None:
        """The row as the model will see it: its text, or its tokens."""
        rows, view, split = self.rows, self.view, self._split
        if rows is None:
            return
        if not rows.count(split):
            self.say([(f"The {split} split is empty.", QUIET)])
            return
        try:
            seen = await asyncio.to_thread(rows.preview, split, self._cursor.get(split, 0))
        except Exception as error:
            self.fail(error)
            return
        if view != self.view:
            return
        if view == "tokens":
            tokens = self.query_one(TokensView)
            tokens.show_tokens(seen["tokens"], seen["truncated_at"], seen.get("length"))
            self._switch("tokens")
        else:
            self.say(example_runs(seen))
        if self._focus_inside or self.screen.focused is None:
            self.focus_view()

    # --- finding and jumping

    def _place(self) -> tuple[Rows | None, str, int]:
        return (None if self.one_row else self.rows), self.view, self._cursor.get(self.view, 0)

    def on_row_search_reached(self, event: RowSearch.Reached) -> None:
        if event.view == self.view:
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


def tab_words(view: str, cells: int) -> str:
    """The sub-views, the current one in brackets; where that is narrow, only the current one."""
    for names in ({}, SHORT):
        shown = [f"[{names.get(each, each)}]" if each == view else names.get(each, each)
                 for each in VIEWS]  # fmt: skip
        line = " ".join(shown)
        if len(line) <= cells:
            return line
    return clip(f"[{view}] {VIEWS.index(view) + 1} of {len(VIEWS)}", cells)
