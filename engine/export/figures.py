"""The curves of runs as charts of a report: one run in detail, several over each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.charts.colours import LIGHT, Palette
from engine.charts.lines import Line, Mark, Options
from engine.charts.series import Series
from engine.charts.svg import svg_of
from engine.history import queries
from engine.history.curves import Curves
from engine.history.row import RunRow
from engine.history.store import Store

if TYPE_CHECKING:
    Points = Mapping[str, tuple[np.ndarray, np.ndarray]]

__all__ = ["FEW", "Figure", "RunCurve", "curve_of", "figures_of_one", "figures_of_several"]

GIB = 2.0**30
MARKS: tuple[Mark, ...] = ("solid", "dashed", "dotted", "dashdot")
FEW = 6
"""Runs whose names are said below every chart."""
_SMOOTHING = ((500, 0.6), (20_000, 0.9))
"""Points below which a curve is smoothed by so much, as the workbench begins with."""


@dataclass(frozen=True)
class Figure:
    """A chart. ``name`` is ours, and may become a file's; ``looks``: (colour, its lines)."""

    name: str
    title: str
    lines: Sequence[Line]
    colours: Sequence[int]
    """Of each line, a place in a palette's series."""
    y_zero: bool = False

    def svg(self, palette: Palette = LIGHT, width: int = 640, height: int = 300) -> str:
        """As a file of its own; for a page leave its first line out."""
        return svg_of(
            self.lines,
            self.title,
            options=Options(y_zero=self.y_zero),
            colours=[palette.series[colour] for colour in self.colours],
            palette=palette,
            width=width,
            height=height,
        )


@dataclass(frozen=True)
class RunCurve:
    """What of a run is drawn: metrics by name, and losses of evaluations."""

    row: RunRow
    metrics: Mapping[str, Series]
    validation: Series | None
    test: Series | None
    devices: Mapping[str, Series] = field(default_factory=dict)
    """Bytes used of a device, in GiB."""


def curve_of(store: Store, row: RunRow) -> RunCurve:
    """All of a run's curves, read whole."""
    reader = Curves(row.id)
    found = reader.read(store, row.attempt)
    while reader.more:
        found = reader.read(store, row.attempt)
    metrics = {name: _series(x, y) for name, (x, y) in found.items() if " " not in name}
    devices = {
        name.partition(" ")[2]: _series(x, y / GIB)
        for name, (x, y) in found.items()
        if name.startswith("used_bytes ")
    }
    for name in ("memory_bytes", "peak_memory_bytes"):
        if name in metrics:
            metrics[name] = _series(metrics[name].x, metrics[name].y / GIB)
    evaluations = queries.evaluations(store, row.id)
    during = ("during", "asked", "after")
    return RunCurve(
        row,
        metrics,
        _losses(evaluations, "validation", during),
        _losses(evaluations, "test", during),
        {name: one for name, one in devices.items() if name != "host" or len(devices) == 1},
    )


def _series(x: Any, y: Any) -> Series:
    return Series.of(np.maximum.accumulate(np.asarray(x, np.float64)), y)


def _losses(
    evaluations: Sequence[dict[str, Any]], split: str, whiches: Sequence[str]
) -> Series | None:
    found = {
        float(one["step"]): float(one["loss"])
        for one in evaluations
        if one["split"] == split
        and one["which"] in whiches
        and isinstance(one["step"], int)
        and (isinstance(one["loss"], int | float) or one["loss"] in ("NaN", "Infinity"))
    }
    steps = sorted(found)
    return Series.of(steps, [found[step] for step in steps]) if steps else None


class _Lines:
    """Lines with their colours, as they come."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.colours: list[int] = []

    def add(
        self, name: str, series: Series | None, colour: int, mark: Mark = "solid", *,
        quiet: bool = False,
    ) -> None:  # fmt: skip
        if series is not None and len(series):
            self.lines.append(Line.of(name, series, mark, quiet=quiet))
            self.colours.append(colour)

    def smoothed(self, name: str, series: Series | None) -> None:
        if series is None:
            return
        weight = _weight(len(series))
        self.add(f"{name}, each step", series, 0, "dots", quiet=name != "loss")
        self.add(f"{name}, smoothed", series.smooth(weight), 0, quiet=name != "loss")


def _weight(points: int) -> float:
    return next((weight for most, weight in _SMOOTHING if points < most), 0.99)


def figures_of_one(curve: RunCurve) -> list[Figure]:
    """Loss, validation, learning rate, tokens/s, memory: those that there is something of."""
    made = []
    metrics = curve.metrics

    def put(name: str, title: str, drawn: _Lines, y_zero: bool = False) -> None:
        if drawn.lines:
            made.append(Figure(name, title, drawn.lines, drawn.colours, y_zero))

    drawn = _Lines()
    drawn.smoothed("loss", metrics.get("loss"))
    drawn.add("validation", curve.validation, 1, "points")
    put("loss", "loss", drawn)
    drawn = _Lines()
    drawn.add("validation", curve.validation, 1)
    drawn.add("test", curve.test, 4, "points")
    put("validation-loss", "validation loss", drawn)
    drawn = _Lines()
    drawn.add("learning rate", metrics.get("learning_rate"), 0, quiet=True)
    put("learning-rate", "learning rate", drawn, y_zero=True)
    drawn = _Lines()
    drawn.smoothed("tokens/s", metrics.get("tokens_per_second"))
    put("tokens-per-second", "tokens/s (line: smoothed)", drawn, y_zero=True)
    put("memory", "memory, GiB", _memory(curve), y_zero=True)
    return made


def _memory(curve: RunCurve) -> _Lines:
    drawn, own = _Lines(), curve.metrics.get("memory_bytes")
    drawn.add("this run", own, 0)
    drawn.add("peak", curve.metrics.get("peak_memory_bytes"), 3, "dashed")
    estimate = curve.row.estimated_peak_bytes
    if own is not None and len(own) and isinstance(estimate, int | float):
        ends = [float(own.x[0]), float(own.x[-1])]
        drawn.add("estimate", Series.of(ends, [estimate / GIB] * 2), 5, "dotted")
    for name, used in curve.devices.items():
        drawn.add(f"all of {name}", used, 4, "dashdot")
    return drawn


def figures_of_several(curves: Sequence[RunCurve], names: Sequence[str]) -> list[Figure]:
    """The same charts with a line a run, each of its own colour and mark."""
    found: dict[str, tuple[str, bool, bool, list[Series | None]]] = {
        "loss": ("loss, smoothed", True, False, [c.metrics.get("loss") for c in curves]),
        "validation-loss": ("validation loss", False, False, [c.validation for c in curves]),
        "learning-rate": (
            *("learning rate", False, True),
            [c.metrics.get("learning_rate") for c in curves],
        ),
        "tokens-per-second": (
            *("tokens/s, smoothed", True, True),
            [c.metrics.get("tokens_per_second") for c in curves],
        ),
        "memory": ("memory, GiB", False, True, [c.metrics.get("memory_bytes") for c in curves]),
    }
    made: list[Figure] = []
    for name, (title, noisy, y_zero, series) in found.items():
        drawn = _Lines()
        for number, (one, whose) in enumerate(zip(series, names, strict=True)):
            shown = one.smooth(_weight(len(one))) if noisy and one is not None else one
            mark = MARKS[(number + number // 6) % 4]
            # So many names are said once, below the first chart.
            drawn.add(whose, shown, number % 6, mark, quiet=bool(made) and len(names) > FEW)
        if drawn.lines:
            made.append(Figure(name, title, drawn.lines, drawn.colours, y_zero))
    return made
