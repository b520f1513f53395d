"""The last ten minutes of one device, or of all GPUs on top of each other, in up to four charts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Grid
from textual.widget import Widget

from engine.text import clip
from tui import words as units
from tui.gpushares import Shares
from tui.history import HOST, METRICS, WINDOW_SECONDS, History, Track
from tui.theme import SERIES_COLOURS
from tui.widgets.chart import Chart
from tui.widgets.lines import LinesView
from tui.widgets.sparklines import spark_lines

if TYPE_CHECKING:
    from tui.frame import Line, Mark

__all__ = ["MachineCharts", "choices", "chosen_words"]

MINUTES = WINDOW_SECONDS / 60
LIMIT = "#767676"
ALL = "all"
FEW = 3
"""So many GPUs are drawn on top of each other."""
MARKS: "tuple[Mark, ...]" = ("solid", "dashed", "dashdot")


@dataclass(frozen=True)
class _Shown:
    """One chart: title, lines, their colours."""

    title: str
    lines: "list[Line]"
    colours: list[str]


def choices(tracks: list[Track]) -> list[str]:
    """What can be shown: all GPUs where there are several, each of them, the machine itself."""
    gpus = [track.key for track in tracks if track.key != HOST]
    return [*([ALL] if len(gpus) > 1 else []), *gpus, HOST]


def chosen_words(tracks: list[Track], choice: str) -> str:
    """What is shown, for the line above the charts."""
    if choice == ALL:
        return f"all {len(tracks) - 1} GPUs"
    track = next((one for one in tracks if one.key == choice), None)
    if track is None:
        return ""
    return f"GPU {track.label} {clip(track.name, 30)}" if track.label else track.name


class MachineCharts(Grid):
    """Busy, memory, power, temperature; of the machine itself the first two."""

    DEFAULT_CSS = """
    MachineCharts { grid-size: 2; grid-rows: 1fr; height: 1fr; }
    MachineCharts Chart, MachineCharts LinesView { height: 1fr; }
    """

    def compose(self) -> ComposeResult:
        for metric in METRICS:
            yield Chart(metric, y_zero=metric != "temperature", id=f"chart-{metric}")
        for metric in METRICS:
            yield LinesView(id=f"rows-{metric}", classes="pane")

    @property
    def first(self) -> Widget | None:
        """The memory, or what else is shown."""
        shown = [child for child in self.children if child.display]
        return next((child for child in shown if "memory" in str(child.id)), None) or next(
            iter(shown), None
        )

    def show(
        self,
        history: History,
        tracks: list[Track],
        choice: str,
        shares: Shares | None,
    ) -> None:
        """``choice``: one of :func:`choices`; ``shares``: of that device's memory now."""
        some = [track for track in tracks if track.key == choice]
        if choice == ALL:
            some = [track for track in tracks if track.key != HOST]
        key = (history.count, choice, shares)
        for metric in METRICS:
            chart = self.query_one(f"#chart-{metric}", Chart)
            rows = self.query_one(f"#rows-{metric}", LinesView)
            told = any(track.last(metric) is not None for track in some)
            seen = metric in METRICS[:2] if choice == HOST else told or choice == ALL
            many = len(some) > FEW
            for widget, wanted in ((chart, seen and not many), (rows, seen and many)):
                if widget.display != wanted:
                    widget.display = wanted
            if seen and many:
                _show_rows(rows, some, metric, history)
            elif seen:
                made = _few(some, metric, history, shares)
                span = (-MINUTES, 0.0)
                colours = made.colours
                chart.show(made.lines, key, colours=colours, title=made.title, x_range=span)


def _show_rows(view: LinesView, tracks: list[Track], metric: str, history: History) -> None:
    """A line a GPU: where they are many, curves on top of each other tell nothing."""
    ascii_only = _plain_terminal()
    now = history.last
    made = (history.count, metric)
    if getattr(view, "made_of", None) == made:
        return
    view.made_of = made  # type: ignore[attr-defined]
    view.border_title = Text(_span(tracks, metric))
    view.show_layout(lambda width: spark_lines(tracks, metric, now, width, ascii_only))


def _plain_terminal() -> bool:
    from tui.frame import charset_for

    return charset_for() == "ascii"


UNITS = {"busy": "%", "memory": "GiB", "power": "W", "temperature": "°C"}


def _scaled(metric: str) -> float:
    return 2.0**30 if metric == "memory" else 1.0


def _limit(track: Track, metric: str) -> tuple[str, float] | None:
    """The line at the top of the axis: what the device has, or may take."""
    if metric == "busy":
        return "100 %", 100.0
    if metric == "memory" and track.memory_total:
        return "total", track.memory_total / 2**30
    if metric == "power" and track.power_limit:
        return "limit", track.power_limit
    return None


def _now(track: Track, metric: str) -> str:
    value = track.last(metric)
    if value is None:
        return "not told"
    if metric == "memory":
        return units.of_bytes(value, track.memory_total)
    return f"{value:.0f} {UNITS[metric]}"


def _title(metric: str, track: Track) -> str:
    name = "CPU busy" if track.key == HOST and metric == "busy" else metric
    return f"{name}  {_now(track, metric)}"


def _level(name: str, value: float, mark: "Mark") -> "Line":
    """A line across the whole chart."""
    import numpy as np

    from tui.frame import Line

    return Line(name, np.array([-MINUTES, 0.0]), np.array([value, value]), mark)


def _few(tracks: list[Track], metric: str, history: History, shares: Shares | None) -> _Shown:
    if not tracks:
        return _Shown(metric, [], [])
    if len(tracks) > 1:
        return _some(tracks, metric, history)
    return _one(tracks[0], metric, history, shares)


def _one(track: Track, metric: str, history: History, shares: Shares | None) -> _Shown:
    from tui.frame import Line

    lines: list[Line] = []
    colours: list[str] = []
    if limit := _limit(track, metric):
        lines.append(_level(limit[0], limit[1], "dotted"))
        colours.append(LIMIT)
    if metric == "memory" and shares is not None and shares.run:
        for name, size, mark, colour in (
            ("est.", shares.estimate, "dashdot", SERIES_COLOURS[3]),
            ("peak", shares.peak, "dashed", SERIES_COLOURS[1]),
        ):
            if size:
                # What is drawn is the whole device's, so the others' comes on top.
                others = shares.other_runs + shares.others
                name += " + others" if others > 0.02 * shares.total else ""
                place = size + shares.context + others
                lines.append(_level(name, place / 2**30, mark))  # type: ignore[arg-type]
                colours.append(colour)
    x, y = track.series(metric, history.last)
    # First in the legend, which may be cut, and on top of the others.
    name = "now" if len(lines) > 1 else metric
    lines.insert(0, Line(name, x, y / _scaled(metric), "solid", pinned=True))
    colours.insert(0, SERIES_COLOURS[0])
    return _Shown(_title(metric, track), lines, colours)


def _some(tracks: list[Track], metric: str, history: History) -> _Shown:
    """Two or three GPUs on top of each other."""
    from tui.frame import Line

    lines: list[Line] = []
    colours: list[str] = []
    limits = [limit for track in tracks if (limit := _limit(track, metric))]
    if limits:
        name, value = max(limits, key=lambda limit: limit[1])
        lines.append(_level(name, value, "dotted"))
        colours.append(LIMIT)
    for place, track in enumerate(tracks):
        x, y = track.series(metric, history.last)
        lines.append(Line("", x, y / _scaled(metric), MARKS[place], tag=track.label[-1:]))
        colours.append(SERIES_COLOURS[place])
    return _Shown(_span(tracks, metric), lines, colours)


def _span(tracks: list[Track], metric: str) -> str:
    """ "busy  82 to 97 %": from the lowest to the highest of all devices now."""
    found = [value for track in tracks if (value := track.last(metric)) is not None]
    if not found:
        return f"{metric}  not told"
    low, high = min(found) / _scaled(metric), max(found) / _scaled(metric)
    span = f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
    return f"{metric}  {span} {UNITS[metric]}"
