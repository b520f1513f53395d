"""Reads what the screens show of one run, in the feed's thread: numbers, words, files, kin."""

from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.history.curves import Curves
from engine.history.row import ENDS
from engine.home import Home
from engine.jobs.folder import RunFolder
from tui.feed import RunDetail

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["DetailReader"]

MOST_CURVES = 32
"""Runs whose curves are kept to be read on."""
LOG_LINES = 200
EVENTS = 300
MEMORY_READINGS = 16
"""So many latest ones hold one of each of eight devices."""


class DetailReader:
    """``queries``: the module :mod:`engine.history.queries`, imported by whoever has the time."""

    def __init__(self, home: Home, queries: Any) -> None:
        self.home, self._queries = home, queries
        self._changes: dict[str, list[tuple[str, Any, Any]]] = {}
        self._curves: dict[str, Curves] = {}

    def read(self, store: Any, row: "RunRow") -> RunDetail:
        """Everything of ``row``'s run; blocks for some milliseconds, or for more with a long run.

        What cannot be read (a run deleted meanwhile) is empty.
        """
        from engine.commands.endings import suggested, what_happened

        queries, folder = self._queries, RunFolder(self.home.runs / row.id)
        events = queries.events(store, row.id, EVENTS)
        latest = [event for event in events if event["attempt"] == row.attempt]
        ended_badly = row.state in ENDS and row.state != "finished"
        return RunDetail(
            row,
            self._curves_of(row).read(store, row.attempt),
            queries.evaluations(store, row.id),
            queries.samples(store, row.id),
            queries.checkpoints(store, row.id),
            [event for event in latest if event["type"] in ("warning", "error")],
            [event["event"] for event in latest if event["type"] == "control"],
            {
                one["device"]: one
                for one in queries.memory(store, row.id, MEMORY_READINGS)
                if isinstance(one["device"], str)
            },
            ending=what_happened(row) if ended_badly else [],
            suggested=ended_badly and bool(suggested(row)),
            recipe=_recipe(folder),
            log=folder.log_tail(LOG_LINES),
            events=events,
            notes=queries.notes(store, row.id),
            tags=queries.tags(store, row.id),
            changes=self._changes_of(row, folder),
        )

    def unfinished(self, id: str) -> bool:
        """There is more of the run's curves than the last reading took."""
        return id in self._curves and self._curves[id].more

    def _curves_of(self, row: "RunRow") -> Curves:
        """The latest asked for are kept."""
        found = self._curves.pop(row.id, None) or Curves(row.id)
        self._curves[row.id] = found
        while len(self._curves) > MOST_CURVES:
            del self._curves[next(iter(self._curves))]
        return found

    def _changes_of(self, row: "RunRow", folder: RunFolder) -> list[tuple[str, Any, Any]]:
        """What the recipe changes in its parent's; recipes are written once, so read once too."""
        if row.parent is None:
            return []
        if row.id not in self._changes:
            from engine.history.compare import differences

            try:
                found = differences([RunFolder(self.home.runs / row.parent), folder])
            except UserError:  # the parent was deleted, or its recipe cannot be read any more
                return []
            self._changes[row.id] = [(key, old, new) for key, (old, new) in found.items()]
        return self._changes[row.id]


def _recipe(folder: RunFolder) -> str:
    try:
        return folder.recipe_file.read_text("utf-8", "replace")
    except OSError:
        return ""
