"""Where a line of the source stands in a view, or what stands nearest to it. Called in threads."""

from collections.abc import Mapping
from typing import NamedTuple

from tui.rowlist import FilteredRows, RowList
from tui.rowviews import SPLITS, TABLES, Rows

__all__ = ["Place", "find_row"]


class Place(NamedTuple):
    """A row of a view."""

    view: str
    place: int
    line: int | None
    """The line of the source that is followed; None: none is."""
    note: str
    """What became of that line, where this view does not have it."""


def find_row(
    rows: Rows, lists: Mapping[str, RowList], view: str, split: str, line: int | None, here: int
) -> Place:
    """The row of a line in a view of a table; for the other views in the split that has it.

    ``here``: the place to take when no line is followed; ``split``: the split to look at first.
    """
    own = view if view in TABLES else split
    if line is None:
        return Place(own, here, None, "")
    views = [own] if view in TABLES else sorted(SPLITS, key=lambda each: each != own)
    nearest: tuple[str, int, int] | None = None
    for each in views:
        if not lists[each].count:
            continue
        place, found = lists[each].closest(line)
        if found == line:
            return Place(each, place, line, "")
        if nearest is None or abs(found - line) < abs(nearest[2] - line):
            nearest = (each, place, found)
    if nearest is None:
        return Place(own, 0, line, "")
    each, place, found = nearest
    filtered = isinstance(lists[each], FilteredRows) and view in TABLES
    why = "" if filtered else rows.why_not(own, line)
    note = f"line {line:,} {why or 'is not among these'} · nearest: {found:,}"
    return Place(each, place, line, note)
