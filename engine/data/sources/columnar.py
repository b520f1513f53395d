"""Parquet and Arrow files, batch by batch, only the columns that are needed.

A batch that cannot be decoded is a chunk of damaged records: counted, and not in the way of others.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.data.sources.files import BLOCK_BYTES, Cut, FileNotes, SourceFile
from engine.errors import UserError

__all__ = ["batch_rows", "cut_batches", "is_stream", "schema_of"]

_MOST_ROWS = 10_000
_FEWEST_ROWS = 16
_CONTINUATION = b"\xff\xff\xff\xff"


def is_stream(head: bytes) -> bool:
    """Whether these are the first bytes of an Arrow stream: a schema message of sensible size."""
    size = int.from_bytes(head[4:8], "little")
    return head.startswith(_CONTINUATION) and len(head) >= 16 and 0 < size < 64 << 20


def schema_of(path: Path, format: str) -> tuple[tuple[str, ...], str]:
    """Names of the columns; and for Arrow whether it is a file or a stream.

    Raises :class:`UserError` when the file cannot be opened as what it is.
    """
    import pyarrow as pa

    try:
        if format == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                return tuple(file.schema_arrow.names), ""
        with pa.memory_map(str(path)) as source:
            try:
                return tuple(pa.ipc.open_file(source).schema.names), "file"
            except pa.ArrowInvalid:
                source.seek(0)
                return tuple(pa.ipc.open_stream(source).schema.names), "stream"
    except _broken() as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: is damaged or cut off, not a whole {format.capitalize()} file ({why})"
        ) from None


def _broken() -> tuple[type[BaseException], ...]:
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError, MemoryError, EOFError, TypeError, KeyError)


def cut_batches(
    file: SourceFile,
    columns: Sequence[str] | None,
    notes: FileNotes,
    number: int = 1,
    group: int = 0,
    skip: int = 0,
) -> Iterator[Cut]:
    """Chunks of the records from ``skip`` of row group (or batch) ``group`` on; None: all columns.

    ``number`` is that of the first record given.
    """
    if columns is not None:
        columns = [name for name in dict.fromkeys(file.columns) if name in set(columns)]
    cuts = _parquet if file.format == "parquet" else _arrow
    yield from cuts(file, columns, notes, number, group, skip)


def _parquet(
    file: SourceFile,
    columns: list[str] | None,
    notes: FileNotes,
    number: int,
    group: int,
    skip: int,
) -> Iterator[Cut]:
    import pyarrow.parquet as pq

    broken = _broken()
    try:
        source = pq.ParquetFile(file.path, memory_map=True)
        groups = source.metadata.num_row_groups
    except broken as error:
        raise UserError(f"{file.path}: cannot be read ({error})") from None
    with source:
        each = file.bytes / max(1, groups)
        for index in range(group, groups):
            metadata = source.metadata.row_group(index)
            there = max(0, metadata.num_rows)
            size = _rows_at_once(metadata.total_byte_size, there)
            done = 0
            if columns is not None and not columns:
                yield Cut(number, there, there, index, 0, None)
                number += there
                continue
            try:
                for batch in source.iter_batches(size, row_groups=[index], columns=columns):
                    start = max(0, skip - done)
                    kept = batch.slice(start)
                    if len(kept):
                        data = _packed(kept)
                        yield Cut(number, len(kept), len(kept), index, done + start, data)
                        number += len(kept)
                    done += len(batch)
            except broken as error:
                lost = there - max(done, skip)
                if lost > 0:
                    _damaged(file, notes, lost, number, error)
                    yield Cut(number, lost, lost, index, max(done, skip), None)
                    number += lost
            skip = 0
            notes.bytes_read += int(each)


def _arrow(
    file: SourceFile,
    columns: list[str] | None,
    notes: FileNotes,
    number: int,
    group: int,
    skip: int,
) -> Iterator[Cut]:
    import pyarrow as pa

    broken = _broken()
    with pa.memory_map(file.path) as source:
        try:
            reader = (
                pa.ipc.open_file(source) if file.variant == "file" else pa.ipc.open_stream(source)
            )
        except broken as error:
            raise UserError(f"{file.path}: cannot be read ({error})") from None
        index = 0
        count = reader.num_record_batches if file.variant == "file" else None
        if count is not None:
            index = group
        before = 0
        while count is None or index < count:
            try:
                batch = reader.read_next_batch() if count is None else reader.get_batch(index)
            except StopIteration:
                break
            except broken as error:
                _damaged(file, notes, 0, number, error)
                if count is None:
                    break
                index += 1
                continue
            if index >= group:
                for cut in _of_batch(batch, file, columns, notes, number, index, skip):
                    yield cut
                    number += cut.lines
                skip = 0
            place = source.tell() if count is None else file.bytes * (index + 1) // count
            notes.bytes_read += place - before
            before = place
            index += 1


def _of_batch(
    batch: Any,
    file: SourceFile,
    columns: list[str] | None,
    notes: FileNotes,
    number: int,
    index: int,
    skip: int,
) -> Iterator[Cut]:
    rows = batch.num_rows
    if skip >= rows:
        return
    if columns is not None:
        batch = batch.select(columns)
    size = _rows_at_once(file.bytes, rows)
    if not batch.num_columns:
        yield Cut(number, rows - skip, rows - skip, index, skip, None)
        return
    for start, length, whole in _whole_runs(batch, skip):
        if not whole:
            _damaged(file, notes, length, number, ValueError("not valid Arrow"))
            yield Cut(number, length, length, index, start, None)
            number += length
            continue
        for at in range(start, start + length, size):
            part = checked(batch.slice(at, min(size, start + length - at)))
            yield Cut(number, len(part), len(part), index, at, _packed(part))
            number += len(part)


def _whole_runs(batch: Any, start: int) -> Iterator[tuple[int, int, bool]]:
    """(first, how many, whether they can be read) over the records of a batch."""
    if _is_whole(batch.slice(start)):
        yield start, len(batch) - start, True
        return
    first, whole = start, True
    for row in range(start, len(batch)):
        now = _is_whole(batch.slice(row, 1))
        if now != whole and row > first:
            yield first, row - first, whole
            first = row
        whole = now
    yield first, len(batch) - first, whole


def _is_whole(batch: Any) -> bool:
    try:
        checked(batch)
    except _broken():
        return False
    return True


def checked(batch: Any) -> Any:
    """The batch, safe to look at: files made by anybody may point anywhere.

    Texts that are not UTF-8 become bytes. Raises pyarrow's errors for anything worse.
    """
    import pyarrow as pa

    try:
        batch.validate(full=True)
        return batch
    except pa.ArrowInvalid:
        pass
    columns = []
    for column in batch.columns:
        if pa.types.is_string(column.type):
            column = column.view(pa.binary())
        elif pa.types.is_large_string(column.type):
            column = column.view(pa.large_binary())
        column.validate(full=True)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _packed(batch: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def batch_rows(data: bytes) -> list[dict[str, Any] | None]:
    """The records of a chunk; texts that are not UTF-8 as bytes, None for what cannot be read."""
    import pyarrow as pa

    batch = pa.ipc.open_stream(data).read_next_batch()
    rows: list[dict[str, Any] | None] = []
    for start, length, whole in _whole_runs(batch, 0):
        if not whole:
            rows += [None] * length
            continue
        part = checked(batch.slice(start, length))
        names = part.schema.names
        values = [_values(column) for column in part.columns]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    return rows


def _values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError, ArithmeticError):  # dates that Python does not have
        return [_value(column, row) for row in range(len(column))]


def _value(column: Any, row: int) -> Any:
    try:
        return column[row].as_py()
    except (ValueError, OverflowError, ArithmeticError):
        return Unreadable()


class Unreadable:
    """A value that Python cannot hold; it is no text."""


def _rows_at_once(size: int, rows: int) -> int:
    return max(_FEWEST_ROWS, min(_MOST_ROWS, BLOCK_BYTES * max(1, rows) // max(1, size)))


def _damaged(
    file: SourceFile, notes: FileNotes, rows: int, number: int, error: BaseException
) -> None:
    why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    notes.repairs["damaged_rows"] += max(1, rows)
    what = f"{rows:,} records from {number:,} on" if rows else f"a batch behind record {number:,}"
    notes.warnings.append(f"{file.path}: {what} cannot be read ({why})")
