"""Points of a metric that grow at their end, with what drawing and smoothing them again costs.

A frame of a series of any length touches some points per column of the chart, an added point costs
the same at the first step and at the millionth. Not safe across threads: append where you draw.
"""

import math

import numpy as np
import numpy.typing as npt

from engine.charts.extremes import Buffer, Extremes, Floats

__all__ = ["Series", "ema"]


class Series:
    """Points (x, y) with ``x`` ascending; a ``y`` that is not finite is a gap."""

    def __init__(self) -> None:
        self._x, self._y = Buffer(), Buffer()
        self._parts: dict[bool, Extremes] = {}
        self._smooth: dict[float, Series] = {}
        self._over: dict[int, tuple[Series, Series]] = {}

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> "Series":
        """Over arrays of equal length, which are not copied (and must not change)."""
        made = cls()
        made._x = Buffer(np.asarray(x, np.float64))
        made._y = Buffer(np.asarray(y, np.float64))
        return made

    def __len__(self) -> int:
        return len(self._y)

    @property
    def x(self) -> Floats:
        return self._x.values[: len(self._y)]

    @property
    def y(self) -> Floats:
        return self._y.values

    @property
    def bad(self) -> int:
        """How many values are not finite."""
        part = self.usable()
        part.sync()
        return part.unusable

    def append(self, x: npt.ArrayLike, y: npt.ArrayLike) -> None:
        """Add points: two numbers or two arrays of equal length.

        Raises:
            ValueError: lengths differ, or ``x`` descends or is not finite (after a resume:
                :meth:`truncate` first).
        """
        x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"x has the shape {x.shape}, y {y.shape}")
        if not len(x):
            return
        last = self._x.values[-1] if len(self._x) else -np.inf
        if not (np.isfinite(x).all() and x[0] >= last and (x[1:] >= x[:-1]).all()):
            raise ValueError(f"x must ascend and be finite: {x[0]} to {x[-1]} after {last}")
        self._x.extend(x)
        self._y.extend(y)

    def truncate(self, x: float) -> int:
        """Drop the points from ``x`` on, as a resumed run repeats them; returns how many."""
        size = int(np.searchsorted(self.x, x))
        dropped = len(self) - size
        self._cut(size)
        return dropped

    def _cut(self, size: int) -> None:
        self._x.cut(size)
        self._y.cut(size)
        for part in self._parts.values():
            part.cut(size)
        for child in self._smooth.values():
            child._cut(size)
        for child, _ in self._over.values():
            child._cut(size)

    def usable(self, positive: bool = False) -> Extremes:
        """Gaps and extremes; ``positive``: of the values above zero only."""
        part = self._parts.get(positive)
        if part is None:
            part = self._parts[positive] = Extremes(self._y, positive)
        part.sync()
        return part

    def bounds(
        self, begin: int = 0, end: int | None = None, *, positive: bool = False
    ) -> tuple[float, float] | None:
        """Lowest and highest usable value of the points ``begin`` to ``end``; None: no such."""
        end = len(self) if end is None else end
        low, high = self.usable(positive).of(np.array([begin]), np.array([end]))
        return (float(low[0]), float(high[0])) if low[0] <= high[0] else None

    def window(self, x_range: tuple[float, float]) -> tuple[int, int]:
        """The slice of points with ``x`` inside ``x_range``, its ends included."""
        x = self.x
        return (
            int(np.searchsorted(x, x_range[0], side="left")),
            int(np.searchsorted(x, x_range[1], side="right")),
        )

    def smooth(self, weight: float) -> "Series":
        """Its :func:`ema` as a series of the same ``x``, carried on for the points added since.

        ``weight`` is the share of the past, 0 <= weight < 1. Ask again after :meth:`append`.
        """
        if not 0 < weight < 1:
            return self
        child = self._smooth.get(weight)
        if child is None:
            child = self._smooth[weight] = Series()
            child._x = self._x
        begin = len(child)
        if begin == len(self):
            return child
        count, past = begin - child.bad, 0.0
        if count:
            last = child.usable().previous(np.array([begin - 1]))[0]
            past = float(child.y[last]) * (1 - weight**count)
        child._y.extend(_carried(self.y[begin:], weight, past, count))
        return child

    def over(self, clock: "Series") -> "Series":
        """The same values over ``clock``: a series (step -> tokens, seconds, epoch) that ascends.

        Points between two of the clock's are put between its values; points past its last wait
        until it has gone on. Ask again after :meth:`append`; truncate both when a run was resumed.
        """
        child, _ = self._over.get(id(clock), (None, None))
        if child is None:
            child = Series()
            self._over[id(clock)] = (child, clock)  # the clock is kept, so its id stays its own
        if not len(clock):
            return child
        begin, end = len(child), int(np.searchsorted(self.x, clock.x[-1], side="right"))
        if begin >= end:
            return child
        known = np.isfinite(clock.y)
        if not known.any():
            return child
        places = np.interp(self.x[begin:end], clock.x[known], clock.y[known])
        if begin:
            places[0] = max(places[0], child.x[-1])
        child.append(np.maximum.accumulate(places), self.y[begin:end])
        return child

    def nearest(self, x: float) -> int | None:
        """The place of the point nearest to ``x``, in O(log n); None: there is no point."""
        if not len(self):
            return None
        at = int(np.searchsorted(self.x, x))
        if at == len(self) or (at and x - self.x[at - 1] <= self.x[at] - x):
            at -= 1
        return at


def ema(y: Floats, weight: float) -> Floats:
    """Exponential moving average over every point, debiased; non-finite points stay gaps.

    ``weight`` is the share of the past, 0 <= weight < 1. :meth:`Series.smooth` carries one on.
    """
    y = np.asarray(y, dtype=np.float64)
    if not 0 < weight < 1 or not len(y):
        return y.copy()
    return _carried(y, weight, 0.0, 0)


def _carried(y: Floats, weight: float, past: float, count: int) -> Floats:
    """The average goes on after ``count`` finite points whose sum, not debiased, is ``past``.

    Blocks of cumulative sums, because the plain recursion is a Python loop.
    """
    finite = np.isfinite(y)
    values = y if finite.all() else y[finite]
    if not len(values):
        return np.full(len(y), np.nan)
    size = max(1, min(512, len(values), int(150 / -math.log10(weight))))
    blocks = -(-len(values) // size)
    padded = np.zeros(blocks * size)
    padded[: len(values)] = values
    powers = weight ** np.arange(size)
    sums = np.cumsum((1 - weight) * padded.reshape(blocks, size) / powers, axis=1) * powers
    whole = weight**size
    carries = []
    for end in sums[:, -1].tolist():
        carries.append(past)
        past = end + past * whole
    sums += np.array(carries)[:, None] * (powers * weight)
    smooth = sums.ravel()[: len(values)]
    # Later the sum of all weights is 1 to the last bit.
    early = max(0, min(len(values), math.ceil(-40 / math.log(weight)) - count))
    smooth[:early] /= 1 - weight ** np.arange(count + 1, count + early + 1)
    if values is y:
        return smooth
    made = np.full(len(y), np.nan)
    made[finite] = smooth
    return made
