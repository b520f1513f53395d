"""Which run came from which: gone on from its checkpoint, or its recipe repeated with a change."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.history.row import RunRow

__all__ = ["Descent", "lineage"]

GOES_ON, REPEATS = "goes on", "repeats"
SIGNS = {GOES_ON: "> ", REPEATS: "= ", "": ""}
NOT_SAID = ("name", "description")


@dataclass(frozen=True)
class Descent:
    """One line of the tree."""

    row: RunRow
    depth: int
    """0: it comes from no other run that is here."""
    branch: str
    """What stands before the name: lines, and how it came from the one above."""
    origin: str | None = None
    """The id of the run that it came from, also of one that was deleted."""
    how: str = ""
    """:data:`GOES_ON`, :data:`REPEATS`, or "" for a run that came from none."""
    changes: list[tuple[str, Any, Any]] = field(default_factory=list)
    """(key, value there, value here) of what the two recipes differ in."""

    @property
    def what(self) -> str:
        """The changes in words; of several of a sweep the sweep's name too."""
        words = [f"{key.rsplit('.', 1)[-1]} {old} → {new}" for key, old, new in self.changes]
        return ", ".join([*([f"sweep {self.row.sweep}"] if self.row.sweep else []), *words])


def origin_of(row: RunRow) -> tuple[str | None, str]:
    """(id of the run that it came from, how)."""
    if row.parent:
        return row.parent, GOES_ON
    return (row.repeats, REPEATS) if row.repeats else (None, "")


SettingsOf = Callable[[str], Mapping[str, Any]]


def lineage(rows: Sequence[RunRow], settings: SettingsOf, only: str | None = None) -> list[Descent]:
    """All of ``rows`` (newest first) as trees, each below the one that it came from.

    ``settings``: a run's recipe by its id, empty where it is not known. Trees with the newest run
    come first, the children of a run oldest first. ``only``: the one tree in which this run is.
    Runs that come from each other in a circle, by a journal written by hand, are each told once.
    """
    by_id = {row.id: row for row in rows}
    children: dict[str, list[RunRow]] = {}
    roots: list[RunRow] = []
    newest: dict[str, int] = {}
    for place, row in enumerate(rows):
        root = _root(row, by_id)
        newest.setdefault(root.id, place)
        origin, _ = origin_of(row)
        if root.id != row.id and origin in by_id:
            children.setdefault(str(origin), []).insert(0, row)
        else:
            roots.append(row)
    roots.sort(key=lambda row: newest[row.id])
    if only is not None and only in by_id:
        roots = [_root(by_id[only], by_id)]
    return [line for root in roots for line in _below(root, children, settings)]


def _root(row: RunRow, by_id: Mapping[str, RunRow]) -> RunRow:
    seen = {row.id: row}
    while (above := by_id.get(origin_of(row)[0] or "")) is not None:
        if above.id in seen:
            return min(seen.values(), key=lambda one: one.id)  # a circle
        seen[above.id] = row = above
    return row


def _below(
    root: RunRow, children: Mapping[str, list[RunRow]], settings: SettingsOf
) -> Iterator[Descent]:
    told: set[str] = set()
    waiting: list[tuple[RunRow, int, str, str]] = [(root, 0, "", "")]
    while waiting:  # not recursive: a chain of runs may be longer than the stack
        row, depth, stem, sign = waiting.pop()
        if row.id in told:
            continue
        told.add(row.id)
        origin, how = origin_of(row)
        changes = _changes(settings(origin), settings(row.id)) if origin else []
        yield Descent(row, depth, stem + sign + (SIGNS[how] if depth else ""), origin, how, changes)
        below = stem + {"├─ ": "│  ", "└─ ": "   "}.get(sign, "")
        there = children.get(row.id, [])
        for place, child in enumerate(reversed(there)):
            waiting.append((child, depth + 1, below, "└─ " if place == 0 else "├─ "))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    if not old or not new:
        return []
    keys = dict.fromkeys([*old, *new])
    return [
        (key, old.get(key), new.get(key))
        for key in keys
        if old.get(key) != new.get(key) and key not in NOT_SAID
    ]
