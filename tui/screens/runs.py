"""Runs: the history as a live table, and one run whole."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, Input, Static

from engine.text import clip, safe
from tui import keymap, words
from tui.feed import RunDetail, Snapshot
from tui.screens.acting import RunActions
from tui.screens.base import block
from tui.theme import STATES
from tui.widgets.bars import tail
from tui.widgets.chart import Chart
from tui.widgets.curves import loss_colours, loss_lines, metric_line, next_weight, weight_for
from tui.widgets.field import PlainInput
from tui.widgets.lines import BOLD, PLAIN, QUIET, LinesView, Run
from tui.widgets.log import LogTail
from tui.widgets.rows import Cell, Column, Rows
from tui.widgets.runstate import RunState

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["RunsScreen", "filtered", "in_order"]

ORDERS = ("created", "name", "best", "state")
"""What ``o`` cycles through; the first one is newest first."""

VIEWS = ("curves", "numbers", "samples", "recipe", "log")


def filtered(rows: list["RunRow"], wanted: str) -> list["RunRow"]:
    """Rows in which every word of ``wanted`` occurs: in name, id, state, model or dataset."""
    parts = wanted.lower().split()
    if not parts:
        return rows
    return [
        row
        for row in rows
        if all(
            part in f"{row.name} {row.id} {row.state} {row.model} {row.dataset}".lower()
            for part in parts
        )
    ]


def in_order(rows: list["RunRow"], order: str) -> list["RunRow"]:
    """``rows`` (newest first) by one of :data:`ORDERS`; equal ones stay newest first."""
    if order == "name":
        return sorted(rows, key=lambda row: row.name.lower())
    if order == "best":
        return sorted(rows, key=lambda row: _number(row.best_eval_loss))
    if order == "state":
        states = list(STATES)
        return sorted(rows, key=lambda row: states.index(row.state) if row.state in states else 99)
    return rows


def _number(value: float | None) -> float:
    return value if value is not None and value == value else float("inf")


class RunsScreen(RunActions):
    """The table, or with enter the detail of one run (``[`` and ``]`` turn its pages)."""

    SCREEN = "runs"
    BINDINGS = keymap.bindings("runs")
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._filter = ""
        self._order = ORDERS[0]
        self._rows: list[RunRow] = []
        self._chosen: str | None = None
        self._open = False
        self._view = 0
        self._weight: float | None = None
        self._log_y = False
        self._titles = ("", "")

    def compose_body(self) -> ComposeResult:
        with ContentSwitcher(initial="history", id="runs"):
            with Vertical(id="history"):
                with Horizontal(id="filter"):
                    yield Static("filter ", markup=False)
                    yield PlainInput(
                        id="wanted", placeholder="words of name, state, model, dataset"
                    )
                yield Rows(id="table", classes="pane")
            with Vertical(id="detail"):
                yield RunState(id="state")
                yield Static("", id="views", markup=False)
                with ContentSwitcher(initial="curves", id="pages"):
                    with Vertical(id="curves"):
                        yield Chart("loss", id="loss")
                        yield Chart("learning rate", id="rate", y_zero=True)
                    yield LinesView(id="numbers", classes="pane")
                    yield LinesView(id="samples", classes="pane")
                    yield LinesView(id="recipe", classes="pane")
                    yield LogTail(id="log", classes="pane", empty="no log")
            yield Static("", id="none", classes="empty", markup=False)

    def on_mount(self) -> None:
        for id, title in (
            ("numbers", "numbers"),
            ("samples", "samples"),
            ("recipe", "recipe.toml"),
        ):
            self.query_one(f"#{id}").border_title = title
        self.query_one("#log").border_title = "worker.log"

    # --- what is shown

    def chosen(self) -> "RunRow | None":
        return next((row for row in self._rows if row.id == self._chosen), None)

    def watched_runs(self) -> frozenset[str]:
        return frozenset({self._chosen}) if self._open and self._chosen else frozenset()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        self._rows = in_order(filtered(snapshot.rows, self._filter), self._order)
        if self._open:
            if not any(row.id == self._chosen for row in snapshot.rows):
                self._close()  # deleted
            else:
                self._show_detail(snapshot)
                return
        if not snapshot.rows:
            self._show_none(snapshot)
        else:
            self._show_table(len(snapshot.rows))

    def _switch(self, id: str) -> None:
        switcher = self.query_one("#runs", ContentSwitcher)
        if switcher.current != id:
            switcher.current = id

    def _show_none(self, snapshot: Snapshot) -> None:
        told = (
            "Reading the history …"
            if not snapshot.loaded
            else (
                f"{tail(self.workbench.home_words, 28)} holds no run yet.\n\n"
                "2 then s               starts one here\n"
                "tunebench demo         the whole way in three minutes\n"
                "tunebench train RECIPE from the command line"
            )
        )
        if snapshot.error:
            told = f"The history cannot be read:\n{clip(snapshot.error, 300)}"
        self.query_one("#none", Static).update(block(told))
        self._switch("none")

    def _show_table(self, total: int) -> None:
        self._switch("history")
        table = self.query_one("#table", Rows)
        if self.focused is None:
            table.focus()
        if not any(row.id == self._chosen for row in self._rows):
            self._chosen = (
                self._rows[min(table.cursor, len(self._rows) - 1)].id if self._rows else None
            )
        at = next((i for i, row in enumerate(self._rows) if row.id == self._chosen), 0)
        shown_columns = [one for one in COLUMNS if self.size.width >= one[0]]
        now = self.workbench.clock()

        def cells(index: int) -> list[Cell]:
            return [cell(self._rows[index], now) for _, _, cell in shown_columns]

        columns = [column for _, column, _ in shown_columns]
        table.show(columns, len(self._rows), cells, cursor=at, empty="no run matches")
        shown = f"{len(self._rows)} of {total}" if self._filter else str(total)
        order = {"created": "newest first", "best": "best validation first"}.get(
            self._order, f"by {self._order}"
        )
        if (shown, order) != self._titles:  # setting a title repaints the whole table
            self._titles = (shown, order)
            table.border_title = Text(f"Runs  {shown}")
            table.border_subtitle = Text(order)
        self.query_one("#filter").display = bool(self._filter) or self._filtering

    @property
    def _filtering(self) -> bool:
        return self.focused is not None and self.focused.id == "wanted"

    # --- one run

    def _show_detail(self, snapshot: Snapshot) -> None:
        self._switch("detail")
        row = next(row for row in snapshot.rows if row.id == self._chosen)
        detail = snapshot.details.get(row.id) or RunDetail(row)
        self.query_one("#state", RunState).show(detail, self.workbench.clock())
        line = Text(" ", no_wrap=True)
        for index, view in enumerate(VIEWS):
            line.append(
                f"[{view}]" if index == self._view else f" {view} ",
                "bold reverse" if index == self._view else "#9e9e9e",
            )
        line.append("   [ ] turn the page   esc back", "#9e9e9e")
        self.query_one("#views", Static).update(line)
        view = VIEWS[self._view]
        self.query_one("#pages", ContentSwitcher).current = view
        if view == "curves":
            self._show_curves(detail)
        elif view == "log":
            self.query_one("#log", LogTail).show(detail.log)
        elif view == "numbers":
            self._put("numbers", detail, _numbers(detail))
        elif view == "samples":
            self._put("samples", detail, _samples(detail))
        else:
            self._put(
                "recipe", detail, [(safe(detail.recipe[:200_000]) or "no recipe.toml", PLAIN)]
            )

    def _put(self, id: str, detail: RunDetail, runs: list[Run]) -> None:
        view = self.query_one(f"#{id}", LinesView)
        if getattr(view, "shown_runs", None) != runs:
            view.shown_runs = runs  # type: ignore[attr-defined]
            view.show(runs)

    def _show_curves(self, detail: RunDetail) -> None:
        row = detail.row
        count = len(detail.series["loss"][0]) if "loss" in detail.series else 0
        key = (row.id, row.attempt, row.step, count, len(detail.evaluations))
        weight = weight_for(count) if self._weight is None else self._weight
        lines = loss_lines(detail, weight)
        self.query_one("#loss", Chart).show(
            lines, (*key, weight), colours=loss_colours(lines), log_y=self._log_y
        )
        self.query_one("#rate", Chart).show(metric_line(detail, "learning_rate"), key)

    def _close(self) -> None:
        self._open = False
        self._switch("history")
        self.query_one("#table").focus()

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("open", "find", "sort"):
            return not self._open and bool(self.workbench.snapshot.rows)
        if action in ("log_y", "smoothing"):
            return self._open and VIEWS[self._view] == "curves"
        if action in ("next_view", "previous_view"):
            return self._open
        return super().check_action(action, parameters)

    def on_rows_highlighted(self, message: Rows.Highlighted) -> None:
        if message.index < len(self._rows):
            self._chosen = self._rows[message.index].id
        self.refresh_bars()

    def on_rows_selected(self, message: Rows.Selected) -> None:
        self.action_open()

    def action_open(self) -> None:
        if self.chosen() is not None and not self._open:
            self._open = True
            self.set_focus(None)
            self.receive(self.workbench.snapshot)

    def action_back(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif self._filtering:
            self.query_one("#wanted", Input).value = ""
            self.query_one("#table").focus()
        elif self._open:
            self._close()
        elif self._filter:
            self.query_one("#wanted", Input).value = ""
        self.receive(self.workbench.snapshot)

    def _turn(self, by: int) -> None:
        self._view = (self._view + by) % len(VIEWS)
        self.receive(self.workbench.snapshot)
        if self._view:
            self.query_one(f"#{VIEWS[self._view]}").focus()
        else:
            self.set_focus(None)

    def action_next_view(self) -> None:
        self._turn(1)

    def action_previous_view(self) -> None:
        self._turn(-1)

    def action_find(self) -> None:
        self.query_one("#filter").display = True
        self.query_one("#wanted", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value
        self.show_snapshot(self.workbench.snapshot)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.query_one("#table").focus()
        self.show_snapshot(self.workbench.snapshot)

    def action_sort(self) -> None:
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.show_snapshot(self.workbench.snapshot)

    def action_log_y(self) -> None:
        self._log_y = not self._log_y
        self.show_snapshot(self.workbench.snapshot)

    def action_smoothing(self) -> None:
        detail = self.workbench.snapshot.details.get(self._chosen or "")
        self._weight = next_weight(self._weight, detail)
        self.show_snapshot(self.workbench.snapshot)

    def on_resize(self) -> None:
        self.call_after_refresh(lambda: self.show_snapshot(self.workbench.snapshot))


def _state(row: "RunRow") -> Cell:
    symbol, colour = STATES.get(row.state, ("?", ""))
    return f"{symbol} {row.state}", colour


def _step(row: "RunRow") -> str:
    if row.step is None:
        return words.NOTHING
    last = words.number(row.max_steps) if row.max_steps else "?"
    return f"{words.number(row.step)}/{last}"


def _took(row: "RunRow", now: float) -> str:
    began = row.started or row.created
    return words.duration((row.ended or now) - began) if began else ""


COLUMNS: tuple[tuple[int, Column, Callable[["RunRow", float], Cell]], ...] = (
    (0, Column("state", 10), lambda row, now: _state(row)),
    (110, Column("created", 10, True), lambda row, now: words.when(row.created, now)),
    (0, Column("step", 11, True), lambda row, now: _step(row)),
    (110, Column("loss", 7, True), lambda row, now: words.loss(row.loss)),
    (0, Column("best val", 8, True), lambda row, now: words.loss(row.best_eval_loss)),
    (110, Column("test", 7, True), lambda row, now: words.loss(row.test_loss)),
    (110, Column("tok/s", 7, True), lambda row, now: words.number(row.tokens_per_second)),
    (140, Column("peak", 8, True), lambda row, now: words.bytes_words(row.peak_memory_bytes)),
    (0, Column("took", 11, True), _took),
    (0, Column("name", 18), lambda row, now: row.name),
    (0, Column("model"), lambda row, now: row.model or ""),
)
"""(from which width of the screen, column, cell of a run)."""


def _numbers(detail: RunDetail) -> list[Run]:
    """Every value of the run that is known, then its evaluations and checkpoints."""
    row = detail.row
    runs: list[Run] = []

    def section(title: str) -> None:
        runs.append((f"\n{title}\n" if runs else f"{title}\n", BOLD))

    def line(label: str, value: object) -> None:
        if value is not None and value != "":
            runs.append((f"  {label:<22}", QUIET))
            runs.append((f"{clip(str(value), 400)}\n", PLAIN))

    section("run")
    for label in ("id", "name", "parent", "state", "attempt", "reason", "exit_code", "signal_name"):
        line(label, getattr(row, label))
    line("checkpoint", row.checkpoint)
    line("best_checkpoint", row.best_checkpoint)
    line("adapter", row.adapter)
    section("data and model")
    for label in ("dataset", "fingerprint", "train_rows", "validation_rows", "test_rows", "model"):
        line(label, getattr(row, label))
    if row.trainable_parameters and row.total_parameters:
        share = 100 * row.trainable_parameters / row.total_parameters
        line(
            "trainable", f"{row.trainable_parameters:,} of {row.total_parameters:,} ({share:.2f} %)"
        )
    for label in ("backend", "device", "gpu", "dtype", "optim", "git_commit"):
        line(label, getattr(row, label))
    section("measured")
    line("train loss", words.loss(row.train_loss) if row.train_loss is not None else None)
    line("best validation", f"{words.loss(row.best_eval_loss)} at step {row.best_step}"
         if row.best_eval_loss is not None else None)  # fmt: skip
    if row.test_loss is not None:
        before = words.loss(row.test_loss_before)
        line("test", f"{before} before, {words.loss(row.test_loss)} after")
    line("tokens/s", words.number(row.tokens_per_second) if row.tokens_per_second else None)
    line("peak memory", words.bytes_words(row.peak_memory_bytes) if row.peak_memory_bytes else None)
    if detail.evaluations:
        section("evaluations")
        for one in detail.evaluations:
            label = f"step {one.get('step')} {one.get('split')}"
            spent = words.duration(one.get("seconds"))
            line(label, f"{words.loss(one.get('loss'))}  {one.get('which')}, {spent}")
    if detail.checkpoints:
        section("checkpoints")
        for one in detail.checkpoints:
            best = ", best" if one.get("best") else ""
            line(f"step {one.get('step')}", f"{words.bytes_words(one.get('bytes'))}{best}")
    if detail.notices:
        section("warnings and errors")
        for one in detail.notices:
            line(str(one.get("type")), one.get("text"))
    return runs


def _samples(detail: RunDetail) -> list[Run]:
    runs: list[Run] = []
    for one in reversed(detail.samples[-100:]):
        runs.append((f"step {one.get('step')}  ", QUIET))
        runs.append((safe(str(one.get("prompt") or "")[:2000]) + "\n", BOLD))
        runs.append((safe(str(one.get("text") or "")[:4000]) + "\n", PLAIN))
        if one.get("reference"):
            runs.append(("reference: " + safe(str(one["reference"])[:2000]) + "\n", QUIET))
        runs.append(("\n", PLAIN))
    return runs or [("This run wrote no samples.", QUIET)]
