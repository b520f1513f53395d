"""A sweep by its parameters as lines of text: the best of each value, a parameter against a metric.

The chart puts each value of the parameter in a column of its own, evenly spaced: what a sweep
tried is seldom spaced by a scale.
"""

from collections.abc import Sequence

from rich.cells import cell_len

from engine.commands.difference_words import setting_words
from engine.commands.side_tables import BEST, Lines, letter, measure_words, wrapped
from engine.history.compare import Yardstick, measure
from engine.history.parallel import Point, by_value, parameters_of, points, sorted_values
from engine.history.row import RunRow
from engine.text import clip

__all__ = ["parallel_lines", "scatter_lines"]

VALUE = 22
Y_LABEL = 9


def parallel_lines(runs: Sequence[RunRow], metric: str, judged: Yardstick, width: int) -> Lines:
    """For each parameter and value how many runs, the best and the median of the metric; "*": the
    best value of its parameter."""
    one = measure(metric)
    direction = f" ({one.better} is better)" if one.better else ""
    made = wrapped(f"{one.label} by parameter{direction}", width, "  ", "head")
    for key in parameters_of(runs):
        made.append(
            (f"{clip(key, VALUE + 1):<{VALUE + 2}} runs       best     median  best run", "head")
        )
        for its in by_value(runs, key, metric, judged):
            best = measure_words(one.kind, its.best) + (BEST if its.leads else " ")
            median = measure_words(one.kind, its.median)
            count = str(its.runs) if its.runs == its.measured else f"{its.measured}/{its.runs}"
            name = its.best_run.name if its.best_run else ""
            value = clip(setting_words(its.value), VALUE - 1)
            head = f"  {value:<{VALUE}} {count:>4} {best:>11} {median:>9}  "
            made.append((head + clip(name, max(8, width - cell_len(head))), "plain"))
        made.append(("", "plain"))
    return made[:-1]


def scatter_lines(
    runs: Sequence[RunRow],
    key: str,
    metric: str,
    width: int,
    height: int,
    *,
    ascii: bool = True,
    with_key: bool = True,
) -> list[str]:
    """``key`` to the right, ``metric`` upwards: a letter a run (a dot from the 27th on), a dash at
    each value's median.

    ``height``: lines in all, of which the last ones are the axis, the values and the key's name.
    """
    dot = "o" if ascii else "•"
    names = {run.id: letter(place) if place < 26 else dot for place, run in enumerate(runs)}
    found = points(runs, key, metric)
    kind = measure(metric).kind
    if not found:
        return [f"no run has {measure(metric).label} yet"]
    rows, room = max(3, height - 2 - with_key), max(12, width - Y_LABEL - 2)
    by_words = {repr(point.value): point.value for point in found}
    values = sorted_values(list(by_words.values()))
    low, high = min(point.y for point in found), max(point.y for point in found)
    plot = _Plot(len(values), rows, room, low, high)
    for place, value in enumerate(values):
        its = [point for point in found if repr(point.value) == repr(value)]
        plot.median(place, its, "-" if ascii else "─")
    for place, value in enumerate(values):
        for point in found:
            if repr(point.value) == repr(value):
                plot.put(place, point.y, names[point.run.id])
    bar, corner, rule = ("|", "+", "-") if ascii else ("│", "└", "─")
    labels = {0: high, rows - 1: low} if high > low else {rows // 2: low}
    if rows >= 7 and high > low:
        labels[rows // 2] = high - (high - low) * (rows // 2) / (rows - 1)
    made = []
    for number, line in enumerate(plot.lines):
        words = measure_words(kind, labels[number]) if number in labels else ""
        made.append(f"{clip(words.replace(' ', ''), Y_LABEL):>{Y_LABEL}} {bar}{line}")
    made.append(f"{'':>{Y_LABEL}} {corner}{rule * room}")
    made.append(f"{'':>{Y_LABEL}}  {plot.axis([setting_words(value) for value in values])}")
    if with_key:
        made.append(f"{'':>{Y_LABEL}}  {clip(key, room):^{room}}".rstrip())
    return made


class _Plot:
    """Cells of the chart, a column for each value of the parameter."""

    def __init__(self, columns: int, rows: int, room: int, low: float, high: float) -> None:
        self._columns, self._rows, self._room = columns, rows, room
        self._low, self._high = low, high
        self._cells = [[" "] * room for _ in range(rows)]

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def _row(self, y: float) -> int:
        if self._high <= self._low:
            return self._rows // 2
        return round((self._high - y) / (self._high - self._low) * (self._rows - 1))

    def _centre(self, place: int) -> int:
        return min(self._room - 1, int((place + 0.5) * self._room / self._columns))

    @property
    def _half(self) -> int:
        """Cells that belong to a column, to each side of its middle."""
        return max(0, min(12, self._room // self._columns // 2 - 1))

    def median(self, place: int, its: Sequence[Point], dash: str) -> None:
        if len(its) < 2 or self._half < 1:
            return
        import statistics

        row = self._row(statistics.median(point.y for point in its))
        for column in range(self._centre(place) - self._half, self._centre(place) + self._half + 1):
            if 0 <= column < self._room:
                self._cells[row][column] = dash

    def put(self, place: int, y: float, mark: str) -> None:
        """In the middle of its column, or as near as there is room; "+" where there is none."""
        row, centre = self._cells[self._row(y)], self._centre(place)
        for away in range(self._half + 1):
            for column in (centre + 2 * away, centre - 2 * away):
                if abs(column - centre) <= self._half and row[column] in " -─":
                    row[column] = mark
                    return
        row[centre] = "+"

    def axis(self, values: Sequence[str]) -> str:
        """The values under their columns, as far as they have room."""
        line, end = "", 0
        most = max(3, self._room // self._columns - 1)
        for place, value in enumerate(values):
            text = clip(value, max(most, 6))
            at = max(0, min(self._centre(place) - cell_len(text) // 2, self._room - cell_len(text)))
            if place and at < end + 1:
                continue
            line += " " * (at - end) + text
            end = at + cell_len(text)
        return line
