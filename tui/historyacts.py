"""What the Runs screen asks of the engine; all of it is called in threads. Raise UserError."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.errors import UserError
from engine.home import Home
from engine.words import counted

__all__ = [
    "Deleted",
    "empty_trash",
    "in_trash",
    "mark",
    "rename",
    "restore",
    "restore_sweep",
]


def mark(home: Home, what: str, ids: Sequence[str], on: bool) -> str:
    """Star runs or put them away (``what``: star, archive), or no longer; says what was done."""
    from engine.history import marks

    for id in ids:
        (marks.star if what == "star" else marks.archive)(home, id, on)
    whom = f"{len(ids)} runs " if len(ids) > 1 else ""
    if what == "star":
        return f"{whom}{'starred' if on else 'no longer starred'}"
    return f"{whom}put away; is:archived finds them" if on else f"{whom}back in the list"


def rename(home: Home, id: str, name: str) -> str:
    from engine.history import marks

    marks.rename_run(home, id, name)
    return f"it is {name} now"


class Deleted(NamedTuple):
    """A run in the trash."""

    id: str
    name: str
    t: float
    """When it was deleted."""
    bytes: int
    sweep: str | None


def in_trash(home: Home) -> list[Deleted]:
    """What is in the trash, the last deleted first."""
    from engine.jobs import trash

    found = trash.trashed(home)
    return [Deleted(run.id, run.name, run.t, run.bytes, run.sweep) for run in found]


def restore(home: Home, id: str) -> str:
    from engine.jobs import trash

    return f"{trash.restore(home, id).name} is back"


def restore_sweep(home: Home, sweep: str) -> str:
    """Bring back all that the trash has of a sweep."""
    from engine.jobs import trash

    back, errors = trash.restore_sweep(home, sweep)
    told = f"{counted(len(back), 'run')} of {sweep} back"
    if errors:
        raise UserError("; ".join([told, *errors]))
    return told


def empty_trash(home: Home, ids: Sequence[str]) -> str:
    """Delete these runs of the trash for good, and none that came there meanwhile."""
    from engine.jobs import trash

    there = trash.empty(home, ids)
    return f"{len(there)} run{'s' * (len(there) != 1)} deleted for good"
