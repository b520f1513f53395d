"""Where deleted runs go first: their folders, by one rename, to ``trash/`` in the home.

What is there is in no list and takes its room on the disk until the trash is emptied. A run comes
back the same way. Notes, tags, votes and stars stay in the home's journal all the while.
"""

import os
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.home import Home
from engine.jobs import entries
from engine.jobs.find import identities, sweep_of
from engine.jobs.folder import RunFolder
from engine.jobs.launch import refuse_alive
from engine.jobs.lock import locked
from engine.whole import sync

__all__ = [
    "TrashedRun",
    "delete_run",
    "empty",
    "find_trashed",
    "folder_bytes",
    "move_to_trash",
    "purge",
    "restore",
    "restore_sweep",
    "trashed",
    "trashed_of",
]

GONE = ".gone-"


@dataclass(frozen=True)
class TrashedRun:
    """A run in the trash."""

    id: str
    name: str
    t: float
    """When it was deleted (the folder's ctime, which the rename set)."""
    path: Path
    sweep: str | None = None
    """The one that it belongs to."""

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return folder_bytes(self.path)


def folder_bytes(path: Path) -> int:
    """Bytes on the disk of all that lies below, each file once; links are not followed."""
    total, seen = 0, set[tuple[int, int]]()
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(OSError):  # gone meanwhile
                info = os.lstat(os.path.join(folder, name))
                key = (info.st_dev, info.st_ino)
                if info.st_nlink == 1 or key not in seen:
                    seen.add(key)
                    total += info.st_blocks * 512
    return total


def move_to_trash(home: Home, folder: RunFolder) -> TrashedRun:
    """Take a run out of every list, at once, with all its files; see :func:`restore`.

    Raises UserError: alive, no run's folder, or not movable.
    """
    if folder.path.parent != home.runs or not folder.path.is_dir():
        raise UserError(f"{folder.path}: is no run's folder")
    name, there = folder.name, home.trash / folder.id
    try:
        home.trash.mkdir(mode=0o700, exist_ok=True)
        with entries.hold(home):  # nobody starts it meanwhile
            refuse_alive(folder)
            if there.exists():  # from a copy of the home, say: ids are never given twice
                os.rename(there, home.trash / f"{folder.id}.{time.time_ns()}")
            os.rename(folder.path, there)
            entries.remove(home, folder.id)
        sync(home.trash)
        sync(home.runs)
    except OSError as error:
        raise UserError(f"{folder.path}: cannot be moved to the trash ({error.strerror})") from None
    return TrashedRun(folder.id, name, time.time(), there)


def trashed(home: Home) -> list[TrashedRun]:
    """The trash's runs, the last deleted first."""
    found = []
    with suppress(FileNotFoundError), os.scandir(home.trash) as there:
        for entry in there:
            with suppress(FileNotFoundError):  # one that goes meanwhile hides no other
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    folder = RunFolder(Path(entry.path))
                    when = entry.stat(follow_symlinks=False).st_ctime
                    sweep = _sweep(folder)
                    found.append(TrashedRun(folder.id, folder.name, when, folder.path, sweep))
    return sorted(found, key=lambda run: (-run.t, run.id))


def _sweep(folder: RunFolder) -> str | None:
    with suppress(OSError, ValueError, AttributeError):
        return sweep_of(folder.read_identity())
    return None


def find_trashed(home: Home, ref: str) -> TrashedRun:
    """The run in the trash with this id or name, the last deleted of several with the name.

    Raises UserError when there is none.
    """
    there = trashed(home)
    for one in [*(one for one in there if one.id == ref), *(o for o in there if o.name == ref)]:
        return one
    raise UserError(f"no run {ref!r} in {home.trash}; 'tunebench runs trash' lists them")


def trashed_of(home: Home, sweep: str) -> list[TrashedRun]:
    """The runs of this sweep in the trash, the first deleted first."""
    return [run for run in trashed(home) if run.sweep == sweep][::-1]


def restore(home: Home, ref: str) -> RunFolder:
    """Bring a run back from the trash, as it was. Raises UserError: no such run, or its place or
    its name was taken meanwhile."""
    run = find_trashed(home, ref)
    folder = RunFolder(home.runs / run.id)
    try:
        home.runs.mkdir(mode=0o700, exist_ok=True)
        with locked(home.runs / ".lock"):
            for other, identity in identities(home):
                if run.name in (identity["name"], sweep_of(identity)):
                    raise UserError(
                        f"{run.id}: its name {run.name!r} is taken by {other.id}; rename that one "
                        f"first: tunebench runs rename {other.id} NAME"
                    )
            if folder.path.exists():
                raise UserError(f"{folder.path}: is there already; {run.path} stays in the trash")
            os.rename(run.path, folder.path)
        sync(home.runs)
    except OSError as error:
        raise UserError(f"{run.path}: cannot be moved back ({error.strerror})") from None
    return folder


def restore_sweep(home: Home, sweep: str) -> tuple[list[RunFolder], list[str]]:
    """Bring back what is there of a sweep; returns the runs, and why others stay in the trash: one
    that cannot come back keeps no other there."""
    back, errors = [], []
    for run in trashed_of(home, sweep):
        try:
            back.append(restore(home, run.id))
        except UserError as error:
            errors.append(str(error))
    return back, errors


def empty(home: Home, ids: Collection[str] | None = None) -> list[TrashedRun]:
    """Remove runs of the trash for good: those with these ids, or all; returns those that are gone.

    Raises UserError when a folder cannot be removed.
    """
    gone = [run for run in trashed(home) if ids is None or run.id in ids]
    for run in gone:
        purge(run)
    with suppress(FileNotFoundError):  # where a killed process left off
        for path in home.trash.glob(f"{GONE}*"):
            shutil.rmtree(path, ignore_errors=True)
    return gone


def delete_run(home: Home, folder: RunFolder) -> None:
    """Remove a run for good, past the trash. Raises UserError as :func:`move_to_trash`."""
    purge(move_to_trash(home, folder))


def purge(run: TrashedRun) -> None:
    """Remove a run that is in the trash for good. Raises UserError when that cannot be done."""
    gone = run.path.with_name(f"{GONE}{run.path.name}")
    try:
        with suppress(FileNotFoundError):
            os.rename(run.path, gone)  # what is left of it when this is killed is no run
            shutil.rmtree(gone)
    except OSError as error:
        raise UserError(f"{gone}: cannot be deleted ({error.strerror})") from None
