"""The journal of a run: one flat JSON object a line, appended, never rewritten.

Writers are the run's worker and its supervisor; readers are whoever looks. A line is whole when it
ends with a newline: readers take whole lines only and count what does not parse, writers first end
a torn last line.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SCHEMA_VERSION", "Journal", "Lines", "read_lines", "whole"]

SCHEMA_VERSION = 1
SYNC_SECONDS = 1.0
"""Metrics are synced to disk at most this often: an fsync costs 0.2 to 10 ms."""

DURABLE = frozenset(
    {"state", "checkpoint", "evaluation", "error", "control", "exit", "note", "tag", "untag"}
)
"""Event types that are synced at once: rare, and what a later viewer must not miss."""

READ_BYTES = 4 << 20
MAX_LINE_BYTES = 16 << 20


class Journal:
    """Appends events to a journal. Safe to use from several threads of one process."""

    def __init__(self, path: Path, attempt: int = 1) -> None:
        self.path = path
        self.attempt = attempt
        self._lock = threading.Lock()
        self._synced = 0.0
        self._torn = False
        self._fd = -1
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        self._torn = bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"

    def _reopen_if_gone(self) -> None:
        """Somebody removed or replaced the file: go on in the one that readers will open."""
        ours = os.fstat(self._fd)
        try:
            theirs = os.stat(self.path)
        except FileNotFoundError:
            theirs = None
        if theirs is None or (theirs.st_ino, theirs.st_dev) != (ours.st_ino, ours.st_dev):
            gone = self._fd
            self._open()
            os.close(gone)

    def append(self, type: str, **fields: Any) -> None:
        """Add one event. NaN and infinities are written as strings: JSON has none.

        Raises OSError when the disk is full: nothing then claims to have been written.
        """
        event = {"v": SCHEMA_VERSION, "t": time.time(), "type": type, "attempt": self.attempt}
        event.update((key, _finite(value)) for key, value in fields.items())
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)
        data = line.encode("utf-8", "replace") + b"\n"
        with self._lock:
            now = time.monotonic()
            sync = type in DURABLE or now - self._synced >= SYNC_SECONDS
            if sync:
                self._reopen_if_gone()
            self._write(b"\n" + data if self._torn else data)
            if sync:
                os.fsync(self._fd)
                self._synced = now

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):  # a full disk may take half a line, then raise
                written += os.write(self._fd, data[written:])
            self._torn = False
        except OSError:
            self._torn = self._torn or written > 0
            raise

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1


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
    """``json.loads``, with "?" for lone surrogates: JSON can say them, SQLite cannot store them."""
    found = json.loads(data)
    if b"\\u" in data or b"\xed" in data:
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    return found


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
    events, unreadable = [], 0
    for line in data[:end].split(b"\n")[:-1]:
        if not line:
            continue
        try:
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
