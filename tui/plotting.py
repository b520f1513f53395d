"""Charts as text: ranges -> axes -> rasterised lines, as characters with style numbers.

Pure functions; nothing here knows Textual. What a frame costs: ``python -m tests.bench.charts``.
"""

import math
from collections.abc import Sequence

import numpy as np

from engine.charts.scale import ranges
from engine.charts.series import ema
from engine.charts.ticks import log_labels, log_ticks, nice_ticks, tick_labels
from engine.text import clip
from tui.eventmarks import draw_markers
from tui.frame import AXIS, BAD, CURSOR, GUIDE, Frame, Line, Options
from tui.raster import Area

__all__ = ["draw", "ema"]


def draw(lines: Sequence[Line], width: int, height: int, options: Options | None = None) -> Frame:
    """Draw ``lines``, later ones on top and pinned ones above all, into ``width`` x ``height``
    cells with axes.

    Every cell belongs to one series (the last that touches it), so that colours never mix.
    """
    options = options or Options()
    chars = np.full((max(0, height), max(0, width)), ord(" "), dtype=np.uint32)
    frame = Frame(chars, np.full(chars.shape, AXIS, dtype=np.int16))
    if width < 8 or height < 3:
        frame.note = "too small"
        return frame
    found = ranges(lines, options)
    if isinstance(found, str):
        frame.note = found
        middle = (width - len(frame.note)) // 2
        frame.write(height // 2, max(0, middle), frame.note[:width], AXIS)
        return frame
    x_range, y_range = found
    some = any(x_range[0] <= marker.x <= x_range[1] for marker in options.markers)
    top = 1 if some and height >= 6 else 0
    bottom = height - 1
    left = _draw_y_axis(frame, y_range, top, bottom, options)
    area = Area((left, top), (width - left, bottom - top), found, options)
    _draw_x_axis(frame, area)
    frame.area = area
    order = sorted(range(len(lines)), key=lambda number: lines[number].pinned)
    for number in order:
        area.draw(frame, number, lines[number])
    if top:
        draw_markers(frame, area)
    if options.cursor is not None:
        _draw_cursor(frame, area, options.cursor)
    for number in order:
        if lines[number].tag:
            _draw_tag(frame, area, number, lines[number].tag)
    return frame


def _draw_y_axis(
    frame: Frame, y_range: tuple[float, float], top: int, bottom: int, options: Options
) -> int:
    """Labels, axis and guides; returns the column where the plot begins."""
    low, high = y_range
    height = bottom - top
    count = max(1.0, (height - 1) / (1.75 if height < 12 else 2.5))
    if options.log_y:
        values = log_ticks(10**low, 10**high, count)
        places, labels = [math.log10(value) for value in values], log_labels(values)
    else:
        values = places = nice_ticks(low, high, count)
        labels = tick_labels(values)
    margin = max((len(label) for label in labels), default=0)
    width = frame.chars.shape[1]
    if margin + 2 > width // 2:
        margin, labels = 0, [""] * len(labels)
    ascii_only = options.charset == "ascii"
    bar, tick, guide = ("|", "+", " ") if ascii_only else ("│", "┤", "┈")
    for y in range(top, bottom):
        frame.write(y, margin, bar, AXIS)
    frame.y_ticks = list(values)
    for place, label in zip(places, labels, strict=True):
        y = top + round((high - place) / (high - low) * (height - 1))
        frame.write(y, margin - len(label), label, AXIS)
        frame.write(y, margin, tick, AXIS)
        if options.guides and not ascii_only and y < bottom - 1:
            frame.write(y, margin + 1, guide * (width - margin - 1), GUIDE)
    return margin + 1


def _draw_x_axis(frame: Frame, area: Area) -> None:
    low, high = area.x_range
    count = max(2, min(10, area.width // 8))
    if area.options.log_x:
        ticks = log_ticks(low, high, count)
        labels = log_labels(ticks)
    else:
        ticks = nice_ticks(low, high, count)
        if all(abs(tick - round(tick)) < 1e-9 for tick in (low, high)):
            ticks = [tick for tick in ticks if abs(tick - round(tick)) < 1e-9]
        labels = tick_labels(ticks)
    used = -1
    left, y = area.left, area.top + area.height
    for tick, label in zip(ticks, labels, strict=True):
        share = float(area.column_of(np.float64(tick))) / (area.columns - 1)
        at = left + round(share * (area.width - 1)) - len(label) // 2
        at = min(max(at, max(0, left - 1)), left + area.width - len(label))
        if at > used:
            frame.write(y, at, label, AXIS)
            used = at + len(label)


def _draw_cursor(frame: Frame, area: Area, x: float) -> None:
    """A vertical line that leaves the series as they are."""
    column = int(area.cell_of(np.float64(x)))
    if not 0 <= column < area.width:
        return
    rows = slice(area.top, area.top + area.height)
    place = frame.styles[rows, area.left + column]
    free = (place < 0) & (place != BAD)
    frame.chars[rows, area.left + column][free] = ord(
        "|" if area.options.charset == "ascii" else "┃"
    )
    place[free] = CURSOR


def _draw_tag(frame: Frame, area: Area, number: int, tag: str) -> None:
    """A character at the right end of a line, where no other line has its own."""
    rows = slice(area.top, area.top + area.height)
    styles = frame.styles[rows, area.left :]
    ys, xs = np.nonzero(styles == number)
    if not len(xs):
        return
    at = len(xs) - 1 - int(np.argmax(xs[::-1]))
    frame.chars[rows, area.left :][ys[at], xs[at]] = ord(clip(tag, 1))
