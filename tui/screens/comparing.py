"""Marking runs and comparing them; the charts of the Runs screen's pages."""

from collections.abc import Sequence

from textual.widgets import ContentSwitcher

from tui.chartset import ChartSet
from tui.feed import Snapshot
from tui.runtable import Group
from tui.screens.chartacts import ChartActions
from tui.screens.groupacts import GroupActions
from tui.widgets.comparepage import ComparePage
from tui.widgets.runlist import RunList
from tui.widgets.runpages import RunPages
from tui.widgets.sweeppage import SweepPage, drawn

__all__ = ["COMPARE", "RUN", "SWEEP", "TABLE", "Comparing"]

TABLE, RUN, SWEEP, COMPARE = "history", "detail", "sweep", "compare"
"""Pages of the Runs screen."""


class Comparing(ChartActions, GroupActions):
    """A screen with a :class:`RunList`, :class:`RunPages`, a sweep's page and one to compare."""

    def __init__(self) -> None:
        super().__init__()
        self._page = TABLE
        self._sweep: str | None = None
        """The sweep that is shown whole, or lies below the page that is."""

    @property
    def list(self) -> RunList:
        return self.query_one(RunList)

    @property
    def pages(self) -> RunPages:
        return self.query_one(RunPages)

    @property
    def sweep_page(self) -> SweepPage:
        return self.query_one(SweepPage)

    @property
    def compare_page(self) -> ComparePage:
        return self.query_one(ComparePage)

    def _switch(self, id: str) -> None:
        switcher = self.query_one("#runs", ContentSwitcher)
        if switcher.current != id:
            switcher.current = id

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "mark":
            return self._page == TABLE and bool(self.workbench.snapshot.rows)
        if action == "compare":
            return self.is_mounted and self._page != COMPARE and len(self._compared()) > 1
        if action in ("parameter", "metric"):
            return self.is_mounted and self._page == SWEEP and self.sweep_page.may_choose(action)
        return super().check_action(action, parameters)

    def _fold(self, opened: bool | None) -> None:
        self.list.fold(opened)
        self.receive(self.workbench.snapshot)

    def action_mark(self) -> None:
        """On a run, also one of a sweep: mark it. On a sweep's line: open or close it."""
        if isinstance(self.list.line, Group):
            self._fold(None)
        else:
            self.list.mark()
            self.receive(self.workbench.snapshot)

    def _compared(self) -> Sequence[str]:
        """The runs whose charts ``c`` shows: the marked ones, the best of a sweep, or the one that
        is chosen and the baseline."""
        marked = self.list.marked if self._page == TABLE else []
        if not marked and (sweep := self.group()):
            return [row.id for row in drawn(sweep)]
        found = [*marked]
        row, pinned = self.chosen(), self.workbench.pinned
        if len(found) < 2 and row is not None and row.id not in found:
            found.append(row.id)
        if pinned in self.workbench.snapshot.by_id and pinned not in found:
            found.append(pinned)
        return found

    def action_compare(self) -> None:
        runs = self._compared()
        if self._page != SWEEP:
            self._sweep = None
        self._page = COMPARE
        self.compare_page.choose(runs)
        self._show_compared()

    def turn_compared(self, by: int) -> None:
        self.compare_page.turn(by)
        self._show_compared()

    def _show_compared(self) -> None:
        self.receive(self.workbench.snapshot)
        self.set_focus(self.compare_page.page)
        if self.compare_page.shows_curves:
            self.compare_page.grid.focus_lead()

    # --- a sweep by its parameters

    def action_parameter(self) -> None:
        self.sweep_page.next_parameter()
        self.receive(self.workbench.snapshot)

    def action_metric(self) -> None:
        self.sweep_page.next_metric()
        self.receive(self.workbench.snapshot)

    def _show_compare(self, snapshot: Snapshot) -> None:
        self._switch(COMPARE)
        page = self.compare_page
        details = [snapshot.details[id] for id in page.runs if id in snapshot.details]
        page.show(self.curves_of(details) if details else [], snapshot)

    # --- charts

    @property
    def charts(self) -> ChartSet | None:
        if not self.is_mounted or self._page == TABLE:
            return None
        if self._page == RUN:
            return self.pages.grid.set if self.pages.shows_curves else None
        if self._page == SWEEP:
            return self.sweep_page.set if self.sweep_page.shows_curves else None
        return self.compare_page.grid.set if self.compare_page.shows_curves else None

    @property
    def on_charts(self) -> bool:
        if self._page == COMPARE:
            return self.compare_page.shows_curves
        return self._page == RUN and self.pages.shows_curves

    def charts_changed(self) -> None:
        self.show_snapshot(self.workbench.snapshot)
        super().charts_changed()
