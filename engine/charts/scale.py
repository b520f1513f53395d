"""Which x and y a chart shows, and where they lie on it: ranges that move in steps, and scales."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.charts.extremes import Floats, Ints
from engine.charts.lines import Line, Options
from engine.charts.series import Series
from engine.charts.ticks import nice_step

__all__ = ["Range", "Scale", "data_range", "ranges"]

Range = tuple[float, float]


@dataclass
class Scale:
    """``columns`` x ``rows`` dots; ``y_range`` is in decades where the y axis is logarithmic."""

    columns: int
    rows: int
    x_range: Range
    y_range: Range
    options: Options

    def column_of(self, x: Floats) -> Floats:
        """Dot column of ``x``: 0 and the last one lie on the range's ends."""
        low, high = self.x_range
        if self.options.log_x:
            low, high, x = math.log10(low), math.log10(high), np.log10(np.maximum(x, 1e-300))
        return (x - low) * ((self.columns - 1) / (high - low))

    def x_of(self, column: Floats) -> Floats:
        """The x of dot columns: the inverse of :meth:`column_of`."""
        low, high = self.x_range
        if self.options.log_x:
            low, high = math.log10(low), math.log10(high)
        x = low + column * ((high - low) / (self.columns - 1))
        return 10**x if self.options.log_x else x

    def row_of(self, y: Floats) -> Floats:
        """Dot row of ``y``: 0 at the top. The top and bottom dots lie on the range's ends."""
        low, high = self.y_range
        y = np.log10(y) if self.options.log_y else y
        return (high - y) * ((self.rows - 1) / (high - low))

    def cuts(self, points: Series) -> Ints:
        """Borders of the dot columns in the ascending x: what lies in a column is one slice."""
        return np.searchsorted(
            points.x, self.x_of(np.arange(self.columns + 1, dtype=np.float64) - 0.5)
        )

    def around(self, points: Series, begin: int, end: int) -> tuple[int | None, int | None]:
        """The nearest usable points before ``begin`` and from ``end`` on: lines come from there."""
        usable = points.usable(self.options.log_y)
        before = int(usable.previous(np.array([begin - 1]))[0])
        after = int(usable.next(np.array([end]))[0])
        if before >= 0 and self.options.log_x and points.x[before] <= 0:
            before = -1
        return before if before >= 0 else None, after if after < len(points) else None


def ranges(lines: Sequence[Line], options: Options) -> tuple[Range, Range] | str:
    """The x and y to show; or, in words, why there is nothing to see."""
    x_range = options.x_range or data_range(lines, options)
    y_range = _y_range(lines, x_range, options) if x_range else None
    return _why_nothing(lines, options) if not x_range or not y_range else (x_range, y_range)


def _why_nothing(lines: Sequence[Line], options: Options) -> str:
    if not any(len(line.points) for line in lines):
        return "no points yet"
    if options.log_y and all(
        line.points.usable(True).unusable == len(line.points) for line in lines
    ):
        return "no positive values"
    if all(line.points.bad == len(line.points) for line in lines):
        return "no finite values"
    return "no positive x" if options.log_x and not options.x_range else "nothing in this window"


def data_range(lines: Sequence[Line], options: Options) -> tuple[float, float] | None:
    """The x from the first to the last point, as the axis without a zoom shows it."""
    ends = []
    for line in lines:
        x, points = line.points.x, line.points
        if points.usable(options.log_y).unusable == len(points):
            continue
        first = int(np.searchsorted(x, 0.0, side="right")) if options.log_x else 0
        if first < len(x):
            ends.append((x[first], x[-1]))
    if not ends:
        return None
    low, high = float(min(a for a, _ in ends)), float(max(b for _, b in ends))
    if options.log_x:
        return (low, high) if high > low * 1.0001 else (low / 2, high * 2)
    if high <= low:
        return low - 1.0, high + 1.0
    if 0 < low <= 0.05 * (high - low):
        low = 0.0
    step = nice_step(high - low, 40)
    return low, low + math.ceil((high - low) / step - 1e-9) * step


def _y_range(
    lines: Sequence[Line], x_range: tuple[float, float], options: Options
) -> tuple[float, float] | None:
    found = [_bounds(line, x_range, options, 0) for line in lines]
    if not any(found):  # between two points there may be a line
        found = [_bounds(line, x_range, options, 1) for line in lines]
    ends = [bounds for bounds in found if bounds]
    if not ends:
        return None
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    if options.log_y:
        low, high = math.log10(low), math.log10(high)
    if options.y_zero and not options.log_y:
        low = min(low, 0.0)
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-300):
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    # Rescaling in steps of 5 % keeps unchanged rows unchanged: less for the link to carry.
    step = nice_step(high - low, 20)
    bottom = math.floor(low / step + 1e-9) * step
    top = math.ceil(high / step - 1e-9) * step
    return (bottom if bottom < top else bottom - step), top


def _bounds(
    line: Line, x_range: tuple[float, float], options: Options, beyond: int
) -> tuple[float, float] | None:
    begin, end = line.points.window(x_range)
    if beyond and not (0 < begin < len(line.points)):
        return None
    begin, end = max(0, begin - beyond), min(len(line.points), end + beyond)
    return line.points.bounds(begin, end, positive=options.log_y)
