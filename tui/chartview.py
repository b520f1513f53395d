"""Looking into a chart: what stands under a cell, where the cursor goes next, other windows.

Pure functions over a drawn frame and its lines.
"""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tui.frame import Frame, Line, Mark

__all__ = ["Reading", "look_of", "looks", "moved", "panned", "value_at", "x_at", "zoomed"]

MARKS: tuple[Mark, ...] = ("solid", "dashed", "dotted", "dashdot")
LOOKS = 24
"""How many looks differ: six colours, each with four marks."""


@dataclass(frozen=True)
class Reading:
    """The point of a line nearest to a cell, and the extremes of its points in that cell.

    ``y`` may be NaN or infinite: a gap. ``low`` and ``high``: ``y`` where the cell has no point.
    """

    name: str
    x: float
    y: float
    low: float
    high: float


def x_at(frame: Frame, column: int) -> float | None:
    """The x in the middle of cell ``column`` of the frame; None outside the plot."""
    area = frame.area
    if area is None or not 0 <= column - area.left < area.width:
        return None
    middle = (column - area.left) * area.across + (area.across - 1) / 2
    return float(area.x_of(np.float64(middle)))


def value_at(frame: Frame, lines: Sequence[Line], column: int) -> list[Reading | None]:
    """For each line what it reads at cell ``column`` of the frame, in O(log n).

    None: the line has no point, or the column is outside the plot.
    """
    x = x_at(frame, column)
    if x is None or frame.area is None:
        return [None] * len(lines)
    first = (column - frame.area.left) * frame.area.across - 0.5
    begin, end = frame.area.x_of(np.array([first, first + frame.area.across]))
    made: list[Reading | None] = []
    for line in lines:
        points = line.points
        at = points.nearest(x)
        if at is None:
            made.append(None)
            continue
        y = float(points.y[at])
        a, b = np.searchsorted(points.x, [begin, end])
        low, high = points.bounds(int(a), int(b)) or (y, y)
        made.append(Reading(line.name, float(points.x[at]), y, low, high))
    return made


def moved(frame: Frame, lines: Sequence[Line], x: float, cells: int) -> float:
    """Where a cursor at ``x`` comes to by ``cells`` cells: always onto a point of one of the lines.

    It moves at least to the next point, however far that is, and not past the first or last.
    """
    area = frame.area
    if area is None or not cells:
        return x
    goal = float(area.x_of(area.column_of(np.float64(x)) + cells * area.across))
    nearest, beyond = [], []
    for line in lines:
        points = line.points
        at = points.nearest(goal)
        if at is None:
            continue
        nearest.append(float(points.x[at]))
        side = int(np.searchsorted(points.x, x, side="right" if cells > 0 else "left"))
        side -= cells < 0
        if 0 <= side < len(points):
            beyond.append(float(points.x[side]))
    ahead = [one for one in nearest if (one - x) * cells > 0]
    if ahead:
        return min(ahead, key=lambda one: abs(one - goal))
    return min(beyond, key=lambda one: abs(one - x), default=x)


def zoomed(
    window: tuple[float, float],
    whole: tuple[float, float],
    factor: float,
    around: float | None = None,
    *,
    log: bool = False,
) -> tuple[float, float] | None:
    """``window`` made ``factor`` times as wide (0.5: closer) with ``around`` (None: the middle)
    staying where it is; inside ``whole``. None: it would be all of it."""
    low, high, first, last = _logs((*window, *whole), log)
    fixed = (low + high) / 2 if around is None else _logs((around,), log)[0]
    fixed = min(max(fixed, low), high)
    span = max((high - low) * factor, (last - first) * 1e-9)
    if span >= (last - first) * 0.999:
        return None
    low = fixed - (fixed - low) / (high - low) * span
    return _inside(low, span, first, last, log)


def panned(
    window: tuple[float, float], whole: tuple[float, float], share: float, *, log: bool = False
) -> tuple[float, float]:
    """``window`` moved by ``share`` of its width, to the right or (below zero) the left; it stays
    inside ``whole``."""
    low, high, first, last = _logs((*window, *whole), log)
    return _inside(low + (high - low) * share, high - low, first, last, log)


def _logs(values: tuple[float, ...], log: bool) -> list[float]:
    return [math.log10(value) if log else value for value in values]


def _inside(low: float, span: float, first: float, last: float, log: bool) -> tuple[float, float]:
    low = max(first, min(low, last - span))
    ends = low, low + span
    return (10 ** ends[0], 10 ** ends[1]) if log else ends


def looks(ids: Iterable[str], kept: Mapping[str, int] | None = None) -> dict[str, int]:
    """A look of each id, the same in every session: a number for :func:`look_of`.

    It follows from the id; where two would share one, the later takes the next that is free, and
    no colour is there twice before all six are.
    Ids of ``kept`` stay as they are there. More ids than :data:`LOOKS` share.
    """
    made: dict[str, int] = {}
    kept = kept or {}
    ids = list(dict.fromkeys(ids))
    used = {kept[one] for one in ids if one in kept}
    for one in ids:
        if one not in kept:
            first = zlib.crc32(one.encode("utf-8", "surrogatepass"))
            tries = [(first + step) % LOOKS for step in range(LOOKS)]
            free = [look for look in tries if look not in used] or tries
            colours = {look % 6 for look in used}
            made[one] = next((look for look in free if look % 6 not in colours), free[0])
            used.add(made[one])
        else:
            made[one] = kept[one]
    return made


def look_of(number: int) -> tuple[int, Mark]:
    """Look ``number`` -> (number of the colour below 6, line mark): all 24 differ."""
    return number % 6, MARKS[(number + number // 6) % 4]
