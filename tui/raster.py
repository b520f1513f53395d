"""Lines as dots of characters: what falls into a column is one slice of the points.

Nothing loops over points in Python; nothing here knows of axes or of Textual.
"""

import itertools
import os
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "AXIS",
    "BAD",
    "GUIDE",
    "Area",
    "Floats",
    "Frame",
    "Line",
    "Options",
    "Points",
    "charset_for",
    "usable_points",
]

Floats = npt.NDArray[np.float64]
Mark = Literal["solid", "dots", "dashed", "dotted", "points"]

AXIS, GUIDE, BAD = -1, -2, -3
"""Style numbers that are no series: axis and labels, guide lines, non-finite marks."""

SUBCELLS = {"braille": (2, 4), "quadrant": (2, 2), "ascii": (1, 2)}
"""Dots of one cell, across and down."""

_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_QUADRANTS = np.array([ord(char) for char in " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"], dtype=np.uint32)
_QUADRANT_BITS = np.array([[1, 2], [4, 8]])
_ASCII = np.array([ord(char) for char in " '.:"], dtype=np.uint32)
_ASCII_BITS = np.array([[1], [2]])
_POINT = {"braille": "◆", "quadrant": "◆", "ascii": "o"}
_ALONE = {"braille": "•", "quadrant": "•", "ascii": "."}
"""A line of one value: a single dot would not be seen."""


@dataclass(frozen=True)
class Line:
    """One series. ``x`` ascends; NaN and infinities of ``y`` are gaps with a mark below.

    ``mark`` tells series apart without colour: ``solid``, ``dashed``, ``dotted`` lines; ``dots``: a
    stippled band from the highest to the lowest value of every dot column; ``points``: a symbol
    a value.
    """

    name: str
    x: Floats
    y: Floats
    mark: Mark = "solid"


@dataclass(frozen=True)
class Options:
    """How to draw. ``x_range`` None: the data's own."""

    charset: str = "braille"
    log_y: bool = False
    x_range: tuple[float, float] | None = None
    y_zero: bool = False
    """Let the axis begin at zero."""
    guides: bool = True


@dataclass
class Frame:
    """A drawn chart: characters, each with a style number (>= 0: the series)."""

    chars: npt.NDArray[np.uint32]
    styles: npt.NDArray[np.int16]
    note: str = ""
    """Why there is nothing to see."""
    y_ticks: list[float] = field(default_factory=list)

    def write(self, y: int, x: int, text: str, style: int) -> None:
        room = self.chars.shape[1] - x
        codes = [ord(char) for char in text[: max(0, room)]]
        self.chars[y, x : x + len(codes)] = codes
        self.styles[y, x : x + len(codes)] = style

    def row(self, y: int) -> str:
        return self.chars[y].astype("<u4").tobytes().decode("utf-32-le")

    def runs(self, y: int) -> list[tuple[str, int]]:
        """Row ``y`` as (text, style number) pieces."""
        text, styles = self.row(y), self.styles[y]
        cuts = [0, *(np.flatnonzero(np.diff(styles)) + 1).tolist(), len(text)]
        return [(text[a:b], int(styles[a])) for a, b in itertools.pairwise(cuts) if b > a]

    def text(self) -> str:
        """The whole frame without styles, right ends stripped: what tests compare."""
        return "\n".join(self.row(y).rstrip() for y in range(len(self.chars)))


def charset_for(environ: "os._Environ[str] | dict[str, str]" = os.environ) -> str:
    """``TUNEBENCH_CHART`` (braille, quadrant, ascii), else what the terminal's fonts can be
    expected to have: the Linux console has neither braille nor quadrants."""
    wanted = environ.get("TUNEBENCH_CHART", "").lower()
    if wanted in SUBCELLS:
        return wanted
    if environ.get("TERM") in ("linux", "dumb", "vt100", "vt220"):
        return "ascii"
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "UTF-8"
    encoding = locale.upper().replace("-", "")
    return "ascii" if encoding in ("C", "POSIX") else "braille"


@dataclass
class Points:
    """A series without its non-finite points; ``group`` counts the gaps before each point."""

    x: Floats
    y: Floats
    group: npt.NDArray[np.int64]
    bad_x: Floats
    mark: Mark


def usable_points(line: Line, log_y: bool) -> Points:
    x = np.asarray(line.x, dtype=np.float64)
    y = np.asarray(line.y, dtype=np.float64)
    good = np.isfinite(y)
    usable = good & (y > 0) if log_y else good
    group = np.cumsum(~usable)[usable]
    y = np.log10(y[usable]) if log_y else y[usable]
    return Points(x[usable], y, group, x[~good], line.mark)


@dataclass
class Area:
    """The plot inside the axes, and the dots it has."""

    left: int
    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    options: Options

    def __post_init__(self) -> None:
        across, down = SUBCELLS[self.options.charset]
        self.columns, self.rows = self.width * across, self.height * down

    def draw(self, frame: Frame, number: int, line: Points) -> None:
        place = frame.chars[: self.height, self.left :], frame.styles[: self.height, self.left :]
        if len(line.x):
            if line.mark == "points":
                self._points(place, number, line, _POINT[self.options.charset])
            elif len(line.x) == 1:
                self._points(place, number, line, _ALONE[self.options.charset])
            else:
                self._dots(place, number, self._rasterise(line))
        if len(line.bad_x):
            self._bad(place, line.bad_x)

    def _column(self, x: Floats) -> Floats:
        low, high = self.x_range
        return (x - low) * ((self.columns - 1) / (high - low))

    def _row(self, y: Floats) -> Floats:
        """Dot row of ``y``: 0 at the top. The top and bottom dots lie on the range's ends."""
        low, high = self.y_range
        return (high - y) * ((self.rows - 1) / (high - low))

    def _rasterise(self, line: Points) -> npt.NDArray[np.bool_]:
        """Dots of a line: per column from the lowest to the highest value and to its neighbours."""
        columns, rows = self.columns, self.rows
        # Column borders in the ascending x: what lies in a column is one slice.
        edges = self.x_range[0] + (np.arange(columns + 1) - 0.5) * (
            (self.x_range[1] - self.x_range[0]) / (columns - 1)
        )
        cuts = np.searchsorted(line.x, edges)
        at = np.flatnonzero(cuts[1:] > cuts[:-1])
        mask = np.zeros((rows, columns), dtype=bool)
        if not len(at):
            return mask
        starts, ends = cuts[at], cuts[at + 1] - 1
        inside = line.y[: cuts[at[-1] + 1]]
        low = self._row(np.minimum.reduceat(inside, starts))
        high = self._row(np.maximum.reduceat(inside, starts))
        if line.mark == "dots":
            top = np.clip(np.rint(high), 0, rows - 1).astype(int)
            bottom = np.clip(np.rint(low), 0, rows - 1).astype(int)
            level = np.arange(rows)[:, None]
            stipple = (level + at) % 2 == 0
            mask[:, at] = (level >= top) & (level <= bottom) & stipple
            mask[top, at] = mask[bottom, at] = True
            return mask
        top = np.full(columns, np.inf)
        bottom = np.full(columns, -np.inf)
        top[at], bottom[at] = high, low
        if len(at) > 1:
            self._connect(line, at, starts, ends, top, bottom)
        # A line through outside values is cut at the border, not moved onto it.
        seen = (bottom >= -0.5) & (top <= rows - 0.5) & (top <= bottom)
        first = np.clip(np.rint(top), 0, rows - 1)
        last = np.clip(np.rint(bottom), 0, rows - 1)
        level = np.arange(rows)[:, None]
        mask = (level >= first) & (level <= last) & seen
        if line.mark in ("dashed", "dotted"):
            period, on = (8, 5) if line.mark == "dashed" else (4, 1)
            mask &= (np.arange(columns) % period < on)[None, :]
        return mask

    def _connect(
        self,
        line: Points,
        at: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        top: Floats,
        bottom: Floats,
    ) -> None:
        """Widen ``top`` and ``bottom`` by the lines between neighbouring columns with values."""
        leave, arrive = self._row(line.y[ends[:-1]]), self._row(line.y[starts[1:]])
        joined = line.group[ends[:-1]] == line.group[starts[1:]]
        column = np.arange(self.columns)
        for side in (0, 1):  # the half of a column to its right, then to its left
            which = np.searchsorted(at, column, side="right" if side == 0 else "left") - 1
            ok = (which >= 0) & (which < len(at) - 1)
            which = np.where(ok, which, 0)
            ok &= joined[which]
            a, b = at[which], at[which + 1]
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
        across, down = SUBCELLS[charset]
        cells = mask.reshape(self.height, down, self.width, across).transpose(0, 2, 1, 3)
        bits = {"braille": _BRAILLE, "quadrant": _QUADRANT_BITS, "ascii": _ASCII_BITS}[charset]
        codes = (cells * bits).sum(axis=(2, 3))
        some = codes > 0
        if charset == "braille":
            glyphs = (codes + 0x2800).astype(np.uint32)
        else:
            glyphs = (_QUADRANTS if charset == "quadrant" else _ASCII)[codes]
        chars, styles = place
        chars[some] = glyphs[some]
        styles[some] = number

    def _cells(self, x: Floats, y: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        across, down = SUBCELLS[self.options.charset]
        column = np.rint(self._column(x)).astype(np.int64) // across
        row = np.rint(self._row(y)).astype(np.int64) // down
        return column, row

    def _points(
        self,
        place: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]],
        number: int,
        line: Points,
        symbol: str,
    ) -> None:
        column, row = self._cells(line.x, line.y)
        ok = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        chars, styles = place
        chars[row[ok], column[ok]] = ord(symbol)
        styles[row[ok], column[ok]] = number

    def _bad(self, place: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]], x: Floats) -> None:
        """A cross on the lowest row under every non-finite value."""
        across, _ = SUBCELLS[self.options.charset]
        column = np.unique(np.rint(self._column(x)).astype(np.int64) // across)
        column = column[(column >= 0) & (column < self.width)]
        chars, styles = place
        chars[-1, column] = ord("x" if self.options.charset == "ascii" else "×")
        styles[-1, column] = BAD
