"""What killed processes left behind in the runs' folders: never shown, never used, in the way.

Everything here is recognised by its name (they all begin with a dot); nothing that a living run or
a command at work may still be writing is among it.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.home import Home
from engine.jobs import checkpoints, entries
from engine.jobs.create import settle
from engine.jobs.find import run_folders
from engine.jobs.folder import RunFolder
from engine.jobs.lock import is_alive
from engine.whole import sync

__all__ = ["QUIET_SECONDS", "Leftover", "clear", "leftovers"]

QUIET_SECONDS = 3600.0
"""What was changed since then may belong to a command that is at work."""

OF_HOME = (".new-", ".gone-", ".queued-")
OF_RUN = (".tmp-", ".gone-", ".old-")


@dataclass(frozen=True)
class Leftover:
    """A folder that nobody goes on with."""

    path: Path
    returns: bool = False
    """True: it is whole, its place is free, and it is put back there: a checkpoint or a result that
    was being exchanged for a newer one, or runs that were being queued."""

    @property
    def place(self) -> Path:
        return self.path.with_name(self.path.name.removeprefix(".old-"))


def leftovers(home: Home, quiet_seconds: float = QUIET_SECONDS) -> list[Leftover]:
    """All of them that nothing has changed for ``quiet_seconds``; a stat or two a run."""
    before = time.time() - quiet_seconds
    found = [
        Leftover(path, path.name.startswith(".queued-"))
        for path in _hidden(home.runs, OF_HOME)
        if _changed(path) < before
    ]
    for folder in run_folders(home):
        there = [*_hidden(folder.path, OF_RUN), *_hidden(folder.checkpoints, OF_RUN)]
        there = [path for path in there if _changed(path) < before]
        if there and not _alive(folder):
            found += [Leftover(path, _returns(path)) for path in there]
    return found


def _alive(folder: RunFolder) -> bool:
    try:
        return is_alive(folder)
    except (UserError, OSError):  # nobody can tell: it may be
        return True


def _hidden(folder: Path, begin: tuple[str, ...]) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as there:
        for entry in there:
            if entry.name.startswith(begin) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _returns(path: Path) -> bool:
    """Where two folders cannot change places at once, the old one is out of the way for a moment;
    whoever dies in it leaves nothing in its place (see :func:`engine.whole.put_in_place`)."""
    left = Leftover(path)
    if left.place == path or left.place.exists():
        return False
    return checkpoints.is_whole(path, content=False)


def clear(home: Home, quiet_seconds: float = QUIET_SECONDS) -> tuple[list[Leftover], list[str]]:
    """Remove what is there, put back what was on its way; returns these and what went wrong."""
    done, failed = [], []
    for left in leftovers(home, quiet_seconds):
        try:
            if not left.returns:
                shutil.rmtree(left.path)
            elif left.path.name.startswith(".queued-"):
                with entries.hold(home):
                    settle(home)
            else:
                os.rename(left.path, left.place)
                sync(left.place.parent)
            done.append(left)
        except FileNotFoundError:
            continue  # somebody else was quicker
        except OSError as error:
            failed.append(f"{left.path} ({error.strerror})")
    return done, failed
