"""W&B's offline runs: ``run-*.wandb`` is a LevelDB log of ``Record`` messages.

Header ``:W&B``, 0xBEE1 and a version byte; then blocks of 32 KiB of pieces (CRC-32 of type and
data, length, type). Nothing of wandb is needed to read them.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import UserError
from engine.imports.runs.places import open_file
from engine.imports.runs.protobuf import Malformed, fields, message, texts

__all__ = ["HISTORY", "MAGIC", "items_of", "records_of"]

MAGIC = b":W&B"
HEADER = struct.Struct("<4sHB")
BLOCK = 32_768
PIECE = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MOST_BYTES = 16 << 20
"""Of one record that is put together; longer ones are passed over."""
VERSION = 0

HISTORY, SUMMARY, CONFIG, RUN, EXIT, ENVIRONMENT = 2, 3, 5, 17, 18, 26
"""Field numbers of ``Record`` that are looked at."""
WANTED = frozenset({HISTORY, SUMMARY, CONFIG, RUN, EXIT, ENVIRONMENT})


def records_of(path: Path, broken: list[str]) -> Iterator[tuple[int, bytes]]:
    """(field number, message) of every record that matters, in order, as far as the file is whole.

    ``broken`` gets words on where it breaks off. Raises :class:`UserError` when it is no such file.
    """
    with open_file(path) as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size or not head.startswith(MAGIC):
            raise UserError(f"{path}: does not begin as a run of W&B does ({MAGIC.decode()})")
        _, magic, version = HEADER.unpack(head)
        if magic != 0xBEE1 or version != VERSION:
            raise UserError(
                f"{path}: is of version {version} of W&B's format; only version {VERSION} is known"
            )
        for data in _records(file, broken):
            try:
                for number, _, value in fields(data):
                    if number in WANTED:
                        yield number, message(value)
            except Malformed as error:
                broken.append(f"a record is no message ({error})")
                return


def _records(file: BinaryIO, broken: list[str]) -> Iterator[bytes]:
    parts: list[bytes] | None = None
    at = HEADER.size
    while True:
        left = BLOCK - at % BLOCK
        if left < PIECE.size:
            file.seek(left, 1)
            at += left
            continue
        head = file.read(PIECE.size)
        if not head:
            if parts is not None:
                broken.append(f"ends within a record, at byte {at:,}")
            return
        if len(head) < PIECE.size:
            broken.append(f"ends within a record, at byte {at:,}")
            return
        crc, length, kind = PIECE.unpack(head)
        if kind == 0 and length == 0 and crc == 0:  # a block that was set aside, not written
            return
        data = file.read(length)
        if len(data) < length:
            broken.append(f"ends within a record, at byte {at:,}")
            return
        if not FULL <= kind <= LAST or zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
            broken.append(f"the checksum at byte {at:,} does not match")
            return
        at += PIECE.size + length
        if kind == FULL:
            parts = None
            yield data
        elif kind == FIRST:
            parts = [data]
        elif parts is not None:
            parts.append(data)
            if sum(map(len, parts)) > MOST_BYTES:
                parts = None
            elif kind == LAST:
                yield b"".join(parts)
                parts = None


def items_of(data: bytes, number: int) -> Iterator[tuple[str, Any]]:
    """(key, value) of the items in field ``number``: of a history, a config or a summary.

    Keys that are nested are joined by points. Values that are no JSON are left out.
    """
    for field, _, value in fields(data):
        if field != number:
            continue
        key, text = "", None
        nested: list[str] = []
        found: Any = None
        for inner, _, part in fields(message(value)):
            if inner == 1:
                key = texts(part)
            elif inner == 2:
                nested.append(texts(part))
            elif inner == 16:
                text = texts(part)
            elif inner == 5:
                whole = part if isinstance(part, int) else 0
                found = whole >> 1 ^ -(whole & 1)  # a sint64
            elif inner == 6:
                [found] = struct.unpack("<d", message(part))
        if text is not None:
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                continue
        yield ".".join(nested) or key, found
