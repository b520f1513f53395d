"""Copies of the history in one file, and the way back.

A copy of the index alone is for reading it elsewhere: all of it can be asked, and nothing of it
can be brought back, for the journals are what everything is rebuilt from. A copy with journals
holds these: of every run ``run.json``, ``recipe.toml`` and ``events.jsonl``, and the home's
``journal.jsonl`` (notes, tags, stars, votes, prompts). Neither holds checkpoints, results, logs,
datasets, nor what is in the trash.
"""

import errno
import io
import json
import os
import re
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import UserError
from engine.history.store import Store
from engine.history.troubles import is_busy
from engine.jobs.find import run_folders
from engine.whole import sync

__all__ = [
    "FILES",
    "HEAD",
    "JOURNAL",
    "RUN_ID",
    "VERSION",
    "back_up_index",
    "back_up_journals",
    "refuse_part_of_home",
]

HEAD, JOURNAL = "backup.json", "journal.jsonl"
FILES = ("run.json", "recipe.toml", "events.jsonl")
"""Of each run, as far as they are there."""
VERSION = 1
RUN_ID = "[0-9A-Za-z][0-9A-Za-z_.-]{0,59}"
"""Folders of other names were made by hand, and are no runs that can be brought back."""
TAIL_BYTES = 1 << 16


def back_up_index(store: Store, target: Path, force: bool = False) -> int:
    """Write what the index holds to ``target``, a database of one file; returns its bytes.

    Whole or not at all, mode 0600. Raises UserError: it is there (but for ``force``), it is part of
    the home, or cannot be written.
    """
    with _new_file(store, target, force) as temporary:
        try:
            with store.lock:
                store.connection.execute("VACUUM INTO ?", (os.fspath(temporary),))
        except sqlite3.Error as error:
            if is_busy(error):
                raise UserError(f"{store.path}: is locked by another program; try later") from None
            raise UserError(f"{target}: cannot be written ({error})") from None
    return target.stat().st_size


def back_up_journals(
    store: Store,
    target: Path,
    force: bool = False,
    telling: Callable[[str], None] = lambda words: None,
) -> tuple[int, int]:
    """Write a tar.gz of all journals to ``target``; returns its bytes and the number of runs.

    Of journals that grow meanwhile the whole lines that are there now. Raises UserError as
    :func:`back_up_index`, and when a file cannot be read.
    """
    home = store.home
    folders = [folder for folder in run_folders(home) if re.fullmatch(RUN_ID, folder.id)]
    with _new_file(store, target, force) as temporary, temporary.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
            head = {"v": VERSION, "kind": "tunebench backup", "created": time.time()}
            text = json.dumps({**head, "runs": len(folders)}, indent=1).encode()
            member = _member(HEAD, len(text), time.time())
            tar.addfile(member, io.BytesIO(text))
            for number, folder in enumerate(folders):
                if number % 50 == 0:
                    telling(f"{number} of {len(folders)} runs")
                for name in FILES:
                    _add(tar, folder.path / name, f"runs/{folder.id}/{name}")
            _add(tar, home.journal, JOURNAL)
        file.flush()
        os.fsync(file.fileno())
    return target.stat().st_size, len(folders)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """A journal without what is still being written of its last line; no link is followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise UserError(f"{path}: is no file; nothing was written")
        size = _whole_lines(fd, info.st_size) if name.endswith(".jsonl") else info.st_size
        try:
            tar.addfile(_member(name, size, info.st_mtime), file)
        except OSError as error:
            if error.errno is None:  # tarfile's own: the file was cut short while it was read
                raise UserError(f"{path}: changed while it was read; try again") from None
            raise


def _whole_lines(fd: int, size: int) -> int:
    end = size
    while end:
        begin = max(0, end - TAIL_BYTES)
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _member(name: str, size: int, changed: float) -> tarfile.TarInfo:
    """Nothing of this machine's users in it."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, int(changed), 0o600
    return member


@contextmanager
def _new_file(store: Store, target: Path, force: bool) -> Iterator[Path]:
    """A file of ours beside ``target``, which takes its place when all went well."""
    target = target.expanduser().absolute()
    refuse_part_of_home(store, target)
    if target.is_dir():
        raise UserError(f"{target}: is a folder; name a file in it")
    if os.path.lexists(target) and not force:
        raise UserError(f"{target}: is there already; name another file, or add --force")
    try:
        fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        os.close(fd)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from None
    temporary = Path(name)
    try:
        yield temporary
        sync(temporary)
        if force:
            os.replace(temporary, target)
        else:
            _put_where_nothing_is(temporary, target)
        sync(target.parent)
    except FileExistsError:
        raise UserError(f"{target}: is there by now; name another file, or add --force") from None
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _put_where_nothing_is(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(target):  # a file system without hard links
            raise FileExistsError(target) from None
        os.rename(temporary, target)


def refuse_part_of_home(store: Store, target: Path) -> None:
    """Not even with --force a copy, or an export, takes the place of what it tells of."""
    home, real = store.home, target.parent.resolve() / target.name
    inside = any(
        real.is_relative_to(folder) for folder in (home.runs, home.queue, home.trash, home.datasets)
    )
    own = [home.journal, *(Path(f"{p}{s}") for p in (store.path, home.database) for s in _PARTS)]
    same = False
    with suppress(OSError):
        same = any(os.path.samefile(target, path) for path in own if path.exists())
    if inside or same or real in own:
        raise UserError(f"{target}: is a place of the home's own; write it somewhere else")


_PARTS = ("", "-wal", "-shm", ".lock")
