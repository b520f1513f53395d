"""Who came from whom: runs that go on from others, or repeat their recipe with a change."""

import asyncio
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from engine.text import clip
from tui import keymap, words
from tui.feed import Snapshot
from tui.screens.base import WorkbenchScreen
from tui.sweepwords import short_keys, value_words
from tui.theme import STATES
from tui.widgets.cursortable import Column
from tui.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from engine.history.lineage import Descent

__all__ = ["DescentScreen"]

COLUMNS = (Column("run", 28), Column("state", 10), Column("best val", 8, True), Column("changed"))


class DescentScreen(WorkbenchScreen):
    """Dismisses with the id of the run to be opened, or with None."""

    SCREEN = "descent"
    BINDINGS = keymap.bindings("descent")
    AUTO_FOCUS = "#tree"

    def __init__(self, run: str | None) -> None:
        super().__init__()
        self._run = run
        """On which the cursor is."""
        self._only: str | None = run
        self._lines: list[Descent] = []
        self._made_of: tuple[object, ...] = ()

    def compose_body(self) -> ComposeResult:
        table = Rows(id="tree", classes="pane", empty="reading …")
        yield table

    def watched_runs(self) -> frozenset[str]:
        return frozenset()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        made_of = (snapshot.rows, snapshot.settings, self._only)
        if len(self._made_of) != 3 or any(
            a is not b for a, b in zip(self._made_of, made_of, strict=True)
        ):
            self._made_of = made_of
            self.run_worker(self._draw(snapshot), group="tree", exclusive=True)

    async def _draw(self, snapshot: Snapshot) -> None:
        from engine.history.lineage import lineage

        def make() -> "list[Descent]":
            return lineage(snapshot.rows, snapshot.facts.settings.of, self._only)

        self._lines = await asyncio.to_thread(make)
        table = self.query_one("#tree", Rows)
        at = next((i for i, line in enumerate(self._lines) if line.row.id == self._run), 0)
        table.show(
            COLUMNS,
            len(self._lines),
            lambda index: _cells(self._lines[index]),
            cursor=at,
            empty="no runs yet",
        )
        table.border_title = "Who came from whom" if self._only is None else "One family"
        table.border_subtitle = "> goes on from it, = repeats its recipe"

    def on_cursor_table_moved(self, message: Rows.Moved) -> None:
        if message.row < len(self._lines):
            self._run = self._lines[message.row].row.id

    def on_cursor_table_chosen(self, message: Rows.Chosen) -> None:
        self.action_open()

    def action_open(self) -> None:
        self.dismiss(self._run if self._lines else None)

    def action_all(self) -> None:
        """The whole history, or only the run's own family."""
        self._only = None if self._only is not None else self._run
        self.receive(self.workbench.snapshot)

    def action_back(self) -> None:
        self.dismiss(None)


def _cells(line: "Descent") -> list[Cell]:
    symbol, colour = STATES.get(line.row.state, ("?", ""))
    return [
        clip(line.branch + line.row.name, 28),
        (f"{symbol} {line.row.state}", colour),
        words.loss(line.row.best_eval_loss),
        _what(line),
    ]


def _what(line: "Descent") -> str:
    """What its recipe has otherwise than that of the run above it."""
    if not line.depth:
        return line.row.model or ""
    short = short_keys(tuple(key for key, _, _ in line.changes))
    changed = [f"{short[key]} {_said(old)} → {_said(new)}" for key, old, new in line.changes]
    return ", ".join(changed) or "nothing in the recipe"


def _said(value: object) -> str:
    return words.NOTHING if value is None else value_words(value)
