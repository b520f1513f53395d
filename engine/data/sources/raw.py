"""The raw records of a source by row number, for paging: entered at the nearest remembered chunk.

What can be seeked is seeked: plain UTF-8 files, Parquet row groups, Arrow batches. Packed and other
files have to be unpacked from their beginning once, at most 512 MiB a call; of gzip the decoder's
state (some 50 KB) is kept every 32 MiB, so that going back costs at most that. Other packings go
back to the beginning.
"""

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.data.sources.files import FileNotes, SourceFile
from engine.data.sources.packed import ForwardBytes, GzipBytes, PlainBytes
from engine.data.sources.source import INDEX_VERSION, where
from engine.errors import UserError

__all__ = ["MOST_AHEAD", "RawRecords"]

MOST_AHEAD = 512 << 20
"""Bytes that one call unpacks at most to get further than ever."""
Record = tuple[int, bytes]


class RawRecords:
    """Rows of a source by its index. Raises :class:`UserError` when the source has changed."""

    def __init__(self, index: dict[str, Any]) -> None:
        if index.get("version") != INDEX_VERSION:
            raise UserError("the dataset was cleaned by another version; clean it again")
        self._index = index
        self._files = [SourceFile.from_json(values) for values in index["files"]]
        for file in self._files:
            try:
                info = Path(file.path).stat()
            except OSError:
                raise UserError(f"{file.path}: the source is no longer there") from None
            if (info.st_size, info.st_mtime_ns) != (file.bytes, file.mtime_ns):
                raise UserError(f"{file.path}: has changed since it was cleaned; clean it again")
        self._blocks: list[list[Any]] = index["blocks"]
        self._rows = [block[0] for block in self._blocks]
        self._bytes: dict[int, PlainBytes | GzipBytes | ForwardBytes] = {}
        self._last: tuple[int, list[Record]] = (-1, [])

    @property
    def several(self) -> bool:
        return len(self._files) > 1

    def rest(self) -> None:
        """Let go of the last block."""
        self._last = (-1, [])

    def where(self, line: int) -> tuple[Path, int]:
        return where(self._index, line)

    def records(self, start: int, count: int) -> list[Record]:
        """(line, raw) of at most ``count`` rows from row ``start`` (0-based) on."""
        # The last block that begins at or before the row; blocks of blank lines share a number.
        at = bisect.bisect_right(self._rows, start) - 1
        found: list[Record] = []
        if at >= 0:
            self._reach(at, start)
        while 0 <= at < len(self._blocks) and len(found) < count:
            skip = max(0, start - self._rows[at])
            found += self._block(at)[skip : skip + count - len(found)]
            at += 1
        return found

    def _reach(self, at: int, start: int) -> None:
        _, _, offset, index, _ = self._blocks[at]
        file = self._files[index]
        if file.format in ("parquet", "arrow"):
            return
        data = self._open(index)
        if data.reach(offset, MOST_AHEAD):
            return
        own = [block for block in self._blocks if block[3] == index]
        row = own[bisect.bisect_right(own, data.reached, key=lambda block: block[2]) - 1][0]
        kind = file.compression or "text"
        raise UserError(
            f"{file.path}: row {start:,} lies deep in the {kind} file, unpacked as far as row "
            f"{row:,} now; ask again to go on, or clean an unpacked copy"
        )

    def _open(self, index: int) -> PlainBytes | GzipBytes | ForwardBytes:
        if index not in self._bytes:
            file = self._files[index]
            plain = file.encoding == "utf-8" and file.newline == "\n"
            if plain and not file.compression:
                self._bytes[index] = PlainBytes(Path(file.path))
            elif plain and file.compression == "gzip":
                self._bytes[index] = GzipBytes(Path(file.path))
            else:
                self._bytes[index] = ForwardBytes(file)
        return self._bytes[index]

    def _block(self, at: int) -> list[Record]:
        """The records of a block; the last one is kept."""
        if self._last[0] != at:
            self._last = (at, self._read(at))
        return self._last[1]

    def _read(self, at: int) -> list[Record]:
        rows, number, offset, index, state = self._blocks[at]
        file = self._files[index]
        following = self._blocks[at + 1] if at + 1 < len(self._blocks) else None
        if file.format in ("parquet", "arrow"):
            upto = following[1] if following and following[3] == index else None
            return self._batches(file, number, offset, state, upto)
        end = following[2] if following and following[3] == index else None
        data = self._open(index)
        if file.format == "jsonl":
            lines = enumerate(data.read(offset, end).split(b"\n"), number)
            return [(n, line) for n, line in lines if line and not line.isspace()]
        wanted = following[0] - rows if following else None
        return self._parsed(file, data.read(offset, end), number, offset, state, index)[:wanted]

    def _parsed(
        self, file: SourceFile, data: bytes, number: int, offset: int, state: Any, index: int
    ) -> list[Record]:
        from engine.data.sources.arrays import cut_elements
        from engine.data.sources.delimited import cut_records

        notes = FileNotes()
        if file.format == "csv":
            cuts = cut_records(iter([data]), file.path, file.delimiter, notes, number, offset)
            return [(record.line, record.raw) for cut in cuts for record in cut.data]
        base = self._index["starts"][index] - 1
        cuts = cut_elements(iter([data]), file.path, notes, base, number, offset, state)
        return [record for cut in cuts for record in cut.data]

    @staticmethod
    def _batches(
        file: SourceFile, number: int, group: int, skip: int, upto: int | None
    ) -> list[Record]:
        from engine.data.sources.columnar import batch_rows, cut_batches
        from engine.data.sources.parser import record_json

        found: list[Record] = []
        for cut in _first(cut_batches(file, None, FileNotes(), number, group, skip), upto):
            if cut.data is None:
                found += [(cut.number + row, b"") for row in range(cut.rows)]
                continue
            values = batch_rows(cut.data)
            found += [
                (cut.number + row, record_json(value) if value is not None else b"")
                for row, value in enumerate(values)
            ]
        return [record for record in found if upto is None or record[0] < upto]


def _first(cuts: Iterator[Any], upto: int | None) -> Iterator[Any]:
    for cut in cuts:
        if upto is not None and cut.number >= upto:
            return
        yield cut
