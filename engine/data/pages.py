"""Pages of a dataset's rows for the screen: 50 rows out of millions, in milliseconds.

Splits are sliced from the memory map, Parquet files read one row group, the raw file is entered at
the nearest remembered block.
"""

import bisect
import itertools
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.data.dataset import Dataset

__all__ = ["Pages"]

RAW_BYTES = 64 << 10
"""Bytes of a raw line that a page shows."""
_CHUNK = 1 << 20
_KEEP_EVERY = 32 << 20
_MOST_AHEAD = 512 << 20


class Pages:
    """The row readers of one dataset; files are opened at first use and stay open."""

    def __init__(self, dataset: "Dataset") -> None:
        self._dataset = dataset
        self._splits: dict[str, pa.Table] = {}
        self._parquet: dict[str, _ParquetPages] = {}
        self._raw: _RawPages | None = None

    def rest(self) -> None:
        """Let go of what was decoded for the last pages; the files stay open."""
        for reader in (*self._parquet.values(), self._raw):
            if reader is not None:
                reader.rest()

    def split(self, name: str) -> pa.Table:
        if name not in self._splits:
            with pa.memory_map(str(self._dataset.file(name))) as source:
                self._splits[name] = pa.ipc.open_stream(source).read_all()
        return self._splits[name]

    def page(self, view: str, start: int, count: int) -> list[dict[str, Any]]:
        if view == "raw":
            if self._raw is None:
                self._raw = _RawPages(self._dataset)
            return self._raw.page(start, count)
        if view in ("cleaned", "dropped"):
            what = "audit" if view == "dropped" else view
            if what not in self._parquet:
                self._parquet[what] = _ParquetPages(self._dataset.file(what))
            return self._parquet[what].page(start, count)
        return self.split(view).slice(start, count).to_pylist()


class _ParquetPages:
    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path, memory_map=True)
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = list(itertools.accumulate(sizes))
        self._group = -1
        self._table: pa.Table | None = None

    def rest(self) -> None:
        self._group, self._table = -1, None

    def page(self, start: int, count: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        group = bisect.bisect_right(self._ends, start)
        while group < len(self._ends) and len(rows) < count:
            if group != self._group or self._table is None:
                self._table = self._file.read_row_group(group)
                self._group = group
            before = self._ends[group - 1] if group else 0
            at = start + len(rows) - before
            rows += self._table.slice(at, count - len(rows)).to_pylist()
            group += 1
        return rows


class _RawPages:
    """The lines of the source that are not blank, by row number.

    A plain file is entered at the block that holds the row. A gzip file has to be unpacked from
    its beginning once (0.3 s for 100 MB unpacked), at most 512 MiB a call; every 32 MiB the
    decoder's state (some 50 KB) is kept, so that going back costs at most that.
    """

    def __init__(self, dataset: "Dataset") -> None:
        source = dataset.manifest["source"]
        self._path = Path(source["path"])
        try:
            info = self._path.stat()
        except OSError:
            raise UserError(f"{self._path}: the source is no longer there") from None
        if [info.st_size, info.st_mtime_ns] != [source["bytes"], source["mtime_ns"]]:
            raise UserError(f"{self._path}: has changed since it was cleaned; clean it again")
        index = json.loads(dataset.file("raw_index").read_text(encoding="utf-8"))
        self._blocks: list[list[int]] = index["blocks"]
        self._rows = [block[0] for block in self._blocks]
        file = self._path.open("rb")
        self._bytes: _PlainBytes | _GzipBytes = (
            _GzipBytes(file) if index["gzip"] else _PlainBytes(file)
        )
        self._last: tuple[int, list[tuple[int, bytes]]] = (-1, [])

    def rest(self) -> None:
        self._last = (-1, [])

    def page(self, start: int, count: int) -> list[dict[str, Any]]:
        # The last block that begins at or before the row; blocks of blank lines share a number.
        at = bisect.bisect_right(self._rows, start) - 1
        rows: list[dict[str, Any]] = []
        if at >= 0 and not self._bytes.reach(self._blocks[at][2], _MOST_AHEAD):
            far = self._bytes.reached
            row = self._rows[bisect.bisect_right(self._blocks, far, key=lambda b: b[2]) - 1]
            raise UserError(
                f"{self._path}: row {start:,} lies deep in the gzip file, unpacked as far as row "
                f"{row:,} now; ask again to go on, or clean an unpacked copy"
            )
        while 0 <= at < len(self._blocks) and len(rows) < count:
            skip = max(0, start - self._rows[at])
            for number, line in self._lines(at)[skip : skip + count - len(rows)]:
                text = line[:RAW_BYTES].decode("utf-8", "replace")
                rows.append({"line": number, "raw": text})
            at += 1
        return rows

    def _lines(self, at: int) -> list[tuple[int, bytes]]:
        """Numbers and bytes of a block's lines that are not blank; the last block is kept."""
        if self._last[0] != at:
            _, number, offset = self._blocks[at]
            end = self._blocks[at + 1][2] if at + 1 < len(self._blocks) else None
            lines = enumerate(self._bytes.read(offset, end).split(b"\n"), number)
            self._last = (at, [(n, line) for n, line in lines if line and not line.isspace()])
        return self._last[1]


class _PlainBytes:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    reached = 0

    def reach(self, start: int, most: int) -> bool:
        """Whether ``start`` can be read from at once: always, here."""
        return True

    def read(self, start: int, end: int | None) -> bytes:
        """The bytes from ``start`` to ``end`` (None: to the end of the file)."""
        self._file.seek(start)
        return self._file.read() if end is None else self._file.read(end - start)


class _GzipBytes:
    """Random access to unpacked bytes by way of remembered states of the decoder."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = zlib.decompressobj(wbits=31)
        self._position = 0
        self._pending = b""
        self._over = False
        self._kept: list[tuple[int, int, Any, bytes]] = [(0, 0, self._decoder.copy(), b"")]
        self._last = (0, b"")
        """Where the last unpacked piece begins, and the piece: the next page goes on in it."""

    @property
    def reached(self) -> int:
        """Unpacked bytes behind which nobody has been yet."""
        return max(self._position, self._kept[-1][0])

    def reach(self, start: int, most: int) -> bool:
        """Unpack at most ``most`` bytes further than ever; whether that gets to ``start``."""
        end = min(start, self.reached + most)
        if end > self.reached:
            self._enter(end)
            while self._position < end and self._next():
                pass
        return start <= end

    def read(self, start: int, end: int | None) -> bytes:
        """The unpacked bytes from ``start`` to ``end`` (None: as far as they can be unpacked)."""
        at, data = self._last
        if not at <= start < self._position:
            nearest = self._kept[self._nearest(start)][0]
            if start < self._position or nearest > self._position:
                self._enter(start)
            at, data = self._position, b""
        parts: list[bytes] = []
        while True:
            stop = len(data) if end is None else min(len(data), end - at)
            parts.append(data[max(0, start - at) : stop])
            if end is not None and self._position >= end:
                break
            at = self._position
            if not (data := self._next()):
                break
        self._last = (at, data)
        return b"".join(parts)

    def _nearest(self, start: int) -> int:
        return bisect.bisect_right(self._kept, start, key=lambda kept: kept[0]) - 1

    def _enter(self, start: int) -> None:
        self._position, place, decoder, self._pending = self._kept[self._nearest(start)]
        self._decoder = decoder.copy()
        self._over = False
        self._file.seek(place)
        self._last = (self._position, b"")

    def _next(self) -> bytes:
        """Some more unpacked bytes; none at the end, wherever damage puts it."""
        if self._position - self._kept[-1][0] >= _KEEP_EVERY:
            kept = (self._position, self._file.tell(), self._decoder.copy(), self._pending)
            self._kept.append(kept)
        while not self._over:
            if self._decoder.eof:
                rest = (self._decoder.unused_data or self._pending).lstrip(b"\0")
                while not rest and (more := self._file.read(_CHUNK)):
                    rest = more.lstrip(b"\0")
                self._pending = rest
                if not rest.startswith(b"\x1f"):
                    self._over = True
                    break
                self._decoder = zlib.decompressobj(wbits=31)
            data = self._pending or self._file.read(_CHUNK)
            try:
                out = self._decoder.decompress(data, _CHUNK)
            except zlib.error:
                self._over = True
                break
            self._pending = self._decoder.unconsumed_tail
            if out:
                self._position += len(out)
                return out
            if not data:
                self._over = True
        return b""
