"""Brings back what a copy with journals holds (see :mod:`engine.history.backup`).

The copy may come from anywhere: only plain files of the names that belong in it are taken, each
written under a name of our own, and nothing of it before all of it was read. Nothing that the home
has is changed or replaced: runs that are there stay as they are, and the events of the home's
journal are joined, each line once, in the order of their times.
"""

import os
import re
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from engine.errors import UserError
from engine.history.backup import FILES, HEAD, JOURNAL, RUN_ID, VERSION
from engine.home import Home
from engine.jobs.create import refuse_bad_name
from engine.jobs.find import identities
from engine.jobs.folder import RunFolder
from engine.jobs.journal import whole
from engine.jobs.lock import locked
from engine.text import clip
from engine.whole import sync

__all__ = ["Restored", "refuse_index", "restore_backup"]

OF_RUN = re.compile(f"runs/({RUN_ID})/({'|'.join(map(re.escape, FILES))})")
SMALL_BYTES = 8 << 20
"""A ``run.json`` or recipe is never larger."""
SPARE_BYTES = 64 << 20
"""So much of the disk stays free."""
STAGING = ".new-restored-"
SQLITE = b"SQLite format 3\0"


class _Plain(tarfile.TarInfo):
    """A header of a plain file. Others can bring lists of their own, which are read into memory
    before anybody is asked, however long they are."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise tarfile.ReadError(f"{clip(self.name, 80)!r} is no plain file")
        return super()._proc_member(tar)  # type: ignore[misc]


@dataclass
class Restored:
    """What came of it."""

    runs: list[str] = field(default_factory=list)
    """Ids of those that are back."""
    there: list[str] = field(default_factory=list)
    """Of those that the home has already, in the trash too."""
    refused: list[str] = field(default_factory=list)
    """Why others are not, a line each."""
    events: int = 0
    """Lines of the home's journal that are back."""


def restore_backup(
    home: Home, file: Path, telling: Callable[[str], None] = lambda words: None
) -> Restored:
    """Bring back into the home what it lacks of the copy ``file``.

    Raises UserError: no such copy, a damaged one, one with anything else in it, or no room.
    """
    refuse_index(file)
    try:
        home.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=home.runs))
    except OSError as error:
        raise UserError(f"{home.runs}: cannot be written ({error.strerror})") from None
    try:
        _unpack(file, staging, telling)
        found = Restored()
        with locked(home.runs / ".lock"):
            _place_runs(home, staging, found)
        found.events = _join_journal(home, staging / JOURNAL)
        return found
    except OSError as error:
        raise UserError(
            f"{error.filename or file}: cannot be restored ({error.strerror or error})"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def refuse_index(file: Path) -> None:
    """Raise UserError where ``file`` is a copy of the index."""
    try:
        if not file.is_file():  # of a pipe nothing may be read twice
            return
        with file.open("rb") as opened:
            head = opened.read(len(SQLITE))
    except OSError:
        return  # unpacking it says what is wrong
    if head == SQLITE:
        raise UserError(
            f"{file}: is a copy of the index, for reading only: nothing can be restored from it; "
            "'tunebench runs backup FILE --with-journals' copies what can"
        )


def _unpack(file: Path, staging: Path, telling: Callable[[str], None]) -> None:
    try:
        # As a stream: nothing is sought, and nothing is read twice.
        with tarfile.open(file, mode="r|gz", tarinfo=_Plain) as tar:
            seen: set[str] = set()
            for member in tar:
                if HEAD not in seen and member.name != HEAD:
                    raise _other(file)
                if member.name in seen:
                    raise UserError(f"{file}: has {clip(member.name, 80)!r} twice")
                seen.add(member.name)
                if len(seen) % 200 == 0:
                    telling(f"{len(seen) // len(FILES)} runs read")
                _take(file, tar, member, staging)
            if HEAD not in seen:
                raise _other(file)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(
            f"{file}: is no copy with journals, or damaged ({error}); nothing was restored"
        ) from None


def _other(file: Path) -> UserError:
    return UserError(
        f"{file}: is no copy of 'tunebench runs backup FILE --with-journals'; nothing was restored"
    )


def _take(file: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, staging: Path) -> None:
    """Write one file, if it is one that belongs in such a copy."""
    found = OF_RUN.fullmatch(member.name)
    if not found and member.name not in (HEAD, JOURNAL):
        raise UserError(
            f"{file}: has {clip(member.name, 80)!r}, which belongs in no copy; nothing was restored"
        )
    small = not member.name.endswith(".jsonl")
    if small and member.size > SMALL_BYTES:
        raise UserError(f"{file}: {member.name} has {member.size:,} bytes; nothing was restored")
    if member.size + SPARE_BYTES > shutil.disk_usage(staging).free:
        raise UserError(f"{file}: there is no room for {member.name} ({member.size:,} bytes)")
    source = tar.extractfile(member)
    assert source is not None
    if found:
        folder = staging / found[1]
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / found[2], source)
        return
    _write(staging / member.name, source)
    if member.name == HEAD:
        _check_head(file, staging / HEAD)


def _write(path: Path, source: IO[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(fd)


def _check_head(file: Path, path: Path) -> None:
    try:
        head = whole(path.read_bytes())
        kind, version = head["kind"], head["v"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _other(file) from None
    if kind != "tunebench backup":
        raise _other(file)
    if version != VERSION:
        raise UserError(f"{file}: was written by a newer tunebench; update tunebench")


def _place_runs(home: Home, staging: Path, found: Restored) -> None:
    taken = {identity["name"]: folder.id for folder, identity in identities(home)}
    for path in sorted(path for path in staging.iterdir() if path.is_dir()):
        id = path.name
        if (home.runs / id).exists() or (home.trash / id).exists():
            found.there.append(id)
            continue
        try:
            identity = RunFolder(path).read_identity()
            name = str(identity["name"])
            if identity["id"] != id:
                raise ValueError(id)
            refuse_bad_name(name)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, UserError):
            found.refused.append(f"{id}: its run.json in the copy is missing or damaged")
            continue
        if name in taken:
            found.refused.append(f"{id}: its name {clip(name, 64)!r} is taken by {taken[name]}")
            continue
        RunFolder(path).control.mkdir(mode=0o700)
        sync(path)
        os.rename(path, home.runs / id)
        taken[name] = id
        found.runs.append(id)
    sync(home.runs)


def _join_journal(home: Home, copy: Path) -> int:
    """Put the copy's lines among the home's; returns how many were not there."""
    if not copy.exists():
        return 0
    with locked(home.journal):
        theirs, ours = copy.read_bytes(), home.journal.read_bytes()
        if ours and not ours.endswith(b"\n"):
            ours += b"\n"  # a torn last line: whoever writes next ends it the same way
        known = set(ours.split(b"\n"))
        new = [line for line in theirs.split(b"\n")[:-1] if line and line not in known]
        if not new:
            return 0
        merged = sorted([*_timed(new), *_timed(ours.split(b"\n")[:-1])], key=lambda pair: pair[0])
        temporary = home.journal.with_name(f".{home.journal.name}.{os.getpid()}")
        try:
            _write_lines(temporary, [line for _, line in merged])
            if ours:
                stamp = time.strftime("%Y%m%d-%H%M%S")
                before = home.journal.with_name(f"{home.journal.name}.before-{stamp}")
                shutil.copy2(home.journal, before)
                sync(before)
            os.rename(temporary, home.journal)
            sync(home.path)
        finally:
            temporary.unlink(missing_ok=True)
    return len(new)


def _timed(lines: list[bytes]) -> list[tuple[float, bytes]]:
    """Each line with its time; one that tells none keeps to the line before it."""
    found, now = [], 0.0
    for line in lines:
        try:
            told = whole(line)["t"]
            now = float(told) if isinstance(told, int | float) else now
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        found.append((now, line))
    return found


def _write_lines(path: Path, lines: list[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(fd)
