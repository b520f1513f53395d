"""Follows one run's journal as it grows, without ``runs.db``: for commands that wait for a run."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from engine.history.lost import why_lost
from engine.history.pace import RECENT_STEPS, Told, rhythm_of, seconds_left
from engine.history.row import RunRow, fold, is_ended, mark_lost, time_of
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_lines
from engine.jobs.lock import is_alive

__all__ = ["Follower", "state_of"]

POLL_SECONDS = 0.1


class Follower:
    """The run as its journal tells it so far (``row``), and its events as they come."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        folder = self.folder
        self.row = RunRow(id=folder.id, name=folder.id)
        try:
            identity = folder.read_identity()
            self.row.name = str(identity["name"])
            self.row.created = time_of(identity["created"])
            self.row.parent, self.row.recipe = identity.get("parent"), identity.get("recipe")
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._offset = 0
        self._recipe: str | None = None
        self._step_seconds: deque[float] = deque(maxlen=RECENT_STEPS)
        self._looks: dict[str, list[dict[str, Any]]] = {
            "evaluation": [],
            "checkpoint": [],
            "sample": [],
        }

    def read(self) -> list[dict[str, Any]]:
        """Events that are new since the last call; ``row`` knows of them."""
        found: list[dict[str, Any]] = []
        try:
            if self.folder.journal.stat().st_size < self._offset:
                self._begin()  # somebody emptied the journal: what there is now is all new
        except OSError:
            pass  # gone: written again, as it was, by who has it open
        while True:
            lines = read_lines(self.folder.journal, self._offset)
            if lines.offset == self._offset:
                return found
            self._offset = lines.offset
            for event in lines.events:
                fold(self.row, event)
                self._clock(event)
            found += lines.events

    def _clock(self, event: dict[str, Any]) -> None:
        if event["type"] == "state" and "max_steps" in event:  # perhaps on another machine
            self._step_seconds.clear()
            resumed = event.get("resume_step") or 0
            for kind, looks in self._looks.items():
                self._looks[kind] = [one for one in looks if one["step"] <= resumed]
        elif event["type"] == "metrics" and isinstance(event.get("step_seconds"), int | float):
            self._step_seconds.append(event["step_seconds"])
        elif event["type"] in self._looks and isinstance(event.get("step"), int):
            self._looks[event["type"]].append(event)

    def seconds_left(self) -> float | None:
        """Until the run's end; None: not known."""
        if self._recipe is None:
            try:
                self._recipe = self.folder.recipe_file.read_text("utf-8", "replace")
            except OSError:
                self._recipe = ""
        looks = self._looks
        told = Told(self._step_seconds, looks["evaluation"], looks["checkpoint"], looks["sample"])
        return seconds_left(self.row, told, rhythm_of(self._recipe), time.time())

    def events(self) -> Iterator[dict[str, Any] | None]:
        """Events until the run's processes are gone; None whenever there is none to wait with.

        A run that waits in the queue is waited for.

        Afterwards ``row.state`` is an end, ``lost`` when the journal has none.
        """
        while True:
            new, over = self.look()
            yield from new
            if over:
                return
            yield None
            if not new:
                time.sleep(POLL_SECONDS)

    def look(self) -> tuple[list[dict[str, Any]], bool]:
        """New events, and whether the run is over: then nothing more will come."""
        waits = self.folder.queue_entry.exists()  # first: it goes once the processes are there
        alive = is_alive(self.folder)
        new = self.read()
        over = not alive and (not waits or is_ended(self.row))
        if over and not is_ended(self.row):
            mark_lost(self.row, why_lost(self.folder))
        return new, over


def state_of(folder: RunFolder) -> RunRow:
    """The run as its journal and its lock tell it now."""
    follower = Follower(folder)
    alive = folder.queue_entry.exists() or is_alive(folder)
    follower.read()
    if not alive and not is_ended(follower.row):
        mark_lost(follower.row, why_lost(folder))
    return follower.row
