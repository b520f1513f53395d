"""Runs: the history as a live table of runs and sweeps, one run whole, one sweep whole."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.widgets import ContentSwitcher, Input, Static

from engine.text import clip
from tui import keymap
from tui.feed import RunDetail, Snapshot
from tui.runtable import Group
from tui.screens.base import block
from tui.screens.comparing import COMPARE, RUN, SWEEP, TABLE
from tui.screens.logacts import LogActions
from tui.screens.tidying import Tidying
from tui.widgets.bars import tail
from tui.widgets.comparepage import ComparePage
from tui.widgets.rows import Rows
from tui.widgets.runlist import RunList
from tui.widgets.runpages import VIEWS, RunPages
from tui.widgets.sweeppage import SweepPage, drawn

if TYPE_CHECKING:
    from engine.history.queries import SweepRow
    from engine.history.row import RunRow

__all__ = ["VIEWS", "RunsScreen"]


class RunsScreen(Tidying, LogActions):
    """The table, or with enter a run or a sweep, or with ``c`` the marked runs compared; ``[`` and
    ``]`` turn the pages.

    From the table ``]`` and ``[`` lead to the queue.
    """

    SCREEN = "runs"
    BINDINGS = keymap.bindings("runs")
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._run: str | None = None
        """The run that is shown whole."""

    def on_mount(self) -> None:
        self.read_columns()

    def compose_body(self) -> ComposeResult:
        with ContentSwitcher(initial=TABLE, id="runs"):
            yield RunList(id=TABLE)
            yield RunPages(self.chart_state, id=RUN)
            yield SweepPage(self.chart_state, id=SWEEP)
            yield ComparePage(self.chart_state, id=COMPARE)
            yield Static("", id="none", classes="empty", markup=False)

    @property
    def on_log(self) -> bool:
        return self._page == RUN and self.is_mounted and self.pages.shows_log

    # --- what is chosen

    def chosen(self) -> "RunRow | None":
        if self._page == RUN:
            return self.workbench.snapshot.by_id.get(self._run or "")
        line = self._line
        return None if isinstance(line, Group) else line

    def group(self) -> "SweepRow | None":
        if self._page == SWEEP:
            return self.workbench.snapshot.sweeps.get(self._sweep or "")
        line = self._line
        return line.sweep if isinstance(line, Group) and line.kind == "sweep" else None

    @property
    def _line(self) -> "RunRow | Group | None":
        """Of the table in sight. The last one of a history that has become empty is no longer."""
        there = self._page == TABLE and self.is_mounted and self.workbench.snapshot.rows
        return self.list.line if there else None

    def watched_runs(self) -> frozenset[str]:
        if self._page == TABLE:
            return frozenset()
        sweep = self.group() if self._page == SWEEP else None
        shown = {
            RUN: [self._run or ""],
            SWEEP: [row.id for row in drawn(sweep)] if sweep else [],
            COMPARE: self.compare_page.runs,
        }[self._page]
        return frozenset({*shown, self.workbench.pinned or ""} - {""})

    # --- what is shown

    def show_snapshot(self, snapshot: Snapshot) -> None:
        if self._page == RUN and self.chosen() is None:
            self._close()  # deleted
        if self._page == SWEEP and self.group() is None:
            self._close()
        if self._page == COMPARE and not self.compare_page.keep(snapshot.by_id):
            self._close()
        if self._page == RUN:
            self._show_run(snapshot)
        elif self._page == SWEEP:
            self._show_sweep(snapshot)
        elif self._page == COMPARE:
            self._show_compare(snapshot)
        elif not snapshot.rows:
            self._show_none(snapshot)
        else:
            self._show_table(snapshot)

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

    def _show_table(self, snapshot: Snapshot) -> None:
        self._switch(TABLE)
        if self.focused is None:
            self.set_focus(self.list.table)
        self.list.show(snapshot, self.size.width, self.workbench.clock(), self.workbench.pinned)

    def _show_run(self, snapshot: Snapshot) -> None:
        self._switch(RUN)
        row = self.chosen()
        assert row is not None
        detail = snapshot.details.get(row.id) or RunDetail(row)
        curves = self.curves_of([detail]) if detail.series or detail.evaluations else []
        self.pages.show(detail, snapshot, self.workbench.clock(), curves)

    def _show_sweep(self, snapshot: Snapshot) -> None:
        self._switch(SWEEP)
        sweep = self.group()
        assert sweep is not None
        found = [snapshot.details.get(row.id) for row in drawn(sweep)]
        details = [detail for detail in found if detail is not None]
        self.sweep_page.show(sweep, self.curves_of(details) if details else [])
        if self.focused is None:
            self.set_focus(self.sweep_page.table)

    # --- opening and closing

    def _show_whole(self, run: str) -> None:
        self._page, self._run = RUN, run
        self._switch(RUN)
        self._focus_page()

    def _focus_page(self) -> None:
        self.set_focus(self.pages.page)
        if self.pages.shows_curves:
            self.pages.grid.focus_lead()

    def action_open(self) -> None:
        line = self.list.line
        if self._page == SWEEP and (row := self.sweep_page.row):
            self._show_whole(row.id)
        elif self._page == TABLE and isinstance(line, Group) and line.kind != "sweep":
            self._fold(None)
        elif self._page == TABLE and isinstance(line, Group):
            self._to_sweep(line.sweep.id)
        elif self._page == TABLE and line is not None:
            self._sweep = None
            self._show_whole(line.id)
        self.receive(self.workbench.snapshot)

    def _to_sweep(self, id: str) -> None:
        self._page, self._sweep = SWEEP, id
        self._switch(SWEEP)
        self.set_focus(self.sweep_page.table)

    def _close(self) -> None:
        """One page back."""
        if self._page in (RUN, COMPARE) and self._sweep in self.workbench.snapshot.sweeps:
            self._to_sweep(self._sweep)
            return
        self._page, self._sweep = TABLE, None
        self.chart_state.forget_place()
        self._switch(TABLE)
        self.set_focus(self.list.table)

    def action_left(self) -> None:
        if self._page == TABLE and not self.list.filtering:
            self._fold(False)
        else:
            super().action_left()

    def action_right(self) -> None:
        if self._page == TABLE and not self.list.filtering:
            self._fold(True)
        else:
            super().action_right()

    # --- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        there = bool(self.workbench.snapshot.rows)
        if action == "open":
            return self._page == SWEEP or (self._page == TABLE and there)
        if action == "find":
            return self.on_log or (self._page == TABLE and there)
        return super().check_action(action, parameters)

    def on_cursor_table_moved(self, message: Rows.Moved) -> None:
        self.refresh_bars()

    def on_cursor_table_chosen(self, message: Rows.Chosen) -> None:
        self.action_open()

    def action_back(self) -> None:
        if self.leave_reading():
            return
        if self.on_log and self.log_page.back():
            return
        if self.maximized is not None:
            self.minimize()
        elif self.list.filtering:
            self.list.clear()
            self.set_focus(self.list.table)
        elif self._page != TABLE:
            self._close()
        elif self.list.filter:
            self.list.clear()
        self.receive(self.workbench.snapshot)

    def _turn(self, by: int) -> None:
        if self._page == TABLE:
            self.action_queue()
            return
        if self._page == COMPARE:
            self.turn_compared(by)
            return
        if self._page == SWEEP:
            self.sweep_page.turn(by)
        else:
            self.pages.turn(by)
        self.receive(self.workbench.snapshot)
        if self._page == RUN:
            self._focus_page()

    def action_next_view(self) -> None:
        self._turn(1)

    def action_previous_view(self) -> None:
        self._turn(-1)

    def action_queue(self) -> None:
        from tui.screens.queue import QueueScreen

        def opened(run: str | None) -> None:
            if run is not None and run in self.workbench.snapshot.by_id:
                self._sweep = None
                self._show_whole(run)
                self.receive(self.workbench.snapshot)

        self.app.push_screen(QueueScreen(), opened)

    def action_find(self) -> None:
        if self.on_log:
            super().action_find()
        else:
            self.list.find()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.show_snapshot(self.workbench.snapshot)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.set_focus(self.list.table)
        self.show_snapshot(self.workbench.snapshot)

    def on_run_list_answered(self) -> None:
        self.show_snapshot(self.workbench.snapshot)

    def on_resize(self) -> None:
        self.call_after_refresh(lambda: self.show_snapshot(self.workbench.snapshot))
