"""From a file to its lines, whatever the file has been through.

Plain or gzip (told apart by content, not by name), several gzip members, cut off, damaged or with
something behind the end: what can be read is read, and what could not is said.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.errors import UserError

__all__ = ["Block", "LineReader", "open_source"]

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 256 << 20
"""A longer line is not kept: a small gzip file can hold a line larger than any memory."""
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
_UNREADABLE = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def open_source(path: Path) -> BinaryIO:
    """The file opened for reading. Raises :class:`UserError` in one clear line."""
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name a JSON Lines file in it")
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a regular file")
        file = path.open("rb")
        head = file.read(8)
        file.seek(0)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({why})") from None
    for magic, kind in _UNREADABLE.items():
        if head.startswith(magic):
            file.close()
            raise UserError(
                f"{path}: is a {kind} file; JSON Lines in UTF-8, plain or gzip, can be read"
            )
    return file


@dataclass(slots=True)
class Block:
    """Some whole lines. ``offset`` is that of the first one in the unpacked bytes."""

    number: int
    """1-based number of the first line; blank lines count."""
    offset: int
    lines: list[bytes]
    data: bytes
    """The lines joined by newlines."""


class LineReader:
    """Iterates over the blocks of lines of one file, once; the next block is read meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file_repairs: Counter[str] = Counter()
        """bom, truncated_gzip, damaged_gzip, trailing_garbage, line_too_long -> how many."""
        self.warnings: list[str] = []
        self.bytes_read = 0
        """Bytes of the file (packed ones for gzip) taken in so far."""
        self._file = open_source(path)
        self.is_gzip = self._file.read(2) == GZIP_MAGIC
        self._file.seek(0)

    def close(self) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Block]:
        chunks = self._gzip_chunks() if self.is_gzip else self._plain_chunks()
        number, position, line_start, carried = 1, 0, 0, 0
        carry: list[bytes] = []
        skipping = False
        with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
            ahead: Future[bytes] = thread.submit(next, chunks, b"")
            while chunk := ahead.result():
                ahead = thread.submit(next, chunks, b"")
                if not position and chunk.startswith(BOM):
                    self.file_repairs["bom"] += 1
                    chunk = chunk[len(BOM) :]
                    position = line_start = len(BOM)
                end = chunk.rfind(b"\n")
                if end < 0:
                    carried += len(chunk)
                    position += len(chunk)
                    skipping = skipping or carried > MAX_LINE_BYTES
                    carry = [] if skipping else [*carry, chunk]
                    continue
                if skipping:
                    # A line too long to keep: a byte that is no JSON holds its place.
                    self._too_long(number)
                    skipping = False
                    data = b"\xff" + chunk[chunk.index(b"\n") : end]
                else:
                    data = b"".join([*carry, chunk[:end]])
                lines = data.split(b"\n")
                yield Block(number, line_start, lines, data)
                number += len(lines)
                line_start = position + end + 1
                position += len(chunk)
                carry = [chunk[end + 1 :]]
                carried = len(carry[0])
            if skipping:
                self._too_long(number)
                yield Block(number, line_start, [b"\xff"], b"\xff")
            elif carried:
                data = b"".join(carry)
                yield Block(number, line_start, [data], data)

    def _too_long(self, number: int) -> None:
        self.file_repairs["line_too_long"] += 1
        self.warnings.append(
            f"{self.path}: line {number} is longer than {MAX_LINE_BYTES >> 20} MiB and was not read"
        )

    def _take(self) -> bytes:
        try:
            data = self._file.read(BLOCK_BYTES)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None
        self.bytes_read += len(data)
        return data

    def _plain_chunks(self) -> Iterator[bytes]:
        while data := self._take():
            yield data

    def _gzip_chunks(self) -> Iterator[bytes]:
        from isal import isal_zlib

        data = self._take()
        while data:
            start = self.bytes_read - len(data)
            member = isal_zlib.decompressobj(wbits=31)
            given = 0
            while not member.eof:
                try:
                    out = member.decompress(data, BLOCK_BYTES)
                except isal_zlib.error:  # type: ignore[misc]
                    yield from self._salvage(start, given)
                    return
                data = member.unconsumed_tail
                given += len(out)
                if out:
                    yield out
                if not member.eof and not data and not (data := self._take()):
                    # Whatever the decoder still holds comes with the next call, if anything does.
                    while out := member.decompress(b"", BLOCK_BYTES):
                        yield out
                    if not member.eof:
                        self.file_repairs["truncated_gzip"] += 1
                        self.warnings.append(
                            f"{self.path}: the gzip file ends in the middle; what is there was read"
                        )
                        return
            data = member.unused_data
            while not data.strip(b"\0"):  # zero padding between and behind members is allowed
                if not (data := self._take()):
                    return
            data = data.lstrip(b"\0")
            if len(data) < len(GZIP_MAGIC):
                data += self._take()
            if not data.startswith(GZIP_MAGIC):
                self.file_repairs["trailing_garbage"] += 1
                self.warnings.append(
                    f"{self.path}: something that is not gzip follows the gzip data from byte "
                    f"{self.bytes_read - len(data):,} on; it was not read"
                )
                return

    def _salvage(self, start: int, given: int) -> Iterator[bytes]:
        """What can be read of a damaged member behind its first ``given`` bytes.

        Starts the member again in small steps: a decoder that meets damage keeps back all that it
        unpacked in that call.
        """
        self.file_repairs["damaged_gzip"] += 1
        self.warnings.append(
            f"{self.path}: the gzip data is damaged near byte {self.bytes_read:,}; "
            "what comes before was read"
        )
        member = zlib.decompressobj(wbits=31)
        self._file.seek(start)
        done = 0
        try:
            while not member.eof and (data := self._file.read(64)):
                out = member.decompress(data)
                done += len(out)
                if done > given:
                    yield out[max(0, len(out) - (done - given)) :]
                    given = done
        except zlib.error:
            return
