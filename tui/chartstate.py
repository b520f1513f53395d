"""How charts are looked at: smoothing, axes, the part of x that is shown, the cursor. One for all
charts of a screen, so that they show the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.curvebook import RunCurves

__all__ = ["AXES", "WEIGHTS", "ChartState", "weight_for"]

AXES = ("step", "tokens", "minutes", "epoch")
"""What ``x`` cycles through."""

WEIGHTS = (0.0, 0.6, 0.9, 0.99)
"""What ``S`` cycles through: the share of the past in the moving average."""
Window = tuple[float, float]


def weight_for(points: int) -> float:
    """The smoothing that a curve of so many points begins with: long ones bear more."""
    return 0.6 if points < 500 else 0.9 if points < 20_000 else 0.99


@dataclass
class ChartState:
    """What the keys change."""

    weight: float | None = None
    """Of the smoothing; None: as it suits the number of points."""
    log: set[str] = field(default_factory=set)
    """Metrics on a logarithmic axis."""
    axis: str = "step"
    window: Window | None = None
    """In the axis's unit; None: everything."""
    cursor: float | None = None
    """Where values are read; None: there is no cursor."""
    pinned: str | None = None
    """The run that others are compared with."""

    def smoothing(self, points: int) -> float:
        return weight_for(points) if self.weight is None else self.weight

    def next_weight(self, points: int) -> None:
        now = WEIGHTS.index(self.smoothing(points))
        self.weight = WEIGHTS[(now + 1) % len(WEIGHTS)]

    def toggle_log(self, metric: str) -> None:
        self.log ^= {metric}

    def next_axis(self, runs: "Sequence[RunCurves]") -> None:
        """The next one that every run can tell; window and cursor are of the one before."""
        there = [axis for axis in AXES if all(run.has(axis) for run in runs)]
        self.axis = (
            there[(there.index(self.axis) + 1) % len(there)] if self.axis in there else "step"
        )
        self.window = self.cursor = None

    def forget_place(self) -> None:
        """Other runs are looked at: neither window nor cursor is theirs."""
        self.window = self.cursor = None
