"""All charts of one or several runs in a grid: as many as there is room for, in pages."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Grid, Vertical
from textual.widgets import Static

from engine.text import clip
from tui import words
from tui.chartset import ChartSet
from tui.chartstate import ChartState
from tui.widgets.chart import Chart

if TYPE_CHECKING:
    from tui.curvebook import RunCurves
    from tui.metrics import Metric

__all__ = ["ChartGrid"]

MOST = 12
"""Charts of a page."""
LEAST_WIDTH, LEAST_HEIGHT = 38, 8


class ChartGrid(Vertical):
    """The charts on the page that is shown are drawn, no others."""

    DEFAULT_CSS = """
    ChartGrid { height: 1fr; }
    ChartGrid #charts-told { height: 1; padding: 0 1; color: $quiet; }
    ChartGrid Grid { height: 1fr; }
    ChartGrid Chart { height: 100%; }
    """

    def __init__(self, state: ChartState, *, id: str) -> None:
        super().__init__(id=id)
        self.set = ChartSet(state)
        self._metrics: Sequence[Metric] = ()
        self._looks: Mapping[str, int] = {}
        self._runs: Sequence[RunCurves] = ()
        self._page = 0
        self._told = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="charts-told", markup=False)
        with Grid():
            for number in range(MOST):
                yield Chart("", id=f"chart-{number}")

    def on_mount(self) -> None:
        for chart in self._pool:
            chart.steer = self.steer

    @property
    def _pool(self) -> Sequence[Chart]:
        return list(self.query(Chart))

    def show(self, runs: "Sequence[RunCurves]", looks: Mapping[str, int] | None = None) -> None:
        """``looks``: of several runs, see :func:`tui.metrics.drawing`."""
        if not runs:  # numpy waits until there is something to draw
            for chart in self._pool:
                chart.show((), "none")
            return
        from tui.metrics import LOSS, metrics_of

        self._runs, self._looks = runs, looks or {}
        self._metrics = metrics_of(runs) or [LOSS]
        self._arrange()

    def on_resize(self) -> None:
        if self._metrics:
            self._arrange()

    # --- which charts, and where

    def _shape(self) -> tuple[int, int]:
        """(columns, rows) of a page."""
        width, height = self.size.width or self.app.size.width, self.size.height - 1
        if height <= 0:
            height = self.app.size.height - 8
        count = len(self._metrics)
        columns = max(1, min(4, width // LEAST_WIDTH, count))
        rows = max(1, min(height // LEAST_HEIGHT, -(-count // columns)))
        while columns * rows > MOST:
            rows -= 1
        return columns, rows

    def _arrange(self) -> None:
        columns, rows = self._shape()
        size = columns * rows
        last = (len(self._metrics) - 1) // size
        self._page = min(self._page, last)
        shown = self._metrics[self._page * size : (self._page + 1) * size]
        grid = self.query_one(Grid)
        rows = min(rows, -(-len(shown) // columns))
        for name, value in (("grid_size_columns", columns), ("grid_size_rows", rows)):
            if getattr(grid.styles, name) != value:
                setattr(grid.styles, name, value)
        pool = self._pool
        for number, chart in enumerate(pool):
            if chart.display != (number < len(shown)):
                chart.display = number < len(shown)
        self.set.show(self._runs, list(zip(pool, shown, strict=False)), self._looks)
        self._tell(last + 1)

    def _tell(self, pages: int) -> None:
        state, runs = self.set.state, self._runs
        if not runs:
            return
        parts = [f"x {state.axis}"]
        weight = state.smoothing(self.set.points)
        parts.append(f"smoothing {weight:g}" if weight else "not smoothed")
        if state.window:
            low, high = state.window
            parts.append(f"{words.number(low)} to {words.number(high)}, 0 shows all")
        if state.cursor is not None:
            parts.append(f"reading at {state.axis} {words.number(state.cursor, 4)}, h l move")
        if pages > 1:
            parts.insert(0, f"page {self._page + 1} of {pages}")
        others = [run for run in runs if run.id != state.pinned]
        if len(others) == 1 and len(runs) == 2:
            parts.insert(0, f"★ {clip(runs[-1].name, 24)}, the baseline")
        elif len(runs) > 1:
            parts.insert(0, f"{len(runs)} runs")
        elif kinds := dict.fromkeys(mark.kind for mark in runs[0].markers("step")):
            from tui.eventmarks import LETTERS

            parts.append("  ".join(f"{LETTERS[kind]} {kind}" for kind in kinds))
        told, room = "", max(20, (self.size.width or self.app.size.width) - 2)
        for part in parts:  # what does not fit is left out, the most important comes first
            if len(told) + len(part) <= room:
                told += f"{part}   "
        if told != self._told:
            self._told = told
            self.query_one("#charts-told", Static).update(Text(clip(told, 400)))

    def tell(self) -> None:
        """The line above the charts, after a key changed how they are looked at."""
        columns, rows = self._shape()
        self._tell((len(self._metrics) - 1) // (columns * rows) + 1)

    # --- moving about

    def focus_lead(self) -> None:
        """Give the focus to a chart, unless one has it."""
        pool = self._pool
        if not any(chart.has_focus for chart in pool):
            self.screen.set_focus(pool[0])

    def steer(self, where: str) -> None:
        """By a key on a chart: the cursor, or the window, or else to the chart beside it."""
        if not self.set.steer(where):
            self._go(where)
        self.tell()

    def _go(self, where: str) -> None:
        cells, (columns, rows) = self.set.cells, self._shape()
        at = next((number for number, cell in enumerate(cells) if cell[0].has_focus), 0)
        size = columns * rows
        whole = self._page * size + at
        moves = {"left": -1, "right": 1, "up": -columns, "down": columns}
        moves |= {"page_up": -size, "page_down": size}
        last = len(self._metrics) - 1
        if where in ("first", "last"):
            to = 0 if where == "first" else last
        else:
            to = whole + moves.get(where, 0)
            if not 0 <= to <= last:
                return
        if self.screen.maximized is not None and to // size != self._page:
            return
        self._page = to // size
        self._arrange()
        chart = self.set.cells[to % size][0]
        if self.screen.maximized is not None:
            self.screen.minimize()
            self.screen.maximize(chart)
        self.screen.set_focus(chart)
