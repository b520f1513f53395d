"""The files of a dataset as they are written: Parquet while reading, Arrow for the splits."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.rows import Row
from engine.data.split import SIDES
from engine.whole import sync

__all__ = [
    "AUDIT_SCHEMA",
    "ROW_SCHEMA",
    "ROW_SCHEMAS",
    "RowWriter",
    "SplitWriters",
    "batch",
    "in_line_order",
    "read_batches",
    "row_batch",
]

ROW_SCHEMA = pa.schema([("line", pa.int64()), ("prompt", pa.string()), ("completion", pa.string())])
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
ROW_SCHEMAS = {
    "pair": ROW_SCHEMA,
    "text": ROW_SCHEMA,
    "instruction": ROW_SCHEMA.append(pa.field("instruction", pa.string())).append(
        pa.field("system", pa.string())
    ),
    "conversation": ROW_SCHEMA.append(pa.field("messages", _MESSAGES)),
}
"""Columns of ``train``, ``validation``, ``test`` and ``cleaned``, by shape."""
AUDIT_SCHEMA = pa.schema(
    [("line", pa.int64()), ("rule", pa.string()), ("evidence", pa.string()), ("raw", pa.string())]
)
GROUP_ROWS = 10_000
"""A page is read from one row group: 10,000 rows of 800 bytes unpack in some 10 ms."""
GROUP_BYTES = 64 << 20
_SYNC_BYTES = 128 << 20
"""Written in this many bytes, a file is brought to the disk while the next ones are made."""


def batch(schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Rows of values in the order of the schema's columns."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def row_batch(shape: str, lines: Sequence[int], rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows of a dataset of this shape, with their line numbers."""
    columns: list[Any] = [lines, [row.prompt for row in rows], [row.completion for row in rows]]
    if shape == "instruction":
        columns += [[row.instruction for row in rows], [row.system for row in rows]]
    elif shape == "conversation":
        columns.append([[m._asdict() for m in row.messages] for row in rows])
    schema = ROW_SCHEMAS[shape]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def in_line_order(one: pa.RecordBatch, other: pa.RecordBatch) -> pa.RecordBatch:
    """Two batches of one schema, each ordered by ``line``, as one."""
    if not other.num_rows or not one.num_rows:
        return one if one.num_rows else other
    lines = np.concatenate([one.column("line").to_numpy(), other.column("line").to_numpy()])
    both = pa.Table.from_batches([one, other]).combine_chunks().to_batches()[0]
    return both.take(pa.array(np.argsort(lines)))


class RowWriter:
    """Writes batches to a Parquet or Arrow file, :data:`GROUP_ROWS` rows at a time.

    A thread packs and writes one group while the next is made, and now and then brings what is
    written to the disk, so that little is left to wait for at the end. Two writings of the same
    rows give the same bytes, however they came in batches.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = self._unsynced = 0
        self._writer: Any
        if path.suffix == ".parquet":  # LZ4 is fast to page through
            self._writer = pq.ParquetWriter(
                path, schema, compression="lz4", use_dictionary=False, write_statistics=["line"]
            )
        else:
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_stream(self._sink, schema)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self.close()
                return
        finally:
            self._thread.shutdown()
        # Closing writes the footer, which a full disk refuses as well: keep the first error.
        with suppress(OSError):
            self._end()

    def add(self, batch: pa.RecordBatch) -> None:
        """Some rows. Raises what the writing of earlier ones ended with."""
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, GROUP_ROWS - self._rows)
            start += part.num_rows
            self._waiting.append(part)
            self._rows += part.num_rows
            self._bytes += part.nbytes
            if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.Table.from_batches(self._waiting, self._schema)
            self._unsynced += self._bytes
            due = self._unsynced >= _SYNC_BYTES
            self._unsynced = 0 if due else self._unsynced
            self._waiting, self._rows, self._bytes = [], 0, 0
            self._wait()
            self._last = self._thread.submit(self._write, table, due)

    def _write(self, table: pa.Table, then_sync: bool) -> None:
        self._writer.write_table(table.combine_chunks(), GROUP_ROWS)
        if then_sync:
            sync(self._path)

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def _end(self) -> None:
        self._writer.close()
        if self._path.suffix != ".parquet":
            self._sink.close()

    def close(self) -> None:
        self._flush()
        self._wait()
        self._end()


class SplitWriters:
    """The files of the three splits, written side by side in the order of the rows."""

    def __init__(self, paths: dict[str, Path], schema: pa.Schema) -> None:
        self._stack = ExitStack()
        self._writers = [
            self._stack.enter_context(RowWriter(paths[name], schema)) for name in SIDES
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, batch: pa.RecordBatch, side: np.ndarray) -> None:
        """Deal some rows out; ``side`` is as in :class:`engine.data.split.Sides`."""
        for number, writer in enumerate(self._writers):
            rows = np.flatnonzero(side == number)
            if len(rows):
                writer.add(batch if len(rows) == batch.num_rows else batch.take(rows))


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The row groups of a Parquet file; the next one is read meanwhile."""
    with pq.ParquetFile(path) as file, ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        ahead = [thread.submit(file.read_row_group, n) for n in range(min(2, file.num_row_groups))]
        for group in range(file.num_row_groups):
            table = ahead.pop(0).result()
            if group + 2 < file.num_row_groups:
                ahead.append(thread.submit(file.read_row_group, group + 2))
            yield from table.combine_chunks().to_batches()
