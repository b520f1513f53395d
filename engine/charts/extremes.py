"""The lowest and highest value of any slice of growing values, without touching every value.

Blocks of 64 values keep their lowest and highest, blocks of 64 blocks theirs, and so on: a slice
costs its two ends on each level. What is not usable (not finite; for a logarithm: not positive) is
left out and known as gaps.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Buffer", "Extremes", "Floats", "Ints"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK = 64
_WITHIN = np.arange(BLOCK)


class Buffer:
    """An array that grows at its end; what is there is copied only when its room doubles."""

    def __init__(
        self, held: "Floats | Ints | None" = None, dtype: npt.DTypeLike = np.float64
    ) -> None:
        self._held: Any = np.empty(0, dtype) if held is None else held
        self._size = len(self._held)

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """What is there, as a view: good until the next :meth:`cut`."""
        return self._held[: self._size]

    def extend(self, values: npt.ArrayLike) -> None:
        new = np.asarray(values, self._held.dtype)
        size = self._size + len(new)
        if size > len(self._held):
            held = np.empty(max(size, 2 * self._size, 64), self._held.dtype)
            held[: self._size] = self._held[: self._size]
            self._held = held
        self._held[self._size : size] = new
        self._size = size

    def cut(self, size: int) -> None:
        """Keep the first ``size`` values."""
        self._size = min(self._size, size)


class Extremes:
    """Gaps and extremes of the values of a :class:`Buffer`; :meth:`sync` takes in what was added.

    ``positive``: only values above zero are usable.
    """

    def __init__(self, y: Buffer, positive: bool = False) -> None:
        self._y, self._positive = y, positive
        self._seen = 0
        self._starts, self._stops = Buffer(dtype=np.int64), Buffer(dtype=np.int64)
        self._levels: list[tuple[Buffer, Buffer]] = []
        self.unusable = 0
        """How many of the values are in gaps."""

    def usable(self, y: Floats) -> npt.NDArray[np.bool_]:
        good = np.isfinite(y)
        return good & (y > 0) if self._positive else good

    def cut(self, size: int) -> None:
        """Forget the values from ``size`` on."""
        if size >= self._seen:
            return
        self._seen = size
        starts, stops = self._starts, self._stops
        starts.cut(int(np.searchsorted(starts.values, size)))
        stops.cut(len(starts))
        np.minimum(stops.values, size, out=stops.values)
        self.unusable = int((stops.values - starts.values).sum())
        for low, high in self._levels:
            size = -(-size // BLOCK)
            low.cut(size)
            high.cut(size)

    def sync(self) -> None:
        begin, end = self._seen, len(self._y)
        if begin == end:
            return
        self._seen = end
        bad = ~self.usable(self._y.values[begin:end])
        if bad.any():
            self._add_gaps(bad, begin)
        # The last block may have been a part of one: it is made anew.
        level, first = 0, begin // BLOCK
        while level < len(self._levels) or end > BLOCK:
            low, high = self._source(level, first * BLOCK, end)
            if level == len(self._levels):
                self._levels.append((Buffer(), Buffer()))
            borders = np.arange(0, len(low), BLOCK)
            for kept, made in zip(
                self._levels[level],
                (np.minimum.reduceat(low, borders), np.maximum.reduceat(high, borders)),
                strict=True,
            ):
                kept.cut(first)
                kept.extend(made)
            level, first, end = level + 1, first // BLOCK, -(-end // BLOCK)

    def _add_gaps(self, bad: npt.NDArray[np.bool_], begin: int) -> None:
        turns = np.flatnonzero(np.diff(bad, prepend=False, append=False)) + begin
        starts, stops = turns[::2], turns[1::2]
        self.unusable += int((stops - starts).sum())
        if len(self._stops) and self._stops.values[-1] == starts[0]:  # the last gap goes on
            self._stops.values[-1] = stops[0]
            starts, stops = starts[1:], stops[1:]
        self._starts.extend(starts)
        self._stops.extend(stops)

    def _source(self, level: int, begin: int, end: int) -> tuple[Floats, Floats]:
        """Lows and highs of a level from ``begin`` to ``end``; level 0: the values."""
        if level:
            low, high = self._levels[level - 1]
            return low.values[begin:end], high.values[begin:end]
        y = self._y.values[begin:end]
        return self._masked(y, y)

    def _masked(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        if not self.unusable:
            return low, high
        good = self.usable(low)
        return np.where(good, low, np.inf), np.where(good, high, -np.inf)

    def of(self, begins: Ints, ends: Ints) -> tuple[Floats, Floats]:
        """Lowest and highest usable value of each slice ``begins[i]`` to ``ends[i]``.

        The slices ascend and do not overlap. Infinity and minus infinity where there is none.
        """
        self.sync()
        low, high = np.full(len(begins), np.inf), np.full(len(begins), -np.inf)
        self._widen(0, np.asarray(begins), np.asarray(ends), low, high)
        return low, high

    def _widen(self, level: int, begins: Ints, ends: Ints, low: Floats, high: Floats) -> None:
        at = np.flatnonzero(begins < ends)
        if not len(at):
            return
        begins, ends = begins[at], ends[at]
        if level == len(self._levels) or (ends - begins).sum() <= 32 * BLOCK * len(at):
            begin, end = int(begins[0]), int(ends[-1])
            lows, highs = self._source(level, begin, end)
            borders = np.stack([begins, ends], axis=1).ravel()[:-1] - begin
            low[at] = np.minimum(low[at], np.minimum.reduceat(lows, borders)[::2])
            high[at] = np.maximum(high[at], np.maximum.reduceat(highs, borders)[::2])
            return
        up, down = -(-begins // BLOCK), ends // BLOCK
        heads = begins[:, None] + _WITHIN
        tails = (down * BLOCK)[:, None] + _WITHIN
        for places, inside in (
            (heads, heads < np.minimum(up * BLOCK, ends)[:, None]),
            (tails, (tails < ends[:, None]) & (tails >= begins[:, None])),
        ):
            safe = np.where(inside, places, begins[:, None])
            lows, highs = self._gathered(level, safe)
            low[at] = np.minimum(low[at], np.where(inside, lows, np.inf).min(axis=1))
            high[at] = np.maximum(high[at], np.where(inside, highs, -np.inf).max(axis=1))
        inner_low, inner_high = np.full(len(at), np.inf), np.full(len(at), -np.inf)
        self._widen(level + 1, up, down, inner_low, inner_high)
        low[at] = np.minimum(low[at], inner_low)
        high[at] = np.maximum(high[at], inner_high)

    def _gathered(self, level: int, places: Ints) -> tuple[Floats, Floats]:
        if level:
            low, high = self._levels[level - 1]
            return low.values[places], high.values[places]
        y = self._y.values[places]
        return self._masked(y, y)

    def next(self, index: Ints) -> Ints:
        """The first usable place at or after each ``index``; may be past the end."""
        return self._past_gap(index, self._stops.values, 0)

    def previous(self, index: Ints) -> Ints:
        """The last usable place at or before each ``index``; -1: none."""
        return self._past_gap(index, self._starts.values, -1)

    def _past_gap(self, index: Ints, goal: Floats, by: int) -> Ints:
        self.sync()
        if not len(self._stops):
            return index
        gap = np.searchsorted(self._stops.values, index, side="right")
        inside = gap < len(self._stops)
        gap = np.where(inside, gap, 0)
        inside &= self._starts.values[gap] <= index
        return np.where(inside, goal[gap] + by, index)

    def gaps_before(self, index: Ints) -> Ints:
        """How many gaps begin before each ``index``: a line joins two points of one number."""
        self.sync()
        return np.searchsorted(self._starts.values, index)

    def any_gap(self, begins: Ints, ends: Ints) -> npt.NDArray[np.bool_]:
        """Whether each slice holds a value that is not usable."""
        self.sync()
        if not len(self._stops):
            return np.zeros(len(begins), dtype=bool)
        gap = np.searchsorted(self._stops.values, begins, side="right")
        inside = gap < len(self._stops)
        return inside & (self._starts.values[np.where(inside, gap, 0)] < ends)
