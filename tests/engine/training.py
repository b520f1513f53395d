"""Runs attempts of training in the test's own process, under the test's control."""

from pathlib import Path
from typing import Any

from engine.home import Home
from engine.jobs import checkpoints
from engine.jobs.context import Control, RunContext, Stopped
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_all
from engine.jobs.launch import create_run
from engine.recipe import Recipe


class Attempt:
    """One run; every :meth:`run` is its next attempt, from its last whole checkpoint."""

    def __init__(self, home: Home, recipe: Recipe, name: str) -> None:
        self.home = home
        self.recipe = recipe
        self.folder = create_run(home, recipe, name)
        self.number = 0
        self.requests: dict[int, list[str]] = {}
        """Step -> actions asked for at its end."""
        self.stop_at: tuple[str, int] | None = None
        """(type, step) of the event after which a stop is requested."""

    def run(self) -> dict[str, Any]:
        """Train in this process; a requested stop raises :class:`Stopped`."""
        from engine.train import session

        self.number += 1
        journal = _Watched(self.folder.journal, self.number)
        context = RunContext(
            home=self.home,
            folder=self.folder,
            recipe=self.recipe,
            attempt=self.number,
            journal=journal,
            resume_from=self.latest(),
            stop_requested=lambda: self.stop_at is not None and self.stop_at in journal.seen,
            take_controls=lambda: [
                Control(number, action)
                # Taken at the end of a step, just before its line is journaled.
                for number, action in enumerate(self.requests.pop(journal.step + 1, []))
            ],
        )
        try:
            result = session.run(context)
            journal.append("state", state="finished", **result)
            return result
        except Stopped:
            journal.append("state", state="stopped", step=journal.step)
            raise
        finally:
            journal.close()

    def latest(self) -> Path | None:
        return checkpoints.latest_whole(self.folder)


class _Watched(Journal):
    """A journal that remembers what was written to it."""

    def __init__(self, path: Path, attempt: int) -> None:
        super().__init__(path, attempt)
        self.seen: set[tuple[str, int]] = set()
        self.step = 0

    def append(self, type: str, **fields: Any) -> None:
        super().append(type, **fields)
        if "step" in fields:
            self.seen.add((type, fields["step"]))
        if type == "metrics":
            self.step = fields["step"]


def events(folder: RunFolder, type: str) -> list[dict[str, Any]]:
    return [event for event in read_all(folder.journal) if event["type"] == type]


def losses(folder: RunFolder) -> dict[int, float]:
    """Each step's own loss; of a repeated step the latest attempt's."""
    return {event["step"]: event["loss"] for event in events(folder, "metrics")}


def evaluations(folder: RunFolder) -> dict[tuple[str, int], float]:
    return {(e["which"], e["step"]): e["loss"] for e in events(folder, "evaluation")}
