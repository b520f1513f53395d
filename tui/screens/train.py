"""Train: a recipe and its start on one side, the live run on the other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static

from engine.history.row import ENDS
from engine.text import clip
from tui import acts, keymap
from tui.chartset import ChartSet
from tui.feed import RunDetail, Snapshot
from tui.machine import machine_bars
from tui.screens.base import block
from tui.screens.chartacts import ChartActions
from tui.screens.starting import Started
from tui.screens.trainviews import TrainViews
from tui.widgets.bars import tail
from tui.widgets.chart import Chart
from tui.widgets.chartgrid import ChartGrid
from tui.widgets.gauge import Gauge
from tui.widgets.keylist import KeysView
from tui.widgets.log import LogTail
from tui.widgets.recipeform import RecipeForm
from tui.widgets.runstate import RunState
from tui.widgets.samples import SamplesView

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["TrainScreen"]

READ_SECONDS = 2.0
CLOCK_SECONDS = 1.0


@dataclass
class Read(Message):
    """A reading of the machine."""

    reading: acts.Reading


class TrainScreen(ChartActions, TrainViews):
    """Follows the newest run; ``n`` and ``N`` show another one."""

    SCREEN = "train"
    BINDINGS = keymap.bindings("train")
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._shown: str | None = None
        self._picked: str | None = None
        self._beside = ChartSet(self.chart_state)
        """The two charts of the view "run"."""
        self._paused = False
        self._reading = False
        self._machine: acts.Reading | None = None

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="train"):
            yield KeysView(id="all")
            yield self.form
            with Vertical(id="live"):
                yield RunState(id="state")
                yield Chart("loss", id="loss")
                yield Chart("learning rate", id="rate")
                yield Gauge(id="memory")
                yield LogTail(
                    id="log", classes="pane", empty="no log yet", hint="z opens the whole log"
                )
            yield ChartGrid(self.chart_state, id="charts")
            yield SamplesView(id="samples")
            yield Static("", id="none", classes="empty", markup=False)

    def on_mount(self) -> None:
        self.query_one("#log", LogTail).border_title = "worker.log"
        self.set_interval(CLOCK_SECONDS, self._tick)
        self.set_interval(READ_SECONDS, self._read)
        self.workbench.when_painted(self._read)

    # --- what is shown

    def _row(self) -> "RunRow | None":
        snapshot = self.workbench.snapshot
        picked = snapshot.by_id.get(self._picked or "")
        return picked or next(iter(snapshot.live), None) or next(iter(snapshot.rows), None)

    def chosen(self) -> "RunRow | None":
        return self._row()

    def watched_runs(self) -> frozenset[str]:
        row, pinned = self._row(), self.workbench.pinned
        return frozenset({row.id, *([pinned] if pinned else [])}) if row else frozenset()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        self.settle_requests(snapshot.details)
        row = self._row()
        self._arrange()
        if row is None:
            self._detail = None
            self.query_one(SamplesView).show_detail(None)
            self._show_none(snapshot)
            return
        detail = snapshot.details.get(row.id) or RunDetail(row)
        if self._paused and row.id == self._shown:
            return
        self._shown, self._detail = row.id, detail
        self._show_detail()

    def _show_none(self, snapshot: Snapshot) -> None:
        words = (
            "Reading the history …"
            if not snapshot.loaded
            else (
                f"{tail(self.workbench.home_words, 28)} holds no run yet.\n\n"
                "s   reviews and starts the recipe\n"
                "e   edits it\n"
                "a   shows every key of it\n"
                "r   takes the next built-in recipe"
            )
        )
        if snapshot.error:
            words = f"The history cannot be read:\n{clip(snapshot.error, 300)}"
        self.query_one("#none", Static).update(block(words))

    def _show_detail(self) -> None:
        detail = self._detail
        if detail is None:
            return
        self._show_state()
        self._show_charts(detail)
        self.query_one("#log", LogTail).show(detail.log)
        if self._view == "samples":
            self.query_one(SamplesView).show_detail(detail)
        self._show_machine()

    def _show_charts(self, detail: RunDetail) -> None:
        """numpy is imported here, when there is something to draw."""
        if not detail.series and not detail.evaluations:
            return self._show_no_charts()
        from tui.metrics import LEARNING_RATE, LOSS

        runs = self.curves_of([detail])
        if self._view == "charts":
            self.query_one(ChartGrid).show(runs)
        else:
            loss, rate = self.query_one("#loss", Chart), self.query_one("#rate", Chart)
            self._beside.runs, self._beside.marked = runs, ("loss",)
            self._beside.note = self._note()
            self._beside.show(runs, [(loss, LOSS), (rate, LEARNING_RATE)])

    def _note(self) -> str:
        """Behind the title of the loss: how it is looked at."""
        state, points = self.chart_state, self._beside.points
        weight = state.smoothing(points)
        parts = [f"smoothed {weight:g}"] if weight and points else []
        if state.axis != "step":
            parts.append(f"x {state.axis}")
        if state.window:
            parts.append("part of it, 0 shows all")
        parts += ["held"] * self._paused
        return "".join(f"   {part}" for part in parts)

    def _show_no_charts(self) -> None:
        for chart in self.query(Chart):
            chart.show((), "none")

    def _show_state(self) -> None:
        if self._detail is not None:
            asked = self.asked_words(self._detail.row.id)
            self.query_one("#state", RunState).show(self._detail, self.workbench.clock(), asked)

    def requests_changed(self) -> None:
        self._show_state()

    def _tick(self) -> None:
        """Once a second: elapsed times of a live run; repaints only if a word changed."""
        lives = self._detail is not None and self._detail.row.state not in ENDS
        if self.is_current and lives and self.workbench.link.due("state"):
            self._show_state()

    # --- the machine

    def _read(self) -> None:
        if self.is_current and not self._reading and self.workbench.link.due("machine"):
            self._reading = True
            self._read_machine()

    @work(thread=True, group="read", exit_on_error=False)
    def _read_machine(self) -> None:
        try:
            self.post_message(Read(self.workbench.read_system()))
        finally:
            self._reading = False

    def on_read(self, message: Read) -> None:
        self._machine = message.reading
        self._show_machine()

    def _show_machine(self) -> None:
        if self._machine is not None:
            self.query_one("#memory", Gauge).show(*machine_bars(self._machine, self._detail))

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("edit", "next_recipe"):
            return self.form.ready
        if action == "pause":
            return self._detail is not None
        if action in ("next_run", "previous_run"):
            return len(self.workbench.snapshot.rows) > 1 or self._view == "samples"
        return super().check_action(action, parameters)

    def on_recipe_form_edited(self, message: RecipeForm.Edited) -> None:
        self.refresh_bars()

    def action_maximise(self) -> None:
        """The loss, unless something else has the focus; the log as a screen of its own."""
        if isinstance(self.focused, LogTail) and self._detail is not None:
            from tui.screens.log import LogScreen

            self.app.push_screen(LogScreen(self._detail.row.id))
        else:
            super().action_maximise()

    def action_edit(self) -> None:
        self._show_view("recipe")
        self.form.focus_name()

    def show_form(self) -> None:
        self._show_view("recipe")
        if self.form.ready:
            self.form.focus_name()

    def action_next_recipe(self) -> None:
        self._show_view("recipe")
        self.form.next_recipe()

    @property
    def charts(self) -> ChartSet | None:
        if self._detail is None or self._in_keys or not self.is_mounted:
            return None
        views = {"run": self._beside, "charts": self.query_one(ChartGrid).set}
        return views.get("run" if self._is_wide and self._view == "recipe" else self._view)

    @property
    def on_charts(self) -> bool:
        return self._view == "charts" and not self._in_keys

    def charts_changed(self) -> None:
        if self._view == "charts":
            self.query_one(ChartGrid).tell()
        elif self._detail is not None:
            self._show_charts(self._detail)
        super().charts_changed()

    def action_back(self) -> None:
        if self.leave_reading():
            return
        if self._in_keys:
            if not self.query_one(KeysView).back():
                self._close_keys()
            return
        was_typing = self.focused is not None and self.focused in self.query("#form *")
        super().action_back()
        if was_typing:
            self.set_focus(None)
        else:
            self._show_view("run")
        self.refresh_bars()

    def _pick(self, by: int) -> None:
        rows = self.workbench.snapshot.rows
        row = self._row()
        if row is None:
            return
        at = next(index for index, one in enumerate(rows) if one.id == row.id)
        self.show_run(rows[(at + by) % len(rows)].id)

    def show_run(self, id: str) -> None:
        """Show this run from now on, whatever is newer."""
        self._picked, self._paused = id, False
        self.receive(self.workbench.snapshot)

    def _next(self, by: int) -> None:
        if self._view == "samples" and not self._in_keys:
            self.query_one(SamplesView).turn(by)
        else:
            self._pick(by)

    def action_next_run(self) -> None:
        self._next(1)

    def action_previous_run(self) -> None:
        self._next(-1)

    def action_pause(self) -> None:
        self._paused = not self._paused
        self.show_snapshot(self.workbench.snapshot)
        self._show_detail()

    def on_started(self, message: Started) -> None:
        self._picked, self._paused = message.id, False
        self._show_view("run")
        self.set_focus(None)
        self.workbench.say(message.words)
