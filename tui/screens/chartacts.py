"""What keys do with charts, on every screen that shows some."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work

from engine.text import safe_line
from tui import keymap
from tui.chartset import ChartSet
from tui.chartstate import ChartState
from tui.screens.acting import RunActions
from tui.screens.ask import AskScreen
from tui.widgets.chart import Chart

if TYPE_CHECKING:
    from tui.curvebook import CurveBook, RunCurves
    from tui.feed import RunDetail

__all__ = ["ChartActions"]

ACTIONS = frozenset(
    {"log_y", "smoothing", "x_axis", "inspect", "zoom_in", "zoom_out", "zoom_whole", "export"}
)


HINTS = {"inspect": "read values", "x_axis": "x axis", "zoom_in": "zoom", "maximise": "one chart"}
"""The footer, where charts are all there is."""


class ChartActions(RunActions):
    """A screen with charts, all of them looked at by one :class:`ChartState`."""

    def __init__(self) -> None:
        super().__init__()
        self.chart_state = ChartState()
        self._book: CurveBook | None = None

    @property
    def charts(self) -> ChartSet | None:
        """Those that are shown now."""
        return None

    def curves_of(self, details: "Sequence[RunDetail]") -> "list[RunCurves]":
        """The curves of runs as they grow, and of the baseline, which comes last."""
        from tui.curvebook import CurveBook

        app = self.workbench
        self.chart_state.pinned = app.pinned
        there = list(details)
        baseline = app.snapshot.details.get(app.pinned or "")
        if baseline is not None and all(one.row.id != app.pinned for one in there):
            there.append(baseline)
        self._book = self._book or CurveBook()
        return self._book.of(there)

    @property
    def on_charts(self) -> bool:
        """There is nothing else on the screen."""
        return False

    def charts_changed(self) -> None:
        """A key has changed how they are looked at; they are drawn already."""
        self.refresh_bars()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ACTIONS:
            charts = self.charts if self.is_mounted else None
            if charts is None or not charts.cells:
                return False
            if action in ("zoom_out", "zoom_whole"):
                return charts.state.window is not None
            return True
        if action == "pin":
            return self.chosen() is not None
        return super().check_action(action, parameters)

    def hint(self, action: keymap.Action) -> str:
        charts = self.charts if self.on_charts else None
        return (
            HINTS.get(action.id, action.show * (not action.screen))
            if charts
            else super().hint(action)
        )

    def leave_reading(self) -> bool:
        """End reading values; False: nothing was read."""
        if self.chart_state.cursor is None or not self.charts:
            return False
        self.charts.inspect()
        self.charts_changed()
        return True

    def _do(self, what: str, *arguments: object) -> None:
        if self.charts is not None:
            getattr(self.charts, what)(*arguments)
            self.charts_changed()

    def action_maximise(self) -> None:
        """The chart in the lead, where nothing has the focus."""
        charts = self.charts
        if self.maximized is None and self.focused is None and charts and charts.lead:
            self.maximize(charts.lead[0])
            self.set_focus(charts.lead[0])
        else:
            super().action_maximise()
        self.call_after_refresh(self.charts_changed)

    def action_log_y(self) -> None:
        self._do("toggle_log")

    def action_smoothing(self) -> None:
        self._do("next_smoothing")

    def action_x_axis(self) -> None:
        self._do("next_axis")

    def action_inspect(self) -> None:
        charts = self.charts
        if charts is not None and charts.lead and not isinstance(self.focused, Chart):
            self.set_focus(charts.lead[0])  # for h and l
        self._do("inspect")

    def action_zoom_in(self) -> None:
        self._do("zoom", True)

    def action_zoom_out(self) -> None:
        self._do("zoom", False)

    def action_zoom_whole(self) -> None:
        self._do("zoom_whole")

    def action_pin(self) -> None:
        """The run that is chosen becomes what others are compared with, or is it no longer."""
        row = self.chosen()
        if row is None:
            return
        app = self.workbench
        app.pinned = None if app.pinned == row.id else row.id
        app.say(f"{row.name} is {'the baseline' if app.pinned else 'no longer the baseline'}")
        self.receive(app.snapshot)

    def action_export(self) -> None:
        """The chart in the lead as a picture, or its points as a table, by the name's ending."""
        charts = self.charts
        if charts is None or charts.lead is None:
            return
        chart, metric = charts.lead
        run = charts.runs[0].id if len(charts.runs) == 1 else f"{len(charts.runs)}-runs"
        usable = "".join(char if char.isalnum() or char in "-_." else "-" for char in metric.id)
        name = f"{run}-{usable[:60]}.svg"

        def named(path: str | None) -> None:
            if path:
                self._write(Path(path).expanduser(), chart, charts.state.axis)

        self.app.push_screen(
            AskScreen(
                "Save the chart",
                ".svg: a picture of it; .csv: the points behind it, all of them",
                str(self.workbench.home.path / name),
            ),
            named,
        )

    @work(thread=True, group="export", exit_on_error=False)
    def _write(self, path: Path, chart: Chart, axis: str) -> None:
        from engine.charts.svg import csv_of, svg_of

        lines = list(chart.lines)
        if path.suffix == ".csv":
            parts = csv_of(lines, x_label=axis)
        elif path.suffix == ".svg":
            options, colours = chart.options, chart.colours
            parts = iter(
                [svg_of(lines, chart.title, x_label=axis, options=options, colours=colours)]
            )
        else:
            self._say(f"{path.name}: the name has to end in .svg or .csv", "error")
            return
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.writelines(parts)
        except FileExistsError:
            self._say(f"{path}: is there already; take another name", "error")
        except OSError as error:
            self._say(f"{path}: {error.strerror}", "error")
        else:
            self._say(f"saved {path}")

    def _say(self, words: str, severity: str = "information") -> None:
        self.app.call_from_thread(self.workbench.say, safe_line(words), severity)
