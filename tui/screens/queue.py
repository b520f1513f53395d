"""Queue: who waits, for what, and what runs meanwhile; over the Runs screen."""

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from engine.history.row import ENDS
from engine.text import clip
from tui import keymap, queueacts, words
from tui.feed import Snapshot
from tui.queueacts import Look, Waiting
from tui.screens.choose import ChooseScreen
from tui.screens.groupacts import GroupActions
from tui.theme import STATES
from tui.widgets.cursortable import Column
from tui.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["QueueScreen"]

LOOK_SECONDS = 1.0
PATIENCE = 9.0
"""After a look that took long nobody looks for so many times as long, unless something changed."""
SHOWN_LIVE = 4
COLUMNS: tuple[tuple[int, Column], ...] = (
    (0, Column("", 4, True)),
    (100, Column("added", 10, True)),
    (100, Column("GPUs", 4, True)),
    (0, Column("run", 26)),
    (0, Column("waits for")),
)


class QueueScreen(GroupActions):
    """Dismisses with the id of the run to be opened, or with None."""

    SCREEN = "queue"
    BINDINGS = keymap.bindings("queue")
    AUTO_FOCUS = "#waiting"
    DEFAULT_CSS = """
    QueueScreen #now { height: auto; max-height: 8; padding: 0 1; }
    QueueScreen #paused { height: auto; max-height: 3; padding: 0 1; display: none; }
    QueueScreen #waiting { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Look | None = None
        self._chosen: str | None = None
        self._signature: object = None
        self._not_before = 0.0
        self._looking = self._again = False

    def compose_body(self) -> ComposeResult:
        with Vertical():
            yield Static("", id="now", markup=False)
            yield Static("", id="paused", markup=False)
            table = Rows(id="waiting", classes="pane", empty="reading the queue …")
            table.border_title = "Queue"
            yield table

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self.look)
        self.look()

    # --- looking

    def look(self, *, now: bool = False) -> None:
        """Read the queue in a thread; ``now``: whether or not it seems to have changed."""
        if self._looking:
            self._again = self._again or now
        elif self.is_current:
            self._looking = True
            self.run_worker(partial(self._look, now), group="look", exit_on_error=False)

    async def _look(self, now: bool) -> None:
        home = self.workbench.home
        try:
            signature = await asyncio.to_thread(queueacts.signature, home)
            if not now and signature == self._signature and time.monotonic() < self._not_before:
                return
            began = time.monotonic()
            found = await asyncio.to_thread(queueacts.look, home)
            self._signature = signature
            self._not_before = time.monotonic() + PATIENCE * (time.monotonic() - began)
        finally:
            self._looking = False
        if found != self.seen:
            self.seen = found
            self.receive(self.workbench.snapshot)
        if self._again:
            self._again = False
            self.look(now=True)

    def done(self) -> None:
        self.look(now=True)

    # --- what is shown

    def show_snapshot(self, snapshot: Snapshot) -> None:
        width = self.size.width
        live = [row for row in snapshot.live if row.state != "queued"]
        now = self.query_one("#now", Static)
        now.update(_live_words(live, width - 2, self.workbench.clock()))
        paused = self.query_one("#paused", Static)
        seen = self.seen or Look()
        told = seen.error or (f"Nothing is started: {seen.paused}" if seen.paused else "")
        paused.update(Text(clip(f"! {told}", 3 * (width - 4)), "bold #ffaf5f"))
        paused.display = bool(told)
        self._show_table(seen)

    def _show_table(self, seen: Look) -> None:
        table = self.query_one("#waiting", Rows)
        waiting = seen.waiting
        at = next((i for i, one in enumerate(waiting) if one.run == self._chosen), None)
        if at is None:
            at = min(table.cursor, max(0, len(waiting) - 1))
            self._chosen = waiting[at].run if waiting else None
        shown = [column for least, column in COLUMNS if self.size.width >= least]
        wide, clock = self.size.width >= 100, self.workbench.clock()
        table.show(
            shown,
            len(waiting),
            lambda index: _cells(waiting[index], wide, clock, seen.paused),
            cursor=at,
            empty="No run waits. On Runs E puts one here; train --queue and --sweep do."
            if self.seen is not None
            else "reading the queue …",
        )
        count = sum(one.position > 0 for one in waiting)
        title = f"Queue  {count} wait" if count != 1 else "Queue  1 waits"
        if str(table.border_title) != title:
            table.border_title = title

    # --- what is chosen

    @property
    def entry(self) -> Waiting | None:
        """The line under the cursor."""
        waiting = self.seen.waiting if self.seen else ()
        return next((one for one in waiting if one.run == self._chosen), None)

    def chosen(self) -> "RunRow | None":
        entry = self.entry
        return self.workbench.snapshot.by_id.get(entry.run) if entry else None

    def on_cursor_table_moved(self, message: Rows.Moved) -> None:
        waiting = self.seen.waiting if self.seen else ()
        if message.row < len(waiting):
            self._chosen = waiting[message.row].run
        self.refresh_bars()

    def on_cursor_table_chosen(self, message: Rows.Chosen) -> None:
        self.action_open()

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("earlier", "later", "first_of_all"):
            return self.entry is not None and self.entry.position > 0
        if action == "take_off":
            return self.entry is not None
        if action == "open":
            return self.chosen() is not None
        if action == "hold":
            return self.seen is not None
        if action == "add":
            return bool(self._resumable())
        return super().check_action(action, parameters)

    def _move(self, where: str) -> None:
        if entry := self.entry:
            self.do(partial(queueacts.move, self.workbench.home, entry.run, where))

    def action_earlier(self) -> None:
        self._move("up")

    def action_later(self) -> None:
        self._move("down")

    def action_first_of_all(self) -> None:
        self._move("first")

    def action_hold(self) -> None:
        home = self.workbench.home
        if self.seen and self.seen.paused:
            self.do(partial(queueacts.unpause, home))
        else:
            self.do(partial(queueacts.pause, home))

    def action_take_off(self) -> None:
        if entry := self.entry:
            self.confirm(
                f"Take {entry.name} off the queue?",
                ["It is not started, and stays in the history as stopped."],
                partial(queueacts.take_off, self.workbench.home, [entry.run]),
            )

    def action_add(self) -> None:
        options = [(row.id, f"{row.name}  {row.state}") for row in self._resumable()]

        def chosen(id: str | None) -> None:
            if id is not None:
                self.do(partial(queueacts.enqueue, self.workbench.home, id))

        self.app.push_screen(ChooseScreen("Go on with, through the queue", options), chosen)

    def _resumable(self) -> "list[RunRow]":
        rows = self.workbench.snapshot.rows
        return [row for row in rows if row.state in ENDS and row.state != "finished"]

    def action_open(self) -> None:
        if row := self.chosen():
            self.dismiss(row.id)  # type: ignore[arg-type]

    def action_back(self) -> None:
        if self.maximized is not None:
            self.minimize()
        else:
            self.dismiss(None)

    def action_next_view(self) -> None:
        self.dismiss(None)

    def action_previous_view(self) -> None:
        self.dismiss(None)


def _live_words(live: "list[RunRow]", width: int, now: float) -> Text:
    """What runs now, a line a run."""
    if not live:
        return Text("Nothing runs now.", "#9e9e9e")
    made = Text(end="")
    for number, row in enumerate(live[:SHOWN_LIVE]):
        symbol, colour = STATES.get(row.state, ("?", ""))
        line = Text("\n" if number else "", no_wrap=True, end="")
        line.append(f"{symbol} {row.state:<9} ", colour)
        line.append(clip(row.name, max(8, width // 3)), "bold")
        rest = []
        if row.max_steps:
            step = row.step or 0
            rest.append(f"step {step}/{row.max_steps}, {words.percent(step, row.max_steps)}")
        if row.device:
            rest.append(f"on {row.gpu or row.device}")
        if row.started:
            rest.append(f"for {words.duration(max(0.0, now - row.started))}")
        line.append(clip("  " + "  ".join(rest), max(0, width - line.cell_len)), "#9e9e9e")
        made.append_text(line)
    if len(live) > SHOWN_LIVE:
        made.append(f"\n  and {len(live) - SHOWN_LIVE} more", "#9e9e9e")
    return made


def _cells(entry: Waiting, wide: bool, now: float, paused: str) -> list[Cell]:
    if not entry.position:
        return [("!", "#ff8787"), *(["", ""] if wide else []), entry.name, entry.waits_for]
    waits = entry.waits_for or ("the queue is paused" if paused else "starts next")
    added = words.when(entry.added, now) if entry.added else ""
    again = f"  attempt {entry.attempt}" if entry.attempt > 1 else ""
    return [
        str(entry.position),
        *([added, str(entry.gpus or "CPU")] if wide else []),
        entry.name,
        waits + again,
    ]
