"""Charts that show the same runs in the same way, and what the keys do with all of them."""

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from tui.chartstate import ChartState

if TYPE_CHECKING:
    from tui.curvebook import RunCurves
    from tui.metrics import Metric
    from tui.widgets.chart import Chart

__all__ = ["ChartSet"]

CLOSER = 0.5
"""What a zoom leaves of the window."""
WIDE = 80
"""Cells of a chart from which on it bears more lines, and their names."""
STEP = 0.25
"""The share of the window that ``h`` and ``l`` move it by."""


class ChartSet:
    """Some charts, the first of them in the lead unless another one has the focus."""

    def __init__(self, state: ChartState) -> None:
        self.state = state
        self.runs: Sequence[RunCurves] = ()
        self.cells: Sequence[tuple[Chart, Metric]] = ()
        self._looks: Mapping[str, int] = {}
        self._names: Mapping[str, str] = {}
        self.note = ""
        """Behind the first title, as "held"."""
        self.marked: Container[str] | None = None
        """Metrics on whose charts events are marked; None: on all."""

    def show(
        self,
        runs: "Sequence[RunCurves]",
        cells: "Sequence[tuple[Chart, Metric]]",
        looks: Mapping[str, int] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """``looks`` and ``names``: of each run by its id, where there are several."""
        self.runs, self.cells = runs, cells
        self._looks, self._names = looks or {}, names or {}
        self.draw()

    @property
    def lead(self) -> "tuple[Chart, Metric] | None":
        """The chart that has the focus, else the first one."""
        focused = (cell for cell in self.cells if cell[0].has_focus)
        return next(focused, self.cells[0] if self.cells else None)

    @property
    def points(self) -> int:
        """Of the longest loss, by which the smoothing is chosen."""
        found = [series for run in self.runs if (series := run.series("loss"))]
        return max(map(len, found), default=0)

    def draw(self) -> None:
        for chart, metric in self.cells:
            self._draw(chart, metric)

    def _draw(self, chart: "Chart", metric: "Metric") -> None:
        from tui.metrics import drawing

        state = self.state
        weight = state.smoothing(self.points)
        wide = chart.size.width >= WIDE
        made = drawing(
            metric, self.runs, state.axis, weight,
            looks=self._looks, names=self._names, pinned=state.pinned, wide=wide,
        )  # fmt: skip
        key = (
            *(metric.id, state.axis, weight, state.pinned, wide, tuple(self._looks.items())),
            tuple(self._names.items()),
            tuple((run.id, run.version) for run in self.runs),
        )
        # Events of several runs would stand in each other's way.
        alone = len(self.runs) == 1 and (self.marked is None or metric.id in self.marked)
        markers = self.runs[0].markers(state.axis) if alone else ()
        chart.show(
            made.lines,
            key,
            colours=made.colours or ("",),
            log_y=metric.id in state.log,
            title=metric.title + (self.note if chart is self.cells[0][0] else ""),
            # Whose line is whose is said above several charts once.
            legend=not self._looks or wide,
            y_zero=metric.y_zero,
            x_range=state.window,
            markers=markers,
            cursor=state.cursor,
        )

    # --- the keys

    def next_smoothing(self) -> None:
        self.state.next_weight(self.points)
        self.draw()

    def toggle_log(self) -> None:
        if self.lead:
            self.state.toggle_log(self.lead[1].id)
            self.draw()

    def next_axis(self) -> None:
        self.state.next_axis(self.runs)
        self.draw()

    def _whole(self) -> tuple[float, float] | None:
        """All of x that the chart in the lead has."""
        from engine.charts.scale import data_range
        from tui.frame import Options

        return data_range(self.lead[0].lines, Options()) if self.lead else None

    def zoom(self, closer: bool) -> None:
        """Half, or double, of what is shown; around the cursor where there is one."""
        from tui.chartview import zoomed

        whole, state = self._whole(), self.state
        if whole is None or (state.window is None and not closer):
            return
        factor = CLOSER if closer else 1 / CLOSER
        state.window = zoomed(state.window or whole, whole, factor, state.cursor)
        self.draw()

    def zoom_whole(self) -> None:
        self.state.window = None
        self.draw()

    def inspect(self) -> None:
        """Begin to read values at the last point that is in sight, or end it."""
        state, lead = self.state, self.lead
        if state.cursor is not None or lead is None:
            state.cursor = None
        else:
            window = state.window or self._whole()
            ends = [line.points.x for line in lead[0].lines if len(line.points)]
            if window and ends:
                state.cursor = min(window[1], max(float(x[-1]) for x in ends))
        self.draw()

    def steer(self, where: str) -> bool:
        """``left``, ``right``, ``first``, ``last``, ``page_up``, ``page_down``: moves the cursor,
        or else the window. False: there is neither."""
        state = self.state
        if state.cursor is not None:
            self._move(where)
        elif state.window is not None and where in ("left", "right"):
            from tui.chartview import panned

            if whole := self._whole():
                share = STEP if where == "right" else -STEP
                state.window = panned(state.window, whole, share)
        else:
            return False
        self.draw()
        return True

    def _move(self, where: str) -> None:
        from tui.chartview import moved, panned

        state, lead = self.state, self.lead
        if lead is None or lead[0].frame is None or state.cursor is None:
            return
        chart, whole = lead[0], self._whole()
        if whole is None:
            return
        if where in ("first", "last"):
            ends = [line.points.x for line in chart.lines if len(line.points)]
            if not ends:
                return
            firsts, lasts = zip(*((float(x[0]), float(x[-1])) for x in ends), strict=True)
            state.cursor = min(firsts) if where == "first" else max(lasts)
        else:
            cells = {"left": -1, "right": 1, "page_up": -10, "page_down": 10}.get(where, 0)
            state.cursor = moved(chart.frame, chart.lines, state.cursor, cells)
        window = state.window
        if window and not window[0] <= state.cursor <= window[1]:
            share = (state.cursor - (window[0] + window[1]) / 2) / (window[1] - window[0])
            state.window = panned(window, whole, share)
