"""Tables as CSV, JSON and Parquet.

What is not finite: the words ``NaN``, ``Infinity`` and ``-Infinity`` in CSV, such texts in JSON
(which has no such numbers), in Parquet the numbers they are. What is not known: an empty cell, or
null.
"""

import contextlib
import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from engine.cells import guarded
from engine.export.tables import Table

__all__ = ["WRITERS", "write_csv", "write_json", "write_parquet"]

PIECE = 10_000
"""Rows that are held at once, and of a row group of Parquet."""

Clean = Callable[[str], str]


def write_csv(table: Table, file: IO[bytes], clean: Clean = str) -> int:
    """UTF-8 as RFC 4180 has it (lines end with CR LF), a header first; returns the rows written.

    Flags are ``true`` and ``false``, numbers as Python writes them (which is exact), lists and
    objects JSON. An empty text is an empty cell too. A text that begins like a formula gets an
    apostrophe, see :func:`engine.cells.guarded`; ``clean`` is applied to texts first.
    """
    # No "write_through": many small writes would each go to the file.
    with _as_text(file, newline="") as text:
        writer = csv.writer(text)
        writer.writerow([guarded(clean(column.name)) for column in table.columns])
        rows = 0
        for row in table.rows:
            writer.writerow([_cell(value, clean) for value in row])
            rows += 1
    return rows


def _cell(value: Any, clean: Clean) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return guarded(clean(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else _named(value)
    if isinstance(value, int):
        return str(value)
    return guarded(clean(json.dumps(_finite(value), ensure_ascii=False)))


def _named(value: float) -> str:
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _named(value)
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def write_json(table: Table, file: IO[bytes], clean: Clean = str) -> int:
    """An array with one object a row, a line each; returns the rows written.

    ``clean`` is applied to each whole line.
    """
    names = [column.name for column in table.columns]
    rows = 0
    with _as_text(file) as text:
        text.write("[")
        for row in table.rows:
            values = {name: _finite(value) for name, value in zip(names, row, strict=True)}
            line = json.dumps(values, ensure_ascii=False, allow_nan=False)
            text.write(f"{',' if rows else ''}\n{clean(line)}")
            rows += 1
        text.write("\n]\n")
    return rows


def write_parquet(table: Table, file: IO[bytes], clean: Clean = str) -> int:
    """Typed columns, zstd; objects are JSON as text. Returns the rows written."""
    with _without_pandas():
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {
            "text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_(),
            "texts": pa.list_(pa.string()), "json": pa.string(),
        }  # fmt: skip
        schema = pa.schema([(column.name, kinds[column.kind]) for column in table.columns])
        rows = 0
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while piece := list(itertools.islice(table.rows, PIECE)):
                arrays = [
                    pa.array(
                        [_plain(value, column.kind) for value in values],
                        kinds[column.kind],
                        from_pandas=False,  # NaN stays a number, and does not become null
                    )
                    for column, values in zip(table.columns, zip(*piece, strict=True), strict=True)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                rows += len(piece)
    return rows


def _plain(value: Any, kind: str) -> Any:
    if kind == "json" and value is not None:
        return json.dumps(_finite(value), ensure_ascii=False)
    return value


@contextlib.contextmanager
def _as_text(file: IO[bytes], newline: str | None = "\n") -> Iterator[io.TextIOWrapper]:
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline=newline)
    try:
        yield text
    finally:
        text.detach()  # writes what is left, and leaves the file open


class _NoPandas:
    """Finds no pandas: pyarrow imports it only to know its types, for 0.3 s and 40 MB."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


@contextlib.contextmanager
def _without_pandas() -> Iterator[None]:
    finder: Any = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


WRITERS: dict[str, Callable[[Table, IO[bytes], Clean], int]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
}
"""Format -> what writes a table so."""
