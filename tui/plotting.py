"""Charts as text: decimate -> rasterise -> rows of characters with style numbers. Pure functions.

Measured for 110x36 cells: one series of 100,000 points in about 2 ms (``tests/tui/test_chart.py``
keeps it below 10 ms). Nothing loops over points in Python; nothing here knows Textual.
"""

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "Frame",
    "Line",
    "Options",
    "charset_for",
    "draw",
    "ema",
    "nice_ticks",
    "tick_labels",
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


# --- numbers


def ema(y: Floats, weight: float) -> Floats:
    """Exponential moving average over every point, debiased; non-finite points stay gaps.

    ``weight`` is the share of the past, 0 <= weight < 1. 100,000 points take about 2 ms: blocks of
    cumulative sums, because the plain recursion is a Python loop.
    """
    y = np.asarray(y, dtype=np.float64)
    if not 0 < weight < 1 or not len(y):
        return y.copy()
    finite = np.isfinite(y)
    values = y[finite]
    if not len(values):
        return np.full(len(y), np.nan)
    size = max(1, min(512, int(150 / -math.log10(weight))))
    blocks = -(-len(values) // size)
    padded = np.zeros(blocks * size)
    padded[: len(values)] = values
    powers = weight ** np.arange(size)
    sums = np.cumsum((1 - weight) * padded.reshape(blocks, size) / powers, axis=1) * powers
    ends, carry, whole = sums[:, -1], 0.0, weight**size
    carries = np.empty(blocks)
    for index in range(blocks):
        carries[index] = carry
        carry = ends[index] + carry * whole
    smooth = (sums + carries[:, None] * (powers * weight)).ravel()[: len(values)]
    smooth /= 1 - weight ** np.minimum(np.arange(1, len(values) + 1), 10_000_000)
    made = np.full(len(y), np.nan)
    made[finite] = smooth
    return made


def nice_step(span: float, count: float) -> float:
    """The 1-2-5 step that cuts ``span`` into at most ``count`` pieces."""
    raw = span / max(1.0, count)
    if not (raw > 0 and math.isfinite(raw)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        if power * factor >= raw * (1 - 1e-9):
            return power * factor
    return power * 10


def nice_ticks(low: float, high: float, count: float) -> list[float]:
    """Round values inside [low, high], at most about ``count`` of them."""
    step = nice_step(high - low, count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, min(last, first + 64) + 1)]


def log_ticks(low: float, high: float, count: float) -> list[float]:
    """Decades inside [low, high] > 0, with 2 and 5 between them when there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= count:
            break
    if len(ticks) < 2:
        ticks = [tick for tick in nice_ticks(low, high, count) if tick > 0] or ticks
    return ticks[:: max(1, math.ceil(len(ticks) / max(1.0, count)))]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Short labels that differ: 1.5k, 2.31, 3e-4, never more digits than the step needs."""
    if not ticks:
        return []
    biggest = max(abs(tick) for tick in ticks)
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=biggest) or 1.0
    if biggest >= 1000:
        power = min(4, int(math.log10(biggest * 1.0000001)) // 3)
        scale, suffix = 1000.0**power, " kMGT"[power]
        digits = max(0, -math.floor(math.log10(step / scale) + 1e-9))
        return [f"{t / scale:.{digits}f}{suffix}" if abs(t) > 1e-12 else "0" for t in ticks]
    if 0 < biggest < 1e-2:
        power = math.floor(math.log10(biggest) + 1e-9)
        digits = max(0, power - math.floor(math.log10(step) + 1e-9))
        return [f"{t / 10.0**power:.{digits}f}e{power}" if abs(t) > 1e-15 else "0" for t in ticks]
    digits = min(12, max(0, -math.floor(math.log10(step) + 1e-9)))
    return [f"{t:.{digits}f}" for t in ticks]


# --- drawing


def draw(lines: Sequence[Line], width: int, height: int, options: Options | None = None) -> Frame:
    """Draw ``lines``, later ones on top, into ``width`` x ``height`` cells with axes.

    Every cell belongs to one series (the last that touches it), so that colours never mix.
    """
    options = options or Options()
    chars = np.full((max(0, height), max(0, width)), ord(" "), dtype=np.uint32)
    frame = Frame(chars, np.full(chars.shape, AXIS, dtype=np.int16))
    if width < 8 or height < 3:
        frame.note = "too small"
        return frame
    kept = [_clean(line, options.log_y) for line in lines]
    x_range = options.x_range or _x_range(kept)
    y_range = _y_range(kept, x_range, options) if x_range else None
    if x_range is None or y_range is None:
        some = any(len(line.x) for line in lines)
        frame.note = "no positive values" if some and options.log_y else "no points yet"
        if some and not options.log_y:
            frame.note = "no finite values"
        middle = (width - len(frame.note)) // 2
        _write(frame, height // 2, max(0, middle), frame.note[:width], AXIS)
        return frame
    plot_height = height - 1
    left = _draw_y_axis(frame, y_range, plot_height, options)
    _draw_x_axis(frame, x_range, left, plot_height)
    area = _Area(left, width - left, plot_height, x_range, y_range, options)
    for number, line in enumerate(kept):
        area.draw(frame, number, line)
    return frame


@dataclass
class _Kept:
    """A series without its non-finite points; ``group`` counts the gaps before each point."""

    x: Floats
    y: Floats
    group: npt.NDArray[np.int64]
    bad_x: Floats
    mark: Mark


def _clean(line: Line, log_y: bool) -> _Kept:
    x = np.asarray(line.x, dtype=np.float64)
    y = np.asarray(line.y, dtype=np.float64)
    good = np.isfinite(y)
    usable = good & (y > 0) if log_y else good
    group = np.cumsum(~usable)[usable]
    y = np.log10(y[usable]) if log_y else y[usable]
    return _Kept(x[usable], y, group, x[~good], line.mark)


def _x_range(lines: Sequence[_Kept]) -> tuple[float, float] | None:
    ends = [(line.x[0], line.x[-1]) for line in lines if len(line.x)]
    if not ends:
        return None
    low, high = float(min(a for a, _ in ends)), float(max(b for _, b in ends))
    if high <= low:
        return low - 1.0, high + 1.0
    if 0 < low <= 0.05 * (high - low):
        low = 0.0
    step = nice_step(high - low, 40)
    return low, low + math.ceil((high - low) / step - 1e-9) * step


def _y_range(
    lines: Sequence[_Kept], x_range: tuple[float, float], options: Options
) -> tuple[float, float] | None:
    low, high = math.inf, -math.inf
    for line in lines:
        y = line.y
        if options.x_range is not None and len(y):
            a, b = np.searchsorted(line.x, [x_range[0], x_range[1]], side="left")
            y = y[a : b + 1]
        if len(y):
            low, high = min(low, float(y.min())), max(high, float(y.max()))
    if low > high:
        return None
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


def _write(frame: Frame, y: int, x: int, text: str, style: int) -> None:
    room = frame.chars.shape[1] - x
    codes = [ord(char) for char in text[: max(0, room)]]
    frame.chars[y, x : x + len(codes)] = codes
    frame.styles[y, x : x + len(codes)] = style


def _draw_y_axis(frame: Frame, y_range: tuple[float, float], height: int, options: Options) -> int:
    """Labels, axis and guides; returns the column where the plot begins."""
    low, high = y_range
    count = max(1.0, (height - 1) / (1.75 if height < 12 else 2.5))
    if options.log_y:
        values = log_ticks(10**low, 10**high, count)
        places = [math.log10(value) for value in values]
    else:
        values = places = nice_ticks(low, high, count)
    labels = tick_labels(values)
    margin = max((len(label) for label in labels), default=0)
    width = frame.chars.shape[1]
    if margin + 2 > width // 2:
        margin, labels = 0, [""] * len(labels)
    ascii_only = options.charset == "ascii"
    bar, tick, guide = ("|", "+", " ") if ascii_only else ("│", "┤", "┈")
    for y in range(height):
        _write(frame, y, margin, bar, AXIS)
    frame.y_ticks = list(values)
    for place, label in zip(places, labels, strict=True):
        y = round((high - place) / (high - low) * (height - 1))
        _write(frame, y, margin - len(label), label, AXIS)
        _write(frame, y, margin, tick, AXIS)
        if options.guides and not ascii_only and y < height - 1:
            _write(frame, y, margin + 1, guide * (width - margin - 1), GUIDE)
    return margin + 1


def _draw_x_axis(frame: Frame, x_range: tuple[float, float], left: int, y: int) -> None:
    low, high = x_range
    width = frame.chars.shape[1] - left
    ticks = nice_ticks(low, high, max(2, min(10, width // 8)))
    if all(abs(tick - round(tick)) < 1e-9 for tick in (low, high)):
        ticks = [tick for tick in ticks if abs(tick - round(tick)) < 1e-9]
    used = -1
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        at = left + round((tick - low) / (high - low) * (width - 1)) - len(label) // 2
        at = min(max(at, max(0, left - 1)), left + width - len(label))
        if at > used:
            _write(frame, y, at, label, AXIS)
            used = at + len(label)


@dataclass
class _Area:
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

    def draw(self, frame: Frame, number: int, line: _Kept) -> None:
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

    def _rasterise(self, line: _Kept) -> npt.NDArray[np.bool_]:
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
        line: _Kept,
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
        line: _Kept,
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
