"""A chart as a file: a self-contained SVG, and the points behind it as CSV.

Pure functions. Names come from outside: they are made safe, then escaped.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

import numpy as np

from engine.cells import guarded
from engine.charts.colours import DARK, Palette
from engine.charts.extremes import Floats, Ints
from engine.charts.lines import LETTERS, LINED, Line, Mark, Options
from engine.charts.scale import Range, Scale, ranges
from engine.charts.ticks import log_labels, log_ticks, nice_ticks, tick_labels
from engine.text import clip, safe_line

__all__ = ["csv_of", "svg_of"]

LEFT, RIGHT, TOP, BOTTOM, ROW = 64, 16, 40, 36, 18
"""Room around the plot, and of a row of the legend, in pixels."""
_STROKES: dict[Mark, str] = {
    "dashed": "8 4",
    "dotted": "1.5 3.5",
    "dashdot": "8 3 1.5 3",
}


def svg_of(
    lines: Sequence[Line],
    title: str,
    *,
    x_label: str = "step",
    options: Options | None = None,
    colours: Sequence[str] = (),
    palette: Palette = DARK,
    width: int = 960,
    height: int = 480,
) -> str:
    """The chart as SVG text of ``width`` x ``height`` pixels (the legend lies below them).

    A line has at most four points per pixel: first, lowest, highest, last. ``options`` are those of
    the drawn chart; its character set does not matter. ``colours``: of the lines, in turn; none:
    those of the palette.
    """
    options, colours = options or Options(), colours or palette.series
    rows = _legend(lines, options, colours, palette, width, height)
    made = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + rows[0]}" '
        f'viewBox="0 0 {width} {height + rows[0]}" role="img" '
        'font-family="ui-sans-serif, system-ui, DejaVu Sans, Arial, sans-serif" font-size="12">',
        f"<title>{_text(title, 200)}</title>",
        f'<rect width="100%" height="100%" fill="{palette.back}"/>',
        f'<text x="{LEFT}" y="20" fill="{palette.fore}" font-size="14" font-weight="bold">'
        f"{_text(title, 100)}</text>",
    ]
    found = ranges(lines, options)
    if isinstance(found, str):
        made.append(
            f'<text x="{width / 2:g}" y="{height / 2:g}" fill="{palette.quiet}" '
            f'text-anchor="middle">{_text(found, 100)}</text>'
        )
    else:
        plot = _Plot(*found, options, palette, width - LEFT - RIGHT, height - TOP - BOTTOM)
        made += plot.axes(_text(x_label, 60))
        made.append(
            f'<svg x="{LEFT}" y="{TOP}" width="{plot.width}" height="{plot.height}" '
            'overflow="hidden">'
        )
        for number in sorted(range(len(lines)), key=lambda number: lines[number].pinned):
            made += plot.line(lines[number], colours[number % len(colours)])
        made.append("</svg>")
        made += plot.events()
    return "\n".join([*made, *rows[1], "</svg>", ""])


def _text(text: str, cells: int) -> str:
    return escape(_allowed(clip(text, cells)), {'"': "&quot;"})


def _allowed(text: str) -> str:
    """Without the two characters that XML does not know and that are no control characters."""
    return text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")


def _legend(
    lines: Sequence[Line],
    options: Options,
    colours: Sequence[str],
    palette: Palette,
    width: int,
    top: int,
) -> tuple[int, list[str]]:
    """Its height in pixels, and its elements: as many names a row as fit."""
    shown = [number for number, line in enumerate(lines) if not line.quiet]
    if not shown:
        return 0, []
    across = max(1, (width - LEFT - RIGHT) // 220)
    made = []
    for place, number in enumerate(shown):
        line = lines[number]
        x, y = LEFT + place % across * 220, top + 4 + place // across * ROW
        colour = colours[number % len(colours)]
        if line.mark == "points":
            made.append(f'<circle cx="{x + 12}" cy="{y}" r="3.5" fill="{colour}"/>')
        else:
            made.append(f'<line x1="{x}" y1="{y}" x2="{x + 24}" y2="{y}" {_stroke(line, colour)}/>')
        weight = ' font-weight="bold"' if line.pinned else ""
        tag = f"{_text(line.tag, 1)} " if line.tag else ""
        made.append(
            f'<text x="{x + 32}" y="{y + 4}" fill="{palette.fore}"{weight}>'
            f"{tag}{_text(line.name, 26)}</text>"
        )
    high = -(-len(shown) // across) * ROW
    kinds = {marker.kind for marker in options.markers}
    words = " · ".join(f"{letter} {kind}" for kind, letter in LETTERS.items() if kind in kinds)
    if words:
        made.append(f'<text x="{LEFT}" y="{top + high + 8}" fill="{palette.quiet}">{words}</text>')
        high += ROW
    return high + 8, made


def _stroke(line: Line, colour: str) -> str:
    width = 2.5 if line.pinned else 1.0 if line.mark == "dots" else 1.5
    made = f'stroke="{colour}" stroke-width="{width}" fill="none"'
    if line.mark == "dots":
        made += ' stroke-opacity="0.5"'
    if line.mark in _STROKES:
        made += f' stroke-dasharray="{_STROKES[line.mark]}"'
    return made


class _Plot(Scale):
    """The plot inside the axes: a dot is a pixel."""

    def __init__(
        self, x: Range, y: Range, options: Options, palette: Palette, width: int, height: int
    ) -> None:
        self.palette = palette
        self.width, self.height = max(16, width), max(16, height)
        super().__init__(self.width, self.height, x, y, options)

    def axes(self, label: str) -> Iterator[str]:
        quiet = self.palette.quiet
        low, high = self.y_range
        right, bottom = LEFT + self.width, TOP + self.height
        if self.options.log_y:
            values = log_ticks(10**low, 10**high, self.height / 40)
            labels = log_labels(values)
        else:
            values = nice_ticks(low, high, self.height / 40)
            labels = tick_labels(values)
        for value, words in zip(values, labels, strict=True):
            y = TOP + float(self.row_of(np.asarray(value, np.float64)))
            yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{self.palette.grid}"/>'
            yield (
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" fill="{quiet}" text-anchor="end">'
                f"{words}</text>"
            )
        low, high = self.x_range
        if self.options.log_x:
            values = log_ticks(low, high, self.width / 90)
            labels = log_labels(values)
        else:
            values = nice_ticks(low, high, self.width / 90)
            labels = tick_labels(values)
        for value, words in zip(values, labels, strict=True):
            x = LEFT + float(self.column_of(np.asarray(value, np.float64)))
            yield f'<path d="M{x:.1f} {bottom}v5" stroke="{quiet}"/>'
            yield (
                f'<text x="{x:.1f}" y="{bottom + 18}" fill="{quiet}" text-anchor="middle">'
                f"{words}</text>"
            )
        yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="{quiet}" fill="none"/>'
        yield (f'<text x="{right}" y="{TOP - 6}" fill="{quiet}" text-anchor="end">{label}</text>')

    def line(self, line: Line, colour: str) -> Iterator[str]:
        cuts = self.cuts(line.points)
        for x, y in self._pieces(line, cuts):
            places = [f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
            if line.mark == "points" or len(places) == 1:
                for a, b in (place.split() for place in places):
                    yield f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>'
            else:
                yield f'<path d="M{"L".join(places)}" {_stroke(line, colour)}/>'
        if line.points.bad:
            some = line.points.usable().any_gap(cuts[:-1], cuts[1:])
            cross = -9
            for column in np.flatnonzero(some).tolist():
                if column - cross >= 6:
                    cross = column
                    at = f"M{column - 3} {self.height - 7}"
                    yield (
                        f'<path d="{at}l6 6m0 -6l-6 6" stroke="{self.palette.wrong}">'
                        "<title>not finite</title></path>"
                    )

    def _pieces(self, line: Line, cuts: Ints) -> Iterator[tuple[Floats, Floats]]:
        """Places in pixels of the pieces of a line between its gaps."""
        points, begin, end = line.points, int(cuts[0]), int(cuts[-1])
        usable = points.usable(self.options.log_y)
        many = end - begin > 4 * self.columns
        if many:  # first, lowest, highest and last of every pixel column
            low, high = usable.of(cuts[:-1], cuts[1:])
            at = np.flatnonzero(low <= high)
            ends = usable.next(cuts[at]), usable.previous(cuts[at + 1] - 1)
            x = np.repeat(at.astype(np.float64), 4)
            y = np.stack([points.y[ends[0]], low[at], high[at], points.y[ends[1]]], axis=1).ravel()
            places = np.stack([ends[0], ends[0], ends[1], ends[1]], axis=1).ravel()
        else:
            places = begin + np.flatnonzero(usable.usable(points.y[begin:end]))
            x, y = self.column_of(points.x[places]), points.y[places]
        if line.mark != "points":
            for index in self.around(points, begin, end):
                if index is not None:
                    place = 0 if index < begin else len(places)
                    places = np.insert(places, place, index)
                    x = np.insert(x, place, self.column_of(points.x[index]))
                    y = np.insert(y, place, points.y[index])
        if not len(places):
            return
        group = usable.gaps_before(places)
        for piece in np.split(np.arange(len(places)), np.flatnonzero(np.diff(group)) + 1):
            yield x[piece], self.row_of(y[piece])

    def events(self) -> Iterator[str]:
        """A line and a letter each; the letters of one place beside one another."""
        quiet = self.palette.quiet
        groups: dict[int, list[str]] = {}
        for marker in sorted(self.options.markers, key=lambda marker: marker.x):
            if not self.x_range[0] <= marker.x <= self.x_range[1]:
                continue
            x = round(float(self.column_of(np.asarray(marker.x, np.float64))))
            near = next((one for one in list(groups)[-1:] if x - one < 10), x)
            groups.setdefault(near, []).append(marker.kind)
        for x, kinds in groups.items():
            known = [kind for kind in LETTERS if kind in kinds]
            yield (
                f'<path d="M{LEFT + x} {TOP}v{self.height}" stroke="{quiet}" '
                f'stroke-dasharray="2 4" stroke-opacity="{0.9 if known[0] in LINED else 0.35}"/>'
            )
            yield (
                f'<text x="{LEFT + x}" y="{TOP - 6}" fill="{quiet}" text-anchor="middle" '
                f'font-size="11">{"".join(LETTERS[kind] for kind in known)}'
                f"<title>{', '.join(known)}</title></text>"
            )


def csv_of(lines: Sequence[Line], *, x_label: str = "step") -> Iterator[str]:
    """The points as CSV, a row at a time with its line end: x, then a column a line.

    Rows are the x of all lines in order, a cell is empty where a line has no point; a value that
    is not finite is written as ``nan``, ``inf`` or ``-inf``. Of several points of one x of a line
    the last counts. A name that a spreadsheet would take for a formula gets an apostrophe.
    """
    yield _row([x_label, *(guarded(safe_line(line.name)) for line in lines)])
    if not lines:
        return
    xs = np.unique(np.concatenate([line.points.x for line in lines]))
    found = []
    for line in lines:
        at = np.searchsorted(line.points.x, xs, side="right") - 1
        there = at >= 0
        there[there] = line.points.x[at[there]] == xs[there]
        found.append((np.where(there, at, 0), there, line.points.y))
    for begin in range(0, len(xs), 4096):
        part = slice(begin, begin + 4096)
        columns = [
            [
                repr(value) if known else ""
                for value, known in zip(y[at[part]].tolist(), there[part].tolist(), strict=True)
            ]
            if len(y)
            else [""] * len(xs[part])
            for at, there, y in found
        ]
        for x, *values in zip(xs[part].tolist(), *columns, strict=True):
            yield _row([f"{x:.15g}", *values])


def _row(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
