"""Renames runs, stars them, puts them away: events of the home's own journal, like notes and tags.

Nothing here opens ``runs.db``; whoever looks reads the journal.
"""

import json
import os
import secrets

from engine.errors import UserError
from engine.history.notes import append_event
from engine.home import Home
from engine.jobs.create import refuse_bad_name
from engine.jobs.find import identities, sweep_of
from engine.jobs.folder import RunFolder
from engine.jobs.lock import locked
from engine.whole import sync

__all__ = ["archive", "rename_run", "star"]


def star(home: Home, run: str, on: bool = True) -> str:
    """Star the run with this id, or no longer; returns the event's id."""
    return append_event(home, "star" if on else "unstar", run=run)


def archive(home: Home, run: str, on: bool = True) -> str:
    """Put the run with this id away, out of the usual lists, or bring it back."""
    return append_event(home, "archive" if on else "unarchive", run=run)


def rename_run(home: Home, run: str, name: str) -> str:
    """Give the run with this id another name, in the journal first, then in its ``run.json``.

    Commands find a run by what ``run.json`` says, without ``runs.db``. Raises
    :class:`UserError`: no name that a run can have, one that another run or a sweep has, no such
    run, or a folder that cannot be written.
    """
    refuse_bad_name(name)
    try:
        with locked(home.runs / ".lock"):
            folder = RunFolder(home.runs / run)
            for other, identity in identities(home):
                if other.id != run and name in (identity["name"], sweep_of(identity), other.id):
                    raise UserError(f"the name {name!r} is taken ({other.id}); choose another one")
            if name != run and (home.trash / name).exists():
                raise UserError(
                    f"the name {name!r} is the id of a run in the trash; choose another"
                )
            identity = _identity(folder)
            id = append_event(home, "rename", run=run, name=name, old=str(identity.get("name")))
            _write(folder, {**identity, "name": name})
            return id
    except OSError as error:
        raise UserError(f"{home.runs / run}: cannot be renamed ({error.strerror})") from None


def _identity(folder: RunFolder) -> dict[str, object]:
    try:
        return folder.read_identity()
    except FileNotFoundError:
        raise UserError(f"{folder.path}: there is no such run") from None
    except ValueError:
        raise UserError(f"{folder.identity}: is damaged; its run cannot be renamed") from None


def _write(folder: RunFolder, identity: dict[str, object]) -> None:
    new = folder.path / f".run-{secrets.token_hex(4)}.json"
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(identity, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, folder.identity)
    finally:
        new.unlink(missing_ok=True)
    sync(folder.path)
