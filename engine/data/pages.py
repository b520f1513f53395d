"""Pages of a dataset's rows for the screen: 50 rows out of millions, in milliseconds.

Splits are sliced from the memory map, Parquet files read one row group, the raw source is entered
at the nearest remembered chunk.
"""

import bisect
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.sources.raw import RawRecords

if TYPE_CHECKING:
    from engine.data.dataset import Dataset

__all__ = ["Pages"]

RAW_BYTES = 64 << 10
"""Bytes of a raw line that a page shows."""


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
    """The rows of the source by their number; ``line`` runs on over its files."""

    def __init__(self, dataset: "Dataset") -> None:
        index = json.loads(dataset.file("raw_index").read_text(encoding="utf-8"))
        self._records = RawRecords(index)
        self._folder = Path(dataset.manifest["source"]["path"])

    def rest(self) -> None:
        self._records.rest()

    def page(self, start: int, count: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for number, raw in self._records.records(start, count):
            row = {"line": number, "raw": raw[:RAW_BYTES].decode("utf-8", "replace")}
            if self._records.several:
                path, line = self._records.where(number)
                inside = path.is_relative_to(self._folder)
                row["file"] = str(path.relative_to(self._folder) if inside else path)
                row["file_line"] = line
            rows.append(row)
        return rows
