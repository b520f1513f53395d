"""What a worker hands to the code that trains: where to write, what to obey."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.recipe import Recipe

__all__ = ["Control", "RankFailed", "RunContext", "Stopped"]


class Stopped(BaseException):
    """Unwinds a worker that was told to stop before its first step, or during an evaluation.

    A BaseException, so that no library's ``except Exception`` swallows it.
    """


class RankFailed(Exception):
    """One of several processes ended badly; ``fields`` are those of the run's ``error`` event."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(str(fields["message"]))
        self.fields = fields


@dataclass(frozen=True)
class Control:
    """One request to a running worker: ``control/<number>.json``."""

    number: int
    action: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunContext:
    """One attempt of one run, as the worker sees it."""

    home: Home
    folder: RunFolder
    recipe: Recipe
    attempt: int
    journal: Journal
    resume_from: Path | None
    """The checkpoint to go on from; None when there is none that is whole.

    A first attempt has one when the run goes on from another run's, with a changed recipe.
    """
    stop_requested: Callable[[], bool]
    """True from the moment that SIGTERM or a stop request arrived."""
    take_controls: Callable[[], list[Control]]
    """Requests not yet taken, acknowledged in the journal by taking them; call it once a step."""
    hold_stops: Callable[[], None] = lambda: None
    """From now on no stop unwinds this process from anywhere: ``stop_requested`` is looked at."""
    rank: int = 0
    """Which of the attempt's processes this is: 0 journals and obeys, the others follow it."""
    ranks: int = 1
    """How many processes train this attempt together."""

    def phase(self, words: str, **fields: Any) -> None:
        """Say what is going on before the first step ("importing torch", "loading the model")."""
        self.journal.append("state", state="starting", phase=words, **fields)
