"""Which charts runs have, and their lines: of one run in detail, of several over each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.charts.series import Series
from tui.chartview import look_of
from tui.curvebook import RunCurves
from tui.frame import Line, Mark
from tui.theme import SERIES_COLOURS

__all__ = ["LEARNING_RATE", "LOSS", "VALIDATION_LOSS", "Drawing", "Metric", "drawing", "metrics_of"]

RAW, VALIDATION, WARNED, BASELINE = "#5f87af", "#ffd75f", "#ff8787", "#ffffff"
DIM = ("#5f87af", "#af875f", "#5f875f", "#af5f87", "#5f8787", "#af5f00")
"""Raw values behind their smoothed line, a colour of a series each."""
MOST_RAW = 3
"""Of more runs than this the raw values would hide each other."""
DURING = ("during", "asked", "after")


Add = Callable[[str, Series | None, str, str], None]
"""(name, series over steps, line mark, colour)."""


@dataclass(frozen=True)
class Metric:
    """A chart: what it is called, and how its values are."""

    id: str
    title: str
    noisy: bool = False
    """Smoothing tells more than the raw values do."""
    y_zero: bool = False


LOSS = Metric("loss", "loss", noisy=True)
VALIDATION_LOSS = Metric("eval_loss", "validation loss")
LEARNING_RATE = Metric("learning_rate", "learning rate", y_zero=True)
KNOWN = (
    LOSS,
    VALIDATION_LOSS,
    LEARNING_RATE,
    Metric("grad_norm", "gradient norm", noisy=True),
    Metric("tokens_per_second", "tokens/s", noisy=True, y_zero=True),
    Metric("mean_token_accuracy", "token accuracy", noisy=True),
    Metric("memory", "memory, GiB", y_zero=True),
    Metric("utilisation", "GPU busy, %", noisy=True, y_zero=True),
    Metric("step_seconds", "seconds a step", noisy=True, y_zero=True),
)
HIDDEN = frozenset({"t", "epoch", "tokens", "memory_bytes", "peak_memory_bytes"})
OF_DEVICE = ("used_bytes ", "total_bytes ", "utilisation ")


def metrics_of(runs: Sequence[RunCurves]) -> list[Metric]:
    """The charts that a run has something for: the usual ones, then the journal's own."""
    names = {name for run in runs for name in run.names if run.series(name) is not None}
    there = set(names)
    if any(run.evaluations("validation", DURING) for run in runs):
        there.add("eval_loss")
    if "memory_bytes" in names:
        there.add("memory")
    if any(name.startswith("utilisation ") for name in names):
        there.add("utilisation")
    usual = [metric for metric in KNOWN if metric.id in there]
    ids = {metric.id for metric in KNOWN}
    own = sorted(
        name
        for name in names
        if name not in HIDDEN and name not in ids and not name.startswith(OF_DEVICE)
    )
    return usual + [Metric(name, name, noisy=True) for name in own]


@dataclass(frozen=True)
class _Kept:
    """How one of several runs is drawn, in every chart alike."""

    look: int
    name: str
    tag: str
    pinned: bool
    raw: bool


@dataclass
class Drawing:
    """What a chart is given."""

    lines: list[Line]
    colours: list[str]


def drawing(
    metric: Metric,
    runs: Sequence[RunCurves],
    axis: str,
    weight: float,
    *,
    looks: Mapping[str, int],
    names: Mapping[str, str],
    pinned: str | None = None,
    wide: bool = True,
) -> Drawing:
    """``weight``: of the smoothing, 0: none. ``looks``, ``names``: of runs, for several of them.

    The run ``pinned`` is drawn above the others. ``wide``: there is room for raw values behind the
    smoothed lines of several runs.
    """
    made = Drawing([], [])
    others = [run for run in runs if run.id != pinned] or list(runs)
    if len(others) == 1:
        _of_one(made, metric, others[0], axis, weight)
        baseline = [run for run in runs if run is not others[0]]
    else:
        baseline, others = [], list(runs)
        for number, run in enumerate(others):
            kept = _Kept(
                looks.get(run.id, number),
                names.get(run.id) or run.name,
                chr(ord("a") + number) if number < 26 else "",
                run.id == pinned,
                wide and len(runs) <= MOST_RAW,
            )
            _of_many(made, metric, run, axis, weight, kept)
    for run in baseline:
        _of_many(made, metric, run, axis, weight, _Kept(0, run.name, "", True, False))
    return made


def _of_one(made: Drawing, metric: Metric, run: RunCurves, axis: str, weight: float) -> None:
    def add(name: str, series: Series | None, mark: str, colour: str) -> None:
        if series is not None:
            made.lines.append(Line.of(name, run.over(series, axis), mark))  # type: ignore[arg-type]
            made.colours.append(colour)

    first = SERIES_COLOURS[0]
    if metric.id == "memory":
        _memory(run, add)
        return
    if metric.id == "utilisation":
        for number, name in enumerate(_devices(run, "utilisation ")):
            colour, mark = look_of(number)
            add(name.partition(" ")[2], run.series(name), mark, SERIES_COLOURS[colour])
        return
    if metric.id == "eval_loss":
        # Not the untrained model's test loss: it would press all others onto the axis.
        add("validation", run.evaluations("validation", DURING), "solid", VALIDATION)
        add("test", run.evaluations("test", DURING), "points", SERIES_COLOURS[4])
        return
    raw = run.series(metric.id)
    smoothed = raw is not None and metric.noisy and weight
    # Beside the smoothed line alone the raw values need no legend.
    alone = bool(smoothed) and metric.id != "loss"
    if raw is not None:
        mark: Mark = "dots" if smoothed else "solid"
        made.lines.append(Line.of(metric.title, run.over(raw, axis), mark, quiet=alone))
        made.colours.append(RAW if smoothed else first)
    if raw is not None and smoothed:
        made.lines.append(Line.of("smoothed", run.over(raw, axis).smooth(weight), quiet=alone))
        made.colours.append(first)
    if metric.id == "loss":
        add("validation", run.evaluations("validation", DURING), "points", VALIDATION)
        add("warnings", run.warned(), "points", WARNED)


def _memory(run: RunCurves, add: Add) -> None:
    """This run, its peak, what was estimated before, and all that is used of the device."""
    own = run.series("memory_bytes")
    add("this run", own, "solid", SERIES_COLOURS[0])
    add("peak", run.series("peak_memory_bytes"), "dashed", SERIES_COLOURS[3])
    estimate = run.detail.row.estimated_peak_bytes
    if own is not None and isinstance(estimate, int | float):
        add("estimate", _level(own, estimate / 2**30), "dotted", SERIES_COLOURS[5])
    used = _devices(run, "used_bytes ")
    if len(used) == 1:
        add("device", run.series(used[0]), "dashdot", SERIES_COLOURS[4])
    else:
        for name in used:
            add(name.partition(" ")[2], run.series(name), "dashdot", SERIES_COLOURS[4])


def _level(along: Series, y: float) -> Series:
    """A line at ``y`` from the first to the last point of another."""
    ends = [float(along.x[0]), float(along.x[-1])]
    return Series.of(ends, [y, y])


def _devices(run: RunCurves, begins: str) -> list[str]:
    """The GPUs' readings, or the host's where there is no other."""
    found = sorted(name for name in run.names if name.startswith(begins))
    gpus = [name for name in found if not name.endswith(" host")]
    return gpus or found


def _of_many(
    made: Drawing,
    metric: Metric,
    run: RunCurves,
    axis: str,
    weight: float,
    kept: _Kept,
) -> None:
    series = _main(metric, run)
    if series is None:
        return
    colour, mark = look_of(kept.look)
    series = run.over(series, axis)
    smoothed = metric.noisy and weight
    if smoothed and kept.raw and not kept.pinned:
        made.lines.append(Line.of(f"{kept.name}, raw", series, "dots", quiet=True))
        made.colours.append(DIM[colour])
    shown = series.smooth(weight) if smoothed else series
    if kept.pinned:
        name, mark = f"★ {kept.name}", "solid"
    else:
        name = kept.name
    made.lines.append(Line.of(name, shown, mark, pinned=kept.pinned, tag=kept.tag))
    made.colours.append(BASELINE if kept.pinned else SERIES_COLOURS[colour])


def _main(metric: Metric, run: RunCurves) -> Series | None:
    """The one line by which runs are compared."""
    if metric.id == "memory":
        return run.series("memory_bytes")
    if metric.id == "utilisation":
        names = _devices(run, "utilisation ")
        return run.series(names[0]) if names else None
    if metric.id == "eval_loss":
        return run.evaluations("validation", DURING)
    return run.series(metric.id)
