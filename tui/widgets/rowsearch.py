"""The field below the rows: a text to find, a line to jump to, a text that rows must contain."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.message import Message
from textual.widgets import Input
from textual.worker import Worker, get_current_worker

from engine.errors import UserError
from engine.text import clip
from tui.rowlist import FilteredRows, RowList
from tui.widgets.field import PlainInput

if TYPE_CHECKING:
    from tui.app import WorkbenchApp

__all__ = ["FIND_ROWS", "RowSearch", "search_order"]

FIND_ROWS = 2_000
"""Rows searched between two looks at whether the search was given up."""

Place = tuple[RowList | None, int]
"""The rows that are a table now, and which one the cursor is on."""


class RowSearch(PlainInput):
    """``place`` says where a search begins; what comes of it is told by messages."""

    DEFAULT_CSS = """
    RowSearch { display: none; }
    """

    class Left(Message):
        """The field is closed, answered or not."""

    class Reached(Message):
        """This row of those rows is the one."""

        def __init__(self, rows: RowList, row: int) -> None:
            super().__init__()
            self.rows, self.row = rows, row

    class Wanted(Message):
        """Only rows with this text shall be shown; "": all."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Grown(Message):
        """These filtered rows have become more, or are complete."""

        def __init__(self, rows: FilteredRows) -> None:
            super().__init__()
            self.rows = rows

    class Progress(Message):
        """How far a search is; "": it is over."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    class Failed(Message):
        """The rows could not be read."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    def __init__(self, place: Callable[[], Place], *, id: str) -> None:
        super().__init__(id=id)
        self.text = ""
        """What was looked for last."""
        self._place = place
        self._asking = ""
        self._search: Worker[None] | None = None

    def ask_text(self) -> None:
        self._ask("text", "find in any column; n and N: next and last match", self.text)

    def ask_line(self) -> None:
        self._ask("line", "line of the source", "")

    def ask_filter(self, hint: str, value: str) -> None:
        self._ask("filter", hint, value)

    def _ask(self, what: str, placeholder: str, value: str) -> None:
        self._asking = what
        self.placeholder, self.value = placeholder, value
        self.display = True
        self.screen.set_focus(self)

    def stop(self) -> bool:
        """Give up the search, or close the field; False: neither is there."""
        if self._search is not None:
            self._search.cancel()
        elif self._asking:
            self._leave()
        else:
            return False
        return True

    def _leave(self) -> None:
        self._asking = ""
        self.display = False
        self.post_message(self.Left())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        what, value = self._asking, event.value.strip()
        self._leave()
        if what == "text":
            self.text = value
            self.call_after_refresh(self.again, 1)  # the table is a line higher then
        elif what == "filter":
            self.post_message(self.Wanted(value))
        elif what == "line" and value:
            number = value.replace(",", "").replace("_", "")
            if number.isdecimal() and len(number) < 18:
                jump = partial(self._jump, int(number))
                self.call_after_refresh(self.run_worker, jump, group="search", exclusive=True)
            else:
                self._notice(f"{clip(value, 30)}: not a line number", "warning")

    async def _jump(self, line: int) -> None:
        rows, _ = self._place()
        if rows is None or not rows.count:
            return
        try:
            row, found = await asyncio.to_thread(rows.nearest, line)
        except (UserError, OSError) as error:
            self.post_message(self.Failed(error))
        else:
            self.post_message(self.Reached(rows, row))
            if found != line:
                self._notice(f"no row of line {line:,} here; this is line {found:,}")

    def again(self, by: int) -> None:
        """Find the same text once more, forward (``by`` > 0) or backward."""
        if self.text:
            self._search = self.run_worker(partial(self._find, by), group="search", exclusive=True)

    async def _find(self, by: int) -> None:
        """In pieces, from the cursor round the end: esc gives up between two of them."""
        worker = get_current_worker()
        rows, here = self._place()
        try:
            if rows is None:
                return
            count = rows.count
            seek = partial(rows.find, self.text, last=by < 0)
            for start, stop in search_order(here, count, by):
                told = f"searching row {start + 1:,} of {count:,} · esc stops"
                self.post_message(self.Progress(told))
                row = await asyncio.to_thread(seek, start, stop)
                if row is not None:
                    self.post_message(self.Reached(rows, row))
                    return
            self._notice(f"no other row contains {clip(self.text, 30)}")
        except (UserError, OSError) as error:
            self.post_message(self.Failed(error))
        finally:
            self._over(worker)

    def scan(self, rows: FilteredRows) -> None:
        """Find what a filter lets through; esc leaves it at what was found so far."""
        self._search = self.run_worker(partial(self._scan, rows), group="search", exclusive=True)

    async def _scan(self, rows: FilteredRows) -> None:
        worker = get_current_worker()
        try:
            known, more = 0, True
            while more:
                more = await asyncio.to_thread(rows.scan)
                if rows.count != known or not more:
                    known = rows.count
                    self.post_message(self.Grown(rows))
                told = f"{rows.count:,} rows in the first {rows.scanned:,} · esc stops"
                self.post_message(self.Progress(told))
        except (UserError, OSError) as error:
            self.post_message(self.Failed(error))
        finally:
            self._over(worker)

    def _over(self, worker: Worker[None]) -> None:
        """A search that another one took the place of says nothing more."""
        if self._search is worker:
            self._search = None
            self.post_message(self.Progress(""))

    def _notice(self, words: str, severity: str = "information") -> None:
        cast("WorkbenchApp", self.app).say(words, severity)


def search_order(here: int, count: int, by: int) -> Iterator[tuple[int, int]]:
    """Pieces (start, stop) of all rows but ``here``, the nearest first, round the end."""
    if by > 0:
        for first, last in ((here + 1, count), (0, here)):
            for start in range(first, last, FIND_ROWS):
                yield start, min(last, start + FIND_ROWS)
    else:
        for first, last in ((0, here), (here + 1, count)):
            for stop in range(last, first, -FIND_ROWS):
                yield max(first, stop - FIND_ROWS), stop
