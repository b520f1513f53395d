"""The rows of one view as a list: all of them, or only those that a filter lets through."""

import bisect
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from tui.rowviews import Rows
from tui.rowwords import why
from tui.widgets.table import Row

__all__ = ["FilteredRows", "RowList", "matches"]

SCAN_ROWS = 2_000
"""Rows looked at between two looks at whether a scan was given up."""
TOGETHER = 50
"""Rows read at once rather than one by one, when no more than this are between two wanted ones."""


class RowList:
    """All rows of a view. What reads the disk is called in threads."""

    def __init__(self, rows: Rows, view: str) -> None:
        self.rows, self.view = rows, view

    @property
    def count(self) -> int:
        return self.rows.count(self.view)

    def page(self, start: int, count: int) -> list[dict[str, Any]]:
        return self.rows.page(self.view, start, count)

    def cells(self, start: int, count: int) -> Sequence[Row]:
        """The table's cells of up to ``count`` rows."""
        return [self.rows.cells(self.view, row) for row in self.page(start, count)]

    def one(self, place: int) -> dict[str, Any]:
        """One whole row; raises :class:`UserError` when it is not there."""
        return self.rows.one(self.view, self.index(place))

    def index(self, place: int) -> int:
        """Where a row of this list stands in the whole view."""
        return place

    def nearest(self, line: int) -> tuple[int, int]:
        """The row of a source line, or the first one after it, and that one's line."""
        place = self.rows.at_line(self.view, line)
        return place, self.rows.one(self.view, place)["line"]

    def closest(self, line: int) -> tuple[int, int]:
        """The row whose line is the least far from ``line``, and that one's line."""
        place, found = self.nearest(line)
        if found != line and place:
            before = self.one(place - 1)["line"]
            if line - before < abs(found - line):
                return place - 1, before
        return place, found

    def find(self, needle: str, start: int, stop: int, *, last: bool = False) -> int | None:
        """The first row in ``start`` to ``stop`` that contains ``needle``, in any case.

        ``last``: the last one.
        """
        wanted, found = needle.casefold(), None
        for place, row in enumerate(self.page(start, stop - start), start):
            if matches(row, wanted):
                found = place
                if not last:
                    break
        return found


class FilteredRows(RowList):
    """The rows of a view that contain a text, or were dropped for one reason.

    Nothing is known of them at first: :meth:`scan` finds them piece by piece.
    """

    def __init__(self, rows: Rows, view: str, wanted: str, *, reason: bool = False) -> None:
        super().__init__(rows, view)
        self.wanted = wanted
        self.by_reason = reason
        self.done = False
        """Whether the whole view was looked at."""
        self._places = array("q")
        self._lines = array("q")
        self.scanned = 0

    @property
    def words(self) -> str:
        return why(self.wanted) if self.by_reason else f"“{self.wanted}”"

    @property
    def count(self) -> int:
        return len(self._places)

    def index(self, place: int) -> int:
        return self._places[place]

    def scan(self) -> bool:
        """Look at the next piece of the view; False: there is none."""
        whole = super().count
        needle = self.wanted.casefold()
        rows = self.rows.page(self.view, self.scanned, min(SCAN_ROWS, whole - self.scanned))
        for place, row in enumerate(rows, self.scanned):
            if row["rule"] == self.wanted if self.by_reason else matches(row, needle):
                self._lines.append(row["line"])
                self._places.append(place)
        self.scanned += len(rows)
        self.done = not rows or self.scanned >= whole
        return not self.done

    def page(self, start: int, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for first, last in _runs(self._places[start : start + count]):
            wanted = set(self._places[start : start + count])
            rows = self.rows.page(self.view, first, last - first + 1)
            found += [row for place, row in enumerate(rows, first) if place in wanted]
        return found

    def nearest(self, line: int) -> tuple[int, int]:
        place = min(bisect.bisect_left(self._lines, line), len(self._lines) - 1)
        return place, self._lines[place]


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of places that lie so near to each other that they are read together."""
    first = last = -1
    for place in places:
        if first >= 0 and place - last <= TOGETHER:
            last = place
            continue
        if first >= 0:
            yield first, last
        first = last = place
    if first >= 0:
        yield first, last


def matches(row: dict[str, Any], needle: str) -> bool:
    """Whether any text of a row contains ``needle``, which is casefolded."""
    for value in row.values():
        if isinstance(value, str):
            if needle in value.casefold():
                return True
        elif isinstance(value, list) and any(
            needle in message["content"].casefold() for message in value
        ):
            return True
    return False
