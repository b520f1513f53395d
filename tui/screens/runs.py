"""Runs: the history as a live table, and one run whole."""

from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import ContentSwitcher, Input, Static

from engine.text import clip, safe
from tui import keymap
from tui.feed import RunDetail, Snapshot
from tui.runtable import COLUMNS, ORDERS, filtered, in_order
from tui.runwords import number_runs, sample_runs
from tui.screens.acting import RunActions
from tui.screens.base import block
from tui.widgets.bars import tail
from tui.widgets.chart import Chart
from tui.widgets.curves import loss_colours, loss_lines, metric_line, next_weight, weight_for
from tui.widgets.field import PlainInput
from tui.widgets.lines import PLAIN, LinesView, Run
from tui.widgets.log import LogTail
from tui.widgets.rows import Cell, Rows
from tui.widgets.runstate import RunState

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["RunsScreen"]

VIEWS = ("curves", "numbers", "samples", "recipe", "log")


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
            self.set_focus(table)
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
            self._put("numbers", detail, number_runs(detail))
        elif view == "samples":
            self._put("samples", detail, sample_runs(detail))
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
        self.set_focus(self.query_one("#table"))

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("open", "find", "sort"):
            return not self._open and bool(self.workbench.snapshot.rows)
        if action in ("log_y", "smoothing"):
            return self._open and VIEWS[self._view] == "curves"
        if action in ("next_view", "previous_view"):
            return self._open
        return super().check_action(action, parameters)

    def on_cursor_table_moved(self, message: Rows.Moved) -> None:
        if message.row < len(self._rows):
            self._chosen = self._rows[message.row].id
        self.refresh_bars()

    def on_cursor_table_chosen(self, message: Rows.Chosen) -> None:
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
            self.set_focus(self.query_one("#table"))
        elif self._open:
            self._close()
        elif self._filter:
            self.query_one("#wanted", Input).value = ""
        self.receive(self.workbench.snapshot)

    def _turn(self, by: int) -> None:
        self._view = (self._view + by) % len(VIEWS)
        self.receive(self.workbench.snapshot)
        if self._view:
            self.set_focus(self.query_one(f"#{VIEWS[self._view]}"))
        else:
            self.set_focus(None)

    def action_next_view(self) -> None:
        self._turn(1)

    def action_previous_view(self) -> None:
        self._turn(-1)

    def action_find(self) -> None:
        self.query_one("#filter").display = True
        self.set_focus(self.query_one("#wanted", Input))

    def on_input_changed(self, event: Input.Changed) -> None:
        self._filter = event.value
        self.show_snapshot(self.workbench.snapshot)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.set_focus(self.query_one("#table"))
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
