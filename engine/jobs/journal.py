"""The journal of a run: one flat JSON object a line, appended, never rewritten.

Writers are the run's worker and its supervisor; readers are whoever looks. A line is whole when it
ends with a newline: readers take whole lines only and count what does not parse, writers first end
a torn last line.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SCHEMA_VERSION", "Journal", "Lines", "finite", "read_lines", "whole"]

SCHEMA_VERSION = 1
SYNC_SECONDS = 1.0
"""Metrics are synced to disk at most this often: an fsync costs 0.2 to 10 ms."""

DURABLE = frozenset(
    {"state", "checkpoint", "evaluation", "error", "control", "exit", "note", "tag", "untag"}
)
"""Event types that are synced at once: rare, and what a later viewer must not miss."""

READ_BYTES = 4 << 20
HEAD_BYTES = 512
MAX_LINE_BYTES = 16 << 20


class Journal:
    """Appends events to a journal. Safe to use from several threads of one process.

    A journal that somebody removes, replaces or empties while it is written to is written anew:
    from this very file, which lives on as long as it is open, or where that is empty with what
    says which run this is.
    """

    def __init__(self, path: Path, attempt: int = 1, *, beside: bool = False) -> None:
        """``beside``: another process writes too, and may have died in the middle of a line."""
        self.path = path
        self.beside = beside
        self.attempt = attempt
        self._lock = threading.Lock()
        self._synced = 0.0
        self._torn = False
        self._fd = -1
        self._size = 0
        self._identity: dict[str, bytes] = {}
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._look_at_end()

    def _look_at_end(self) -> None:
        self._size = size = os.fstat(self._fd).st_size
        self._torn = bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"

    def _reopen_if_gone(self) -> None:
        """Somebody removed, replaced or emptied the file: go on in the one that readers open."""
        ours = os.fstat(self._fd)
        try:
            theirs = os.stat(self.path)
        except FileNotFoundError:
            theirs = None
        if theirs is not None and (theirs.st_ino, theirs.st_dev) == (ours.st_ino, ours.st_dev):
            emptied = ours.st_size < self._size
            self._size = ours.st_size
            if emptied:
                self._torn = bool(ours.st_size)
                self._tell_lost("emptied")
            return
        gone = self._fd
        self._open()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # worker and supervisor may both have seen it
            self._write_anew(gone, "removed" if theirs is None else "replaced")
        except OSError:
            if theirs is None:  # half of it would look like all of it
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd, gone = gone, -1
            raise
        finally:
            if gone >= 0:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
                os.close(gone)

    def _write_anew(self, gone: int, how: str) -> None:
        """Bring the lines of the file ``gone`` into the new one, as far as they are not there."""
        try:
            size = os.fstat(gone).st_size
        except OSError:  # a network's file system may have forgotten it
            size = 0
        if not size:
            self._tell_lost(how)
            return
        there = os.fstat(self._fd).st_size
        begins = self._equals(gone, 0, min(there, size))
        known = there <= size and begins and self._equals(gone, there - HEAD_BYTES, there)
        if begins and not known:
            return  # brought back by another writer, who has gone on
        for offset in range(there if known else 0, size, READ_BYTES):
            self._write(os.pread(gone, READ_BYTES, offset))
        self._torn = os.pread(gone, 1, size - 1) != b"\n"
        self._warn(
            f"the journal was {how} while the run wrote to it; all that it said was written again"
        )

    def _equals(self, other: int, start: int, end: int) -> bool:
        """Whether up to 512 bytes from ``start`` on, before ``end``, are the same in both files."""
        start = max(0, start)
        length = min(HEAD_BYTES, end - start)
        return os.pread(other, length, start) == os.pread(self._fd, length, start)

    def _tell_lost(self, how: str) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        self._warn(f"the journal was {how}, seen at {when}; what was written before is lost")
        for line in self._identity.values():
            self._write(line)

    def _warn(self, message: str) -> None:
        line = self._line("warning", {"message": message})
        self._write(b"\n" + line if self._torn else line)

    def _line(self, type: str, fields: dict[str, Any]) -> bytes:
        event = {"v": SCHEMA_VERSION, "t": time.time(), "type": type, "attempt": self.attempt}
        event.update((key, _finite(value)) for key, value in fields.items())
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
        return line.encode("utf-8", "replace") + b"\n"

    def sync(self) -> None:
        """Bring what was appended to the disk, into a new file where the old one is gone."""
        with self._lock:
            self._reopen_if_gone()
            os.fsync(self._fd)

    def append(self, type: str, **fields: Any) -> None:
        """Add one event. NaN and infinities are written as strings: JSON has none.

        Raises OSError when the disk is full: nothing then claims to have been written.
        """
        data = self._line(type, fields)
        with self._lock:
            now = time.monotonic()
            sync = type in DURABLE or now - self._synced >= SYNC_SECONDS
            if sync:
                self._reopen_if_gone()
            if self.beside:
                self._look_at_end()
            self._write(b"\n" + data if self._torn else data)
            if type == "state":
                self._remember(fields, data)
            if sync:
                os.fsync(self._fd)
                self._synced = now

    def _remember(self, fields: dict[str, Any], data: bytes) -> None:
        """The lines that say which process this is and what it trains."""
        if "pid" in fields:
            self._identity["worker"] = data
        elif "max_steps" in fields:
            self._identity["running"] = data

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):  # a full disk may take half a line, then raise
                written += os.write(self._fd, data[written:])
            self._torn = False
        except OSError:
            self._torn = self._torn or written > 0
            raise
        finally:
            self._size += written

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1


def finite(value: Any) -> Any:
    """Also of what a list holds: TOML can write such numbers anywhere."""
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


@dataclass
class Lines:
    """What :func:`read_lines` found."""

    events: list[dict[str, Any]]
    offset: int
    """Byte offset after the last whole line: where the next call goes on."""
    unreadable: int
    """Whole lines that are not a JSON object with a ``type``."""


def whole(data: bytes) -> Any:
    """One JSON value, of which SQLite can store everything.

    Numbers are finite, or "NaN", "Infinity" and "-Infinity" as the journal writes them; "?" stands
    for lone surrogates. Raises ValueError for what is no JSON, or nested too deep to be read.
    """
    import orjson  # 10 ms that a supervisor has no use for

    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:  # it refuses what the standard library takes
        try:
            found = json.loads(data, parse_constant=str, parse_float=_float, parse_int=_int)
        except RecursionError:
            raise ValueError("nested too deep") from None
    if b"\\u" in data or b"\xed" in data:
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    return found


def _float(digits: str) -> Any:
    return _finite(float(digits))


def _int(digits: str) -> Any:
    """Of more digits than any count has: a float, which can be compared with others."""
    return int(digits) if len(digits) < 20 else _float(digits)


def read_lines(path: Path, offset: int = 0, limit_bytes: int = READ_BYTES) -> Lines:
    """Whole lines from byte ``offset`` on, at most ``limit_bytes`` at a time.

    A missing file has no lines. A line longer than 16 MiB counts as unreadable and is passed over.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(limit_bytes)
            while b"\n" not in data and len(data) < MAX_LINE_BYTES:
                more = file.read(limit_bytes)
                if not more:
                    break
                data += more
    except (FileNotFoundError, NotADirectoryError):
        return Lines([], offset, 0)
    end = data.rfind(b"\n") + 1
    if not end and len(data) >= MAX_LINE_BYTES:
        return Lines([], offset + len(data), 1)
    import orjson

    events, unreadable = [], 0
    for line in data[:end].split(b"\n")[:-1]:
        if not line:
            continue
        try:
            try:
                event = orjson.loads(line)  # by way of whole(), a tenth of reading goes into calls
            except orjson.JSONDecodeError:
                event = whole(line)
            if not isinstance(event["type"], str):
                raise TypeError
            events.append(event)
        except (ValueError, KeyError, TypeError, RecursionError):
            unreadable += 1
    return Lines(events, offset + end, unreadable)


def read_all(path: Path) -> Iterator[dict[str, Any]]:
    """Every event of a journal, in order."""
    offset = 0
    while True:
        lines = read_lines(path, offset)
        yield from lines.events
        if lines.offset == offset:
            return
        offset = lines.offset
