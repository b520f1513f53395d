"""TensorBoard's event files: TFRecords (length, checksum, data, checksum) of ``Event`` messages.

Read by the few fields that scalars and one text need, so that neither TensorFlow nor TensorBoard
(75 MB with what it needs) has to be installed.
"""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from engine.imports.runs.places import Place, open_file
from engine.imports.runs.protobuf import (
    Malformed,
    doubles,
    fields,
    floats,
    message,
    signed,
    texts,
    varints,
)

__all__ = [
    "ARGS",
    "Read",
    "Value",
    "arguments_of",
    "event_files_in",
    "is_event_file",
    "look",
    "values_of",
]

ARGS = "args/text_summary"
"""The tag under which Transformers logs its arguments."""
MOST_BYTES = 1 << 20
"""Of a record that is looked into: those of scalars have 60. Pictures and histograms are longer and
are passed over unread."""
_STAMP = re.compile(r"tfevents\.(\d{9,11})\b")
DEPTH = 3
MOST_FILES = 2_000

FLOAT, DOUBLE, INT32, STRING, INT64 = 1, 2, 3, 7, 9
"""Of TensorFlow's DataType."""


class Value(NamedTuple):
    """One scalar, or the text of ``args/text_summary``."""

    wall: float
    step: int
    tag: str
    value: float | str


class Read:
    """How reading a file went."""

    def __init__(self) -> None:
        self.broken = ""
        """Where the file breaks off, in words; empty: it is whole."""


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


_CRC = _table()


def masked_crc32c(data: bytes) -> int:
    """CRC-32C, turned and shifted as TFRecords have it."""
    value, table = 0xFFFFFFFF, _CRC
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_event_file(name: str) -> bool:
    return "tfevents" in name and not name.endswith((".profile-empty", ".gz"))


def event_files_in(place: Place, deep: bool = False) -> list[Path]:
    """The event files of a folder, in the order in which they were begun.

    ``deep``: those of folders inside it too, such as ``runs/<date>``.
    """
    found: list[Path] = []

    def look(below: str, depth: int) -> None:
        for name in place.names(below):
            inner = f"{below}/{name}" if below else name
            if is_event_file(name):
                if (path := place.file(inner)) is not None and len(found) < MOST_FILES:
                    found.append(path)
            elif depth and not name.startswith(("checkpoint-", ".")) and place.folder(inner):
                look(inner, depth - 1)

    look("", DEPTH if deep else 0)
    return sorted(dict.fromkeys(found), key=_begun)


def _begun(path: Path) -> tuple[int, str]:
    match = _STAMP.search(path.name)
    return int(match.group(1)) if match else 0, path.name


def _records(file: BinaryIO, read: Read) -> Iterator[bytes]:
    size = file.seek(0, 2)
    at = file.seek(0)
    while at < size:
        head = file.read(12)
        if len(head) < 12:
            read.broken = f"ends within a record, at byte {at:,}"
            return
        length, crc = struct.unpack("<QI", head)
        if masked_crc32c(head[:8]) != crc:
            read.broken = f"the checksum of the record at byte {at:,} does not match"
            return
        if at + 16 + length > size:
            read.broken = f"ends within a record, at byte {at:,}"
            return
        if length <= MOST_BYTES:
            data = file.read(length)
            [crc] = struct.unpack("<I", file.read(4))
            if masked_crc32c(data) != crc:
                read.broken = f"the checksum of the record at byte {at:,} does not match"
                return
            yield data
        at = file.seek(at + 16 + length)


def values_of(path: Path, read: Read) -> Iterator[Value]:
    """Scalars in the order written, up to where the file breaks off: ``read`` then says where.

    Raises :class:`UserError` when the file cannot be opened.
    """
    with open_file(path) as file:
        for number, record in enumerate(_records(file, read)):
            try:
                yield from _event(record)
            except (Malformed, struct.error):
                read.broken = f"its record {number + 1:,} is no event of TensorBoard"
                return


def _event(record: bytes) -> Iterator[Value]:
    wall, step, summary = 0.0, 0, b""
    for number, _, value in fields(record):
        if number == 1:
            [wall] = doubles(value)
        elif number == 2:
            step = signed(value)
        elif number == 5:
            summary = message(value)
    for number, _, value in fields(summary):
        if number == 1 and (found := _summary(message(value))) is not None:
            yield Value(wall, step, *found)


def _summary(data: bytes) -> tuple[str, float | str] | None:
    """(tag, scalar or text) of one ``Summary.Value``; None for every other kind."""
    tag = ""
    found: float | str | None = None
    for number, _, value in fields(data):
        if number == 1:
            tag = texts(value)
        elif number == 2:
            [found] = floats(value)
        elif number == 8:
            tensor = _tensor(message(value))
            found = tensor if found is None else found
    return None if found is None else (tag, found)


def _tensor(data: bytes) -> float | str | None:
    """The only element of a tensor; None when there are several, or of a kind that is no scalar."""
    kind, content = 0, b""
    found: list[float | str] = []
    for number, _, value in fields(data):
        if number == 1:
            kind = signed(value)
        elif number == 4:
            content = message(value)
        elif number == 5:
            found += floats(value)
        elif number == 6:
            found += doubles(value)
        elif number in (7, 10):
            found += varints(value)
        elif number == 8:
            found.append(texts(value))
    if content and not found:
        if kind == FLOAT and len(content) == 4:
            found += floats(content)
        elif kind == DOUBLE and len(content) == 8:
            found += doubles(content)
        elif kind in (INT32, INT64) and len(content) == (4 if kind == INT32 else 8):
            found = [int.from_bytes(content, "little", signed=True)]
    return found[0] if len(found) == 1 else None


def look(paths: list[Path], last: int) -> tuple[list[tuple[int, float]], dict[str, Any]]:
    """(step, time) of every logged step up to ``last`` in the files, ascending, and the arguments
    that Transformers logs as a text.

    No times when there are fewer than two. Where a later training logs steps again, its times
    count.
    """
    found: dict[int, float] = {}
    args: dict[str, Any] = {}
    highest = 0
    for path in paths:
        for wall, step, tag, value in values_of(path, Read()):
            if isinstance(value, str):
                args = arguments_of(value) if tag == ARGS else args
                continue
            if not tag.startswith(("train/", "eval/")) or not 0 < step <= last:
                continue
            if step < highest:  # another training began here, or this one went on from a checkpoint
                found = {known: one for known, one in found.items() if known < step}
            highest = step
            found.setdefault(step, wall)
    known = [(step, wall) for step, wall in sorted(found.items()) if 0 < wall < 1e11]
    return (known if len(known) > 1 else []), args


def arguments_of(text: str) -> dict[str, Any]:
    """The mapping that ``args.to_json_string()`` wrote; empty when it is none."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}
