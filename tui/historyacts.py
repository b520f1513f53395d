"""What the Runs screen asks of the engine; all of it is called in threads. Raise UserError."""

from collections.abc import Sequence

from engine.home import Home

__all__ = ["empty_trash", "in_trash", "mark", "rename", "restore"]


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


def in_trash(home: Home) -> list[tuple[str, str, float, int]]:
    """(id, name, when it was deleted, bytes) of what is in the trash, the last deleted first."""
    from engine.jobs import trash

    return [(run.id, run.name, run.t, run.bytes) for run in trash.trashed(home)]


def restore(home: Home, id: str) -> str:
    from engine.jobs import trash

    return f"{trash.restore(home, id).name} is back"


def empty_trash(home: Home, ids: Sequence[str]) -> str:
    """Delete these runs of the trash for good, and none that came there meanwhile."""
    from engine.jobs import trash

    there = trash.empty(home, ids)
    return f"{len(there)} run{'s' * (len(there) != 1)} deleted for good"
