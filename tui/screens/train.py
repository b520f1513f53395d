"""Train: a recipe and its start on one side, the live run on the other."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static

from engine.history.row import ENDS
from engine.text import clip
from tui import acts, keymap
from tui.feed import RunDetail, Snapshot
from tui.screens.acting import RunActions
from tui.screens.base import block
from tui.widgets.bars import tail
from tui.widgets.chart import Chart
from tui.widgets.curves import loss_colours, loss_lines, metric_line, next_weight, weight_for
from tui.widgets.gauge import Bar, Gauge
from tui.widgets.log import LogTail
from tui.widgets.recipeform import RecipeForm
from tui.widgets.runstate import RunState
from tui.words import bytes_words, of_bytes

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from engine.recipe import Recipe

__all__ = ["TrainScreen"]

READ_SECONDS = 2.0
CLOCK_SECONDS = 1.0


@dataclass
class Read(Message):
    """A reading of the machine."""

    reading: acts.Reading


@dataclass
class Reviewed(Message):
    """What would run, in words; ``recipe`` as it will be launched."""

    recipe: "Recipe"
    name: str | None
    rows: list[tuple[str, str]]


@dataclass
class Started(Message):
    """A run was launched."""

    id: str


class TrainScreen(RunActions):
    """Follows the newest run; ``n`` and ``N`` show another one."""

    SCREEN = "train"
    BINDINGS = keymap.bindings("train")
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._shown: str | None = None
        self._picked: str | None = None
        self._weight: float | None = None
        self._log_y = False
        self._paused = False
        self._detail: RunDetail | None = None
        self._reading = False
        self._machine: acts.Reading | None = None

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="train", classes="-live -none"):
            yield RecipeForm(id="form")
            with Vertical(id="live"):
                yield RunState(id="state")
                yield Chart("loss", id="loss")
                yield Chart("learning rate", id="rate", y_zero=True)
                yield Gauge(id="memory")
                yield LogTail(id="log", classes="pane", empty="no log yet")
            yield Static("", id="none", classes="empty", markup=False)

    def on_mount(self) -> None:
        self.query_one("#log", LogTail).border_title = "worker.log"
        self.set_interval(CLOCK_SECONDS, self._tick)
        self.set_interval(READ_SECONDS, self._read)
        self.workbench.when_painted(self._read)

    # --- what is shown

    def _row(self) -> "RunRow | None":
        rows = self.workbench.snapshot.rows
        picked = next((row for row in rows if row.id == self._picked), None)
        return picked or next(iter(self.workbench.snapshot.live), None) or next(iter(rows), None)

    def chosen(self) -> "RunRow | None":
        return self._row()

    def watched_runs(self) -> frozenset[str]:
        row = self._row()
        return frozenset({row.id}) if row else frozenset()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        row = self._row()
        body = self.query_one("#train")
        body.set_class(row is None, "-none")
        if row is None:
            self._detail = None
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
        row = detail.row
        self.query_one("#state", RunState).show(detail, self.workbench.clock())
        count = len(detail.series["loss"][0]) if "loss" in detail.series else 0
        key = (row.id, row.attempt, row.step, count, len(detail.evaluations))
        weight = weight_for(count) if self._weight is None else self._weight
        lines = loss_lines(detail, weight)
        self.query_one("#loss", Chart).show(
            lines,
            (*key, weight),
            colours=loss_colours(lines),
            log_y=self._log_y,
            title="loss" + ("  held" if self._paused else ""),
        )
        self.query_one("#rate", Chart).show(metric_line(detail, "learning_rate"), key)
        self.query_one("#log", LogTail).show(detail.log)
        self._show_machine()

    def _tick(self) -> None:
        """Once a second: elapsed times of a live run; repaints only if a word changed."""
        if self.is_current and self._detail is not None and self._detail.row.state not in ENDS:
            self.query_one("#state", RunState).show(self._detail, self.workbench.clock())

    # --- the machine

    def _read(self) -> None:
        if self.is_current and not self._reading:
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
        reading = self._machine
        if reading is None:
            return
        bars, title = [], "GPU"
        for index, name, used, total, busy in reading.gpus:
            share = used / total if used is not None and total else None
            busy_words = f"{busy} %" if busy is not None else "not told"
            if len(reading.gpus) > 1:  # a line each: a run may train on all of them
                title = "GPUs: memory, busy"
                bars.append(Bar(f"GPU {index}", share, f"{of_bytes(used, total)} {busy_words:>5}"))
                continue
            title = f"GPU {index} {name}"
            bars.append(Bar("memory", share, of_bytes(used, total)))
            bars.append(Bar("busy", busy / 100 if busy is not None else None, busy_words))
        if not reading.gpus:
            title = "no GPU: host memory"
            if reading.host_total and reading.host_used is not None:
                bars.append(
                    Bar(
                        "memory",
                        reading.host_used / reading.host_total,
                        of_bytes(reading.host_used, reading.host_total),
                    )
                )
            if reading.cpu is not None:
                bars.append(Bar("CPU", reading.cpu / 100, f"{reading.cpu:.0f} %"))
        row = self._detail.row if self._detail else None
        if row is not None and (row.memory_bytes or row.peak_memory_bytes):
            peak = f", peak {bytes_words(row.peak_memory_bytes)}" if row.peak_memory_bytes else ""
            bars.append(Bar("run", None, f"{bytes_words(row.memory_bytes)}{peak}"))
        self.query_one("#memory", Gauge).show(title, bars)

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        form = self.query(RecipeForm)
        if action == "start":
            return bool(form) and form.first().recipe is not None
        if action in ("edit", "next_recipe"):
            return bool(form) and form.first().ready
        if action in ("log_y", "smoothing", "pause"):
            return self._detail is not None
        if action in ("next_run", "previous_run"):
            return len(self.workbench.snapshot.rows) > 1
        return super().check_action(action, parameters)

    def on_recipe_form_edited(self, message: RecipeForm.Edited) -> None:
        self.refresh_bars()

    def _view(self, live: bool) -> None:
        self.query_one("#train").set_class(live, "-live")

    def action_maximise(self) -> None:
        """The loss, unless something else has the focus."""
        if self.maximized is None and self.focused is None:
            self.maximize(self.query_one("#loss"))
        else:
            super().action_maximise()

    def action_next_view(self) -> None:
        self._view(not self.query_one("#train").has_class("-live"))

    def action_previous_view(self) -> None:
        self.action_next_view()

    def action_edit(self) -> None:
        self._view(False)
        self.query_one(RecipeForm).focus_name()

    def action_next_recipe(self) -> None:
        self._view(False)
        self.query_one(RecipeForm).next_recipe()

    def action_back(self) -> None:
        was_typing = self.focused is not None and self.focused in self.query("#form *")
        super().action_back()
        if was_typing:
            self.set_focus(None)
        else:
            self._view(True)
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

    def action_next_run(self) -> None:
        self._pick(1)

    def action_previous_run(self) -> None:
        self._pick(-1)

    def action_log_y(self) -> None:
        self._log_y = not self._log_y
        self._show_detail()

    def action_smoothing(self) -> None:
        self._weight = next_weight(self._weight, self._detail)
        self._show_detail()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self.show_snapshot(self.workbench.snapshot)
        self._show_detail()

    # --- starting a run

    def action_start(self) -> None:
        form = self.query_one(RecipeForm)
        if form.recipe is not None:
            self._review(form.recipe, form.name_given, form.changes())

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def _review(
        self, recipe: "Recipe", name: str | None, changes: list[tuple[str, str, str]]
    ) -> None:
        from engine.errors import UserError
        from tui.screens.review import review_rows

        try:
            machine = self.workbench.read_system()
            rows = review_rows(self.workbench.home, recipe, name, changes, machine)
        except UserError as error:
            self.app.call_from_thread(self.workbench.say, str(error), "error")
            return
        self.post_message(Reviewed(recipe, name, rows))

    def on_reviewed(self, message: Reviewed) -> None:
        from tui.screens.review import ReviewScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self._launch(message.recipe, message.name)

        title = f"Start {message.name or message.recipe.name}?"
        self.app.push_screen(ReviewScreen(title, message.rows), answered)

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def _launch(self, recipe: "Recipe", name: str | None) -> None:
        from engine.errors import UserError

        say = partial(self.app.call_from_thread, self.workbench.say)
        try:
            id = acts.start_run(self.workbench.home, recipe, name)
        except UserError as error:
            say(str(error), "error")
        except Exception as error:
            say(f"{type(error).__name__}: {error}", "error")
        else:
            self.post_message(Started(id))

    def on_started(self, message: Started) -> None:
        self._picked, self._paused = message.id, False
        self._view(True)
        self.set_focus(None)
        self.workbench.say("started; it goes on when the workbench is closed")
