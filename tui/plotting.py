"""Charts as text: ranges -> axes -> rasterised lines, as characters with style numbers.

Pure functions; nothing here knows Textual. Measured for 110x36 cells: one series of 100,000 points
in about 2 ms (``tests/tui/test_chart.py`` keeps it below 10 ms).
"""

import math
from collections.abc import Sequence

import numpy as np

from tui.raster import (
    AXIS,
    GUIDE,
    Area,
    Floats,
    Frame,
    Line,
    Options,
    Points,
    usable_points,
)
from tui.ticks import log_ticks, nice_step, nice_ticks, tick_labels

__all__ = ["draw", "ema"]


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
    kept = [usable_points(line, options.log_y) for line in lines]
    x_range = options.x_range or _x_range(kept)
    y_range = _y_range(kept, x_range, options) if x_range else None
    if x_range is None or y_range is None:
        some = any(len(line.x) for line in lines)
        frame.note = "no positive values" if some and options.log_y else "no points yet"
        if some and not options.log_y:
            frame.note = "no finite values"
        middle = (width - len(frame.note)) // 2
        frame.write(height // 2, max(0, middle), frame.note[:width], AXIS)
        return frame
    plot_height = height - 1
    left = _draw_y_axis(frame, y_range, plot_height, options)
    _draw_x_axis(frame, x_range, left, plot_height)
    area = Area(left, width - left, plot_height, x_range, y_range, options)
    for number, line in enumerate(kept):
        area.draw(frame, number, line)
    return frame


def _x_range(lines: Sequence[Points]) -> tuple[float, float] | None:
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
    lines: Sequence[Points], x_range: tuple[float, float], options: Options
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
        frame.write(y, margin, bar, AXIS)
    frame.y_ticks = list(values)
    for place, label in zip(places, labels, strict=True):
        y = round((high - place) / (high - low) * (height - 1))
        frame.write(y, margin - len(label), label, AXIS)
        frame.write(y, margin, tick, AXIS)
        if options.guides and not ascii_only and y < height - 1:
            frame.write(y, margin + 1, guide * (width - margin - 1), GUIDE)
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
            frame.write(y, at, label, AXIS)
            used = at + len(label)
