"""Which curves a run shows, and how: the loss with its smoothing, the evaluations, the rest."""

from typing import TYPE_CHECKING, Any

from tui.feed import RunDetail

if TYPE_CHECKING:
    from tui.raster import Line

__all__ = [
    "WEIGHTS",
    "loss_colours",
    "loss_lines",
    "metric_line",
    "next_weight",
    "points_of",
    "weight_for",
]

WEIGHTS = (0.0, 0.6, 0.9, 0.99)
"""What ``S`` cycles through: the share of the past in the moving average."""

RAW, SMOOTH, VALIDATION, WARNED = "#5f87af", "#5fafff", "#ffd75f", "#ff8787"


def weight_for(points: int) -> float:
    """The smoothing that a curve of so many points begins with: long ones bear more."""
    return 0.6 if points < 500 else 0.9 if points < 20_000 else 0.99


def next_weight(now: float | None, detail: RunDetail | None) -> float:
    """The one after ``now`` in :data:`WEIGHTS`; None: after the one it began with."""
    if now is None:
        found = detail.series.get("loss") if detail else None
        now = weight_for(len(found[0]) if found is not None else 0)
    return WEIGHTS[(WEIGHTS.index(now) + 1) % len(WEIGHTS)]


def loss_lines(detail: RunDetail, weight: float) -> "list[Line]":
    """Raw loss, its moving average over every step, validation and test as points."""
    import numpy as np

    from tui.plotting import ema
    from tui.raster import Line

    lines = []
    x, y = detail.series.get("loss", (np.empty(0), np.empty(0)))
    if len(x):
        lines.append(Line("loss", x, y, "dots" if weight else "solid"))
        if weight:
            lines.append(Line(f"smoothed {weight:g}", x, ema(y, weight)))
    if points := points_of(detail, "validation", ("during", "asked", "after", "before")):
        lines.append(Line("validation", *points, "points"))
    if points := _warned(detail):
        lines.append(Line("warnings", *points, "points"))
    return lines


def loss_colours(lines: "list[Line]") -> list[str]:
    """Their colours: the raw line steps back when there is a smoothed one."""
    chosen = {"loss": RAW if len(lines) > 1 and "smoothed" in lines[1].name else SMOOTH}
    chosen |= {"validation": VALIDATION, "warnings": WARNED}
    return [chosen.get(line.name, SMOOTH) for line in lines]


def _warned(detail: RunDetail) -> tuple[Any, Any] | None:
    """Where the run warned, as when the watchdog lowered the rate: on the last loss before it."""
    import numpy as np

    steps = sorted(
        {
            step
            for one in detail.notices
            if one.get("type") == "warning"
            and isinstance(one.get("event"), dict)
            and isinstance(step := one["event"].get("step"), int)
        }
    )
    x, y = detail.series.get("loss", (np.empty(0), np.empty(0)))
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if not steps or not len(x):
        return None
    places = np.clip(np.searchsorted(x, steps, side="right") - 1, 0, len(x) - 1)
    return np.array(steps, dtype=np.float64), y[places]


def metric_line(detail: RunDetail, name: str) -> "list[Line]":
    """One metric as one solid line; nothing when the run has none of it."""
    from tui.raster import Line

    found = detail.series.get(name)
    return [Line(name, *found)] if found is not None and len(found[0]) else []


def points_of(detail: RunDetail, split: str, whiches: tuple[str, ...]) -> tuple[Any, Any] | None:
    """Steps and losses of the evaluations of one split, in order; None where there are none."""
    import numpy as np

    found = sorted(
        (one["step"], one["loss"])
        for one in detail.evaluations
        if one.get("split") == split
        and one.get("which") in whiches
        and isinstance(one.get("step"), int)
        and isinstance(one.get("loss"), int | float)
    )
    if not found:
        return None
    steps, losses = zip(*found, strict=True)
    return np.array(steps, dtype=np.float64), np.array(losses, dtype=np.float64)
