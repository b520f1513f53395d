"""Lines as dots of characters: what falls into a column is one slice of the points.

Nothing loops over points in Python; nothing here knows of axes or of Textual.
"""

import numpy as np
import numpy.typing as npt

from engine.charts.extremes import Floats, Ints
from engine.charts.scale import Scale
from engine.charts.series import Series
from tui.frame import (
    AXIS,
    BAD,
    CURSOR,
    GUIDE,
    MARKER,
    SUBCELLS,
    Frame,
    Line,
    Mark,
    Marker,
    Options,
    charset_for,
)

__all__ = [
    "AXIS",
    "BAD",
    "CURSOR",
    "GUIDE",
    "MARKER",
    "Area",
    "Floats",
    "Frame",
    "Line",
    "Mark",
    "Marker",
    "Options",
    "charset_for",
]

_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_QUADRANTS = np.array([ord(char) for char in " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"], dtype=np.uint32)
_QUADRANT_BITS = np.array([[1, 2], [4, 8]])
_ASCII = np.array([ord(char) for char in " '.:"], dtype=np.uint32)
_ASCII_BITS = np.array([[1], [2]])
_POINT = {"braille": "◆", "quadrant": "◆", "ascii": "o"}
_ALONE = {"braille": "•", "quadrant": "•", "ascii": "."}
"""A line of one value: a single dot would not be seen."""
_STROKES = {"dashed": (8, range(5)), "dotted": (4, range(1)), "dashdot": (10, (0, 1, 2, 3, 4, 7))}
"""Dot columns of a period that are drawn."""


class Area(Scale):
    """The plot inside the axes, and the dots it has."""

    def __init__(
        self,
        place: tuple[int, int],
        size: tuple[int, int],
        ranges: tuple[tuple[float, float], tuple[float, float]],
        options: Options,
    ) -> None:
        self.left, self.top = place
        self.width, self.height = size
        self.across, self.down = SUBCELLS[options.charset]
        super().__init__(self.width * self.across, self.height * self.down, *ranges, options)

    def cell_of(self, x: Floats) -> Ints:
        """Cell column of ``x``, counted from the plot's left; may lie outside it."""
        column = np.clip(self.column_of(x), -1e6, 1e6)
        return np.rint(column).astype(np.int64) // self.across

    def draw(self, frame: Frame, number: int, line: Line) -> None:
        points = line.points
        if not len(points):
            return
        cuts = self.cuts(points)
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, None)
        place = frame.chars[rows, columns], frame.styles[rows, columns]
        alone = len(points) - points.usable(self.options.log_y).unusable == 1
        if line.mark == "points" or alone:
            kind = _POINT if line.mark == "points" else _ALONE
            self._symbols(place, number, points, cuts, kind[self.options.charset])
        else:
            self._dots(place, number, self._rasterise(line, cuts))
        self._bad(place, points, cuts)

    def _rasterise(self, line: Line, cuts: Ints) -> npt.NDArray[np.bool_]:
        """Dots of a line: per column from the lowest to the highest value and to its neighbours."""
        usable = line.points.usable(self.options.log_y)
        low, high = usable.of(cuts[:-1], cuts[1:])
        at = np.flatnonzero(low <= high)
        top, bottom = np.full(self.columns, np.inf), np.full(self.columns, -np.inf)
        top[at], bottom[at] = self.row_of(high[at]), self.row_of(low[at])
        level = np.arange(self.rows, dtype=np.int32)[:, None]
        mark = line.mark
        if mark == "dots" and len(at) < self.columns // 3:
            mark = "dotted"  # no band to stipple: every point is seen, and a hint of the line
        if mark == "dots":
            first, last = self._rounded(top[at]), self._rounded(bottom[at])
            mask = np.zeros((self.rows, self.columns), dtype=bool)
            mask[:, at] = (level >= first) & (level <= last) & ((level + at) % 2 == 0)
            mask[first, at] = mask[last, at] = True
            return mask
        self._connect(line, cuts, at, top, bottom)
        # A line through outside values is cut at the border, not moved onto it.
        seen = (bottom >= -0.5) & (top <= self.rows - 0.5) & (top <= bottom)
        if mark in _STROKES:
            period, strokes = _STROKES[mark]
            drawn = np.isin(np.arange(self.columns) % period, strokes)
            drawn[at] |= mark != line.mark
            seen &= drawn
        first = np.where(seen, self._rounded(top), self.rows)
        return (level >= first) & (level <= self._rounded(bottom))

    def _rounded(self, row: Floats) -> npt.NDArray[np.int32]:
        return np.rint(np.clip(row, 0, self.rows - 1)).astype(np.int32)

    def _connect(self, line: Line, cuts: Ints, at: Ints, top: Floats, bottom: Floats) -> None:
        """Widen ``top`` and ``bottom`` by the lines between neighbouring columns with values.

        The nearest points outside the window count as neighbours: a line through it is drawn.
        """
        points = line.points
        usable = points.usable(self.options.log_y)
        starts, ends = usable.next(cuts[at]), usable.previous(cuts[at + 1] - 1)
        place = at.astype(np.float64)
        before, after = self.around(points, int(cuts[0]), int(cuts[-1]))
        if before is not None:
            starts, ends = np.insert(starts, 0, before), np.insert(ends, 0, before)
            place = np.insert(place, 0, self.column_of(points.x[before]))
        if after is not None:
            starts, ends = np.append(starts, after), np.append(ends, after)
            place = np.append(place, self.column_of(points.x[after]))
        if len(place) < 2:
            return
        leave, arrive = self.row_of(points.y[ends[:-1]]), self.row_of(points.y[starts[1:]])
        joined = usable.gaps_before(ends[:-1]) == usable.gaps_before(starts[1:])
        column = np.arange(self.columns)
        for side in (0, 1):  # the half of a column to its right, then to its left
            which = np.searchsorted(place, column, side="right" if side == 0 else "left") - 1
            ok = (which >= 0) & (which < len(place) - 1)
            which = np.where(ok, which, 0)
            ok &= joined[which]
            a, b = place[which], place[which + 1]
            slope = (arrive[which] - leave[which]) / (b - a)
            one = leave[which] + (column - a) * slope
            half = 0.5 if side == 0 else -0.5
            other = leave[which] + np.clip(column + half - a, 0, b - a) * slope
            # Rounding both ends towards each other keeps steep lines one dot thin.
            np.minimum(top, np.where(ok, np.minimum(one, other), np.inf), out=top)
            np.maximum(bottom, np.where(ok, np.maximum(one, other), -np.inf), out=bottom)

    def _dots(
        self,
        place: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]],
        number: int,
        mask: npt.NDArray[np.bool_],
    ) -> None:
        charset = self.options.charset
        cells = mask.view(np.uint8).reshape(self.height, self.down, self.width, self.across)
        bits = {"braille": _BRAILLE, "quadrant": _QUADRANT_BITS, "ascii": _ASCII_BITS}[charset]
        codes = np.zeros((self.height, self.width), dtype=np.uint8)
        for (row, column), bit in np.ndenumerate(bits):
            codes |= cells[:, row, :, column] * np.uint8(bit)
        some = codes > 0
        found = codes[some]
        chars, styles = place
        if charset == "braille":
            chars[some] = found + np.uint32(0x2800)
        else:
            chars[some] = (_QUADRANTS if charset == "quadrant" else _ASCII)[found]
        styles[some] = number

    def _symbols(
        self,
        place: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]],
        number: int,
        points: Series,
        cuts: Ints,
        symbol: str,
    ) -> None:
        usable = points.usable(self.options.log_y)
        if cuts[-1] - cuts[0] > 8 * self.columns:  # the outermost of every column
            low, high = usable.of(cuts[:-1], cuts[1:])
            at = np.flatnonzero(low <= high)
            column, y = np.concatenate([at, at]) // self.across, np.concatenate([low[at], high[at]])
        else:
            x, y = points.x[cuts[0] : cuts[-1]], points.y[cuts[0] : cuts[-1]]
            good = usable.usable(y)
            column, y = self.cell_of(x[good]), y[good]
        row = np.rint(np.clip(self.row_of(y), -1e6, 1e6)).astype(np.int64) // self.down
        ok = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        chars, styles = place
        chars[row[ok], column[ok]] = ord(symbol)
        styles[row[ok], column[ok]] = number

    def _bad(
        self,
        place: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]],
        points: Series,
        cuts: Ints,
    ) -> None:
        """A cross on the lowest row under every non-finite value."""
        if not points.bad:
            return
        some = points.usable().any_gap(cuts[:-1], cuts[1:])
        column = np.flatnonzero(some.reshape(self.width, self.across).any(axis=1))
        chars, styles = place
        chars[-1, column] = ord("x" if self.options.charset == "ascii" else "×")
        styles[-1, column] = BAD
