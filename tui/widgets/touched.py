"""The rows that one rule touched in a trial: a list of them, and one before and after."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from engine.text import steady
from tui.rowwords import why
from tui.rulesheet import READING
from tui.ruletrial import Touch
from tui.widgets.compare import CompareView, compare
from tui.widgets.cursortable import Column
from tui.widgets.lines import BAD, PLAIN, LinesView, Run
from tui.widgets.table import PagedTable, Row, one_line

if TYPE_CHECKING:
    from engine.data.rows import Row as DataRow
    from engine.data.trial import TriedRow

__all__ = ["TouchedRows"]

LINE = Column("line", 7, right=True, quiet=True)
CHANGED = (LINE, Column("before"), Column("after"))
DROPPED = (LINE, Column("why", 16), Column("row"))


class TouchedRows(Vertical):
    """Shows the rows of a :class:`Touch`."""

    DEFAULT_CSS = """
    TouchedRows #switch { height: 1fr; }
    TouchedRows #below { display: none; height: 2fr; border-top: solid $border; }
    TouchedRows #below:focus { border-top: heavy $primary; }
    """

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: Sequence[TriedRow] = ()
        self._place = 0
        self._comparing = False

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="words", id="switch"):
            yield LinesView(id="words")
            with Vertical(id="list"):
                yield PagedTable(id="touched-rows")
                yield CompareView(id="below")
            yield CompareView(id="compare")

    def say(self, runs: list[Run]) -> None:
        """Words in place of rows."""
        self.rows, self._comparing = (), False
        self.query_one("#words", LinesView).show(runs)
        self.query_one("#switch", ContentSwitcher).current = "words"
        self.border_title = self.border_subtitle = ""

    def fail(self, error: Exception) -> None:
        words = steady(str(error)[:2000]) or type(error).__name__
        self.say([("✗\u00a0", BAD), (words, PLAIN)])

    @property
    def comparing(self) -> bool:
        return self._comparing

    def show_touch(self, rule: str, touch: Touch, *, on: bool) -> None:
        """The rows that a rule touched; the place among them is kept while they are the same."""
        same = [row.line for row in touch.rows] == [row.line for row in self.rows]
        self.rows = touch.rows
        if not same or self._place >= len(self.rows):
            self._place = 0
        dropping = all(rule not in row.changed and row.reason for row in self.rows)
        columns = DROPPED if dropping and self.rows else CHANGED
        empty = f"{rule} touches none of these rows." if on else f"{rule} is off; space tries it."
        if rule == READING:
            empty = "Every one of these rows could be read."
        self.query_one(PagedTable).show(
            columns,
            len(self.rows),
            partial(_cells, self.rows, dropping),
            cursor=self._place,
            empty=empty,
        )
        count = len(self.rows)
        self.border_title = f"{count:,} row{'s' * (count != 1)} touched by {rule}"
        self.border_subtitle = "enter: before and after" if count else ""
        if self._comparing and count:
            self._compare("compare")
        else:
            self.back()
        self._follow()

    def on_cursor_table_moved(self, event: PagedTable.Moved) -> None:
        event.stop()
        if event.row == event.table.cursor and event.row != self._place:
            self._place = event.row
            self._follow()

    def on_cursor_table_chosen(self, event: PagedTable.Chosen) -> None:
        event.stop()
        self.compare_row()

    def _follow(self) -> None:
        if self.rows:
            self._compare("below")
        else:
            self.query_one("#below", CompareView).show([])

    def compare_row(self) -> None:
        """The row before and after, in place of the list, or back from it."""
        if self._comparing:
            self.back()
        elif self.rows:
            self._comparing = True
            self._compare("compare")

    def step(self, by: int) -> None:
        table = self.query_one(PagedTable)
        table.go(self._place + by)
        self._place = table.cursor
        if self.rows:
            self._compare("compare" if self._comparing else "below")

    def _compare(self, id: str) -> None:
        work = partial(self._show_compared, id, self.rows[self._place])
        self.run_worker(work, group=id, exclusive=True)

    async def _show_compared(self, id: str, row: "TriedRow") -> None:
        seen = await asyncio.to_thread(compare, row)
        self.query_one(f"#{id}", CompareView).show_compared(seen)
        if id == "compare" and self._comparing:
            switch = self.query_one("#switch", ContentSwitcher)
            inside = self.screen.focused is not None and self in self.screen.focused.ancestors
            switch.current = "compare"
            self.border_subtitle = f"row {self._place + 1:,} of {len(self.rows):,} · esc: the list"
            if inside:
                self.screen.set_focus(self.query_one("#compare"))

    def back(self) -> bool:
        """From one row to the list; False: the list is what is shown."""
        was = self._comparing
        self._comparing = False
        inside = self.screen.focused is not None and self in self.screen.focused.ancestors
        self.query_one("#switch", ContentSwitcher).current = "list"
        self.border_subtitle = "enter: before and after" if self.rows else ""
        if inside:
            self.screen.set_focus(self.query_one(PagedTable))
        return was


def _cells(rows: "Sequence[TriedRow]", dropping: bool, start: int, count: int) -> list[Row]:
    made: list[Row] = []
    for row in rows[start : start + count]:
        line = str(row.line)
        if dropping:
            words = why(row.reason or "")
            made.append(
                (line, one_line(words), one_line(row.raw[:2000].decode("utf-8", "replace")))
            )
            continue
        before, after = _excerpts(row.before, row.after)
        made.append((line, one_line(before), one_line(after)))
    return made


def _excerpts(before: "DataRow | None", after: "DataRow | None", lead: int = 8) -> tuple[str, str]:
    """Both texts from a little before the first place where they differ."""
    if before is None or after is None:
        return "", ""
    for old, new in zip(_texts(before), _texts(after), strict=False):
        if old != new:
            at = next(
                (i for i, (one, two) in enumerate(zip(old, new, strict=False)) if one != two),
                min(len(old), len(new)),
            )
            start = max(0, at - lead)
            dots = "…" * bool(start)
            return dots + old[start : start + 300], dots + new[start : start + 300]
    return before.completion[:300], "unchanged"


def _texts(row: "DataRow") -> tuple[str, ...]:
    if row.messages:
        return tuple(message.content for message in row.messages)
    return row.prompt, row.completion, row.instruction, row.system
