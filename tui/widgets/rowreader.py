"""One row in place of its table: whole, before and after the rules, as the model sees it."""

import asyncio

from rich.text import Text
from textual.message import Message

from engine.text import clip
from tui.rowlist import RowList
from tui.rowviews import TABLES, Rows
from tui.rowwords import row_runs
from tui.tabs import foot_words, tab_words
from tui.widgets.compare import Compared, compare
from tui.widgets.lengthspane import LengthsPane
from tui.widgets.lines import QUIET, Run
from tui.widgets.rowpanes import RowPanes

__all__ = ["Here", "RowReader"]

Here = tuple[RowList, int]
"""Rows and one place among them."""


class RowReader(RowPanes):
    """Knows which row is looked at, and shows it whole. A subclass shows the tables."""

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

    @property
    def one_row(self) -> bool:
        """Whether something else than a table is shown."""
        return bool(self.whole) or self.view not in TABLES

    @property
    def _row_view(self) -> str:
        """The view whose cursor names the row that is shown whole."""
        return self.view if self.view in TABLES else self._split

    @property
    def _here(self) -> Here | None:
        """The rows and the one among them that the cursor names."""
        view = self._row_view
        rows = self._lists.get(view)
        return (rows, self._cursor.get(view, 0)) if rows is not None and rows.count else None

    def show_titles(self) -> None:
        rows, room = self.rows, max(10, self.outer_size.width - 6)
        if rows is None:
            self.border_title = self.border_subtitle = ""
            return
        self.border_title = Text(tab_words(self.view, room))
        view = self._row_view
        told = foot_words(
            self.view,
            self.whole,
            self._lists[view],
            self._cursor.get(view, 0),
            self._line,
            self._note,
        )
        self.border_subtitle = Text(clip(told, room))

    def back(self) -> bool:
        """One step back from what is done here; False: nothing is."""
        raise NotImplementedError

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
        if self.whole == "lengths":
            self.back()
            return
        if self.rows is None:
            return
        self.whole = "lengths"
        self.switch("lengths")
        self.query_one(LengthsPane).look_at(self.rows, self._split)
        self._shown_whole()

    def step(self, by: int) -> None:
        """The next row or the one before; of lengths: the next split."""
        if self.whole == "lengths":
            self.query_one(LengthsPane).next_split(by)
            return
        if (here := self._here) is not None and self.whole != "words":
            rows, place = here
            self._cursor[self._row_view] = max(0, min(place + by, rows.count - 1))
            self._read(self.whole)

    def _read(self, whole: str) -> None:
        """Show the row under the cursor whole: from now on it is the one that is followed."""
        self.whole = whole
        self._line, self._note = None, ""
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
                compared = await asyncio.to_thread(self._compared, rows, here)
            elif view in TABLES:
                row = await asyncio.to_thread(here[0].one, here[1])
            else:
                place = here[0].index(here[1])
                seen = await asyncio.to_thread(rows.preview, here[0].view, place)
        except Exception as error:  # of the source, or a tokenizer's own
            self.fail(error)
            self._shown_whole()
            return
        if (view, whole) != (self.view, self.whole):
            return
        if whole == "compare":
            self.put_compared(compared)
        elif view in TABLES:
            self._line = self._line or row["line"]
            self.say(row_runs(view, row))
        else:
            self._line = self._line or seen.get("line")
            self.put_preview(view, seen)
        self._shown_whole()

    def _compared(self, rows: Rows, here: Here) -> Compared:
        line = here[0].one(here[1])["line"]
        self._line = self._line or line
        return compare(rows.retrace(line))

    def _shown_whole(self) -> None:
        if self.focus_inside or self.screen.focused is None:
            self.focus_view()
        self.show_titles()
        self.post_message(self.Changed())

    def show_instead(self, what: Compared | list[Run]) -> None:
        """Words, or texts before and after, in place of the rows; :meth:`back` returns."""
        self.whole = "words"
        if isinstance(what, Compared):
            self.put_compared(what)
        else:
            self.say(what)
        self._shown_whole()

    def on_lengths_pane_progress(self, event: LengthsPane.Progress) -> None:
        if event.words and self.whole == "lengths":
            self.border_subtitle = event.words
        else:
            self.show_titles()
            self.post_message(self.Changed())
