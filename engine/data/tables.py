"""The files of a dataset as they are written: Parquet while reading, Arrow for the splits."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.split import SIDES

__all__ = [
    "AUDIT_SCHEMA",
    "ROW_SCHEMA",
    "ROW_SCHEMAS",
    "RowWriter",
    "read_batches",
    "sync",
    "write_splits",
]

ROW_SCHEMA = pa.schema([("line", pa.int64()), ("prompt", pa.string()), ("completion", pa.string())])
ROW_SCHEMAS = {
    "pair": ROW_SCHEMA,
    "instruction": ROW_SCHEMA.append(pa.field("instruction", pa.string())).append(
        pa.field("system", pa.string())
    ),
    "conversation": ROW_SCHEMA.append(
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    ),
    "text": ROW_SCHEMA,
}
"""Columns of clean rows, by the dataset's shape."""
AUDIT_SCHEMA = pa.schema(
    [("line", pa.int64()), ("rule", pa.string()), ("evidence", pa.string()), ("raw", pa.string())]
)
GROUP_ROWS = 10_000
"""A page is read from one row group: 10,000 rows of 800 bytes unpack in some 10 ms."""
GROUP_BYTES = 64 << 20
_TEXT_LIMIT = 2**31 - 1


class RowWriter:
    """Writes rows to a Parquet file, a row group at a time (LZ4: fast to page through)."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._columns: list[list[Any]] = [[] for _ in schema]
        self._schema = schema
        self._bytes = 0
        self._writer = pq.ParquetWriter(
            path, schema, compression="lz4", use_dictionary=False, write_statistics=["line"]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.close()
            return
        # Closing writes the footer, which a full disk refuses as well: keep the first error.
        with suppress(OSError):
            self._writer.close()

    def add(self, *values: Any) -> None:
        """One row, in the order of the schema's columns; the last one is the longest text."""
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        self._bytes += len(values[-1])
        if len(self._columns[0]) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._columns[0]:
            table = pa.Table.from_arrays(
                [
                    pa.array(column, field.type)
                    for column, field in zip(self._columns, self._schema, strict=True)
                ],
                schema=self._schema,
            )
            self._writer.write_table(table, row_group_size=GROUP_ROWS)
            self._columns = [[] for _ in self._schema]
            self._bytes = 0

    def close(self) -> None:
        self.flush()
        self._writer.close()


def read_batches(path: Path) -> Iterator[pa.Table]:
    """The row groups of a Parquet file, one at a time."""
    with pq.ParquetFile(path) as file:  # mapped pages would count as this process's memory
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def write_splits(cleaned: Path, side: np.ndarray, paths: dict[str, Path]) -> Iterator[int]:
    """Deal the rows of ``cleaned`` out to Arrow stream files; yields the rows done so far.

    ``side`` is as in :class:`engine.data.split.Sides`; file order stays.
    """
    done = 0
    with ExitStack() as stack:
        writers = {}
        for name in SIDES:
            sink = stack.enter_context(pa.OSFile(str(paths[name]), "wb"))
            writers[name] = stack.enter_context(pa.ipc.new_stream(sink, ROW_SCHEMA))
        for table in read_batches(cleaned):
            here = side[done : done + len(table)]
            for number, name in enumerate(SIDES):
                rows = np.flatnonzero(here == number)
                if len(rows):
                    part = table.take(rows).combine_chunks()
                    writers[name].write_table(part)
            done += len(table)
            yield done


def sync(path: Path) -> None:
    """Bring a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
