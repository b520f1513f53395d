"""From chunks to rows. Runs in worker processes: small, picklable, and stopped by nothing."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import orjson

from engine.data.rows import RawRow, Row
from engine.data.sources.delimited import CsvRecord
from engine.data.sources.files import Chunk
from engine.data.sources.layout import Layout
from engine.data.sources.tolerant import Among, Keys, digit_runs, parse_object

__all__ = ["Parser", "record_json"]

_line_of = itemgetter(0)


class Parser:
    """Parses the chunks of one source, in any order, in any process."""

    def __init__(self, layout: Layout, formats: list[str], headers: list[tuple[str, ...]]) -> None:
        self.layout = layout
        self.formats = formats
        self.headers = headers
        """Of CSV files, by index of the file."""
        self.file_repairs: Counter[str] = Counter()
        """bom: byte-order marks within files."""
        self._keys = Keys(layout.needed, layout.nested)

    def rows(self, chunk: Chunk) -> Iterator[RawRow]:
        """The rows of a chunk: one for every line that is not blank, or record."""
        if chunk.data is None:
            numbers = range(chunk.number, chunk.number + chunk.lines)
            return (RawRow(number, None, "malformed", None, b"") for number in numbers)
        kind = self.formats[chunk.file]
        if kind == "jsonl":
            return iter(self._pairs(chunk)) if self.layout.is_pair else self._lines(chunk)
        if kind == "json":
            return self._elements(chunk.data)
        if kind == "csv":
            return self._records(chunk.data, self.headers[chunk.file])
        return self._batch(chunk)

    def raw(self, chunk: Chunk, lines: Sequence[int]) -> list[bytes]:
        """Rows of a chunk as they are in the source, by their line numbers."""
        kind = self.formats[chunk.file]
        if kind == "jsonl":
            import numpy as np

            data: bytes = chunk.data
            ends = np.append(np.flatnonzero(np.frombuffer(data, np.uint8) == 10), len(data))
            places = np.asarray(lines) - chunk.number
            starts = np.where(places > 0, ends[places - 1] + 1, 0)
            spans = zip(starts.tolist(), ends[places].tolist(), strict=True)
            return [data[start:end] for start, end in spans]
        if kind in ("json", "csv"):
            by_line = {record[0]: record[2 if kind == "csv" else 1] for record in chunk.data}
            return [by_line[line] for line in lines]
        from engine.data.sources.columnar import batch_rows

        rows = batch_rows(chunk.data)
        return [record_json(rows[line - chunk.number] or {}) for line in lines]

    def objects(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """The objects of a chunk as they are, without those that are none."""
        if chunk.data is None:
            return
        kind = self.formats[chunk.file]
        if kind == "csv":
            header = self.headers[chunk.file]
            for record in chunk.data:
                if record.fields is not None and len(record.fields) == len(header):
                    yield dict(zip(header, record.fields, strict=True))
            return
        if kind in ("parquet", "arrow"):
            from engine.data.sources.columnar import batch_rows

            for value in batch_rows(chunk.data):
                if value is not None:
                    _texts_of_bytes(value)
                    yield value
            return
        raws = chunk.data.split(b"\n") if kind == "jsonl" else [raw for _, raw in chunk.data]
        for raw in raws:
            if raw and (value := parse_object(raw, self._keys, False).value) is not None:
                yield value

    def _pairs(self, chunk: Chunk) -> list[RawRow]:
        """Two columns of text, the usual thing, at the price of parsing and little more.

        That no key is there twice in a line is proved for all lines at once: as many keys as
        objects (looking line by line costs a third of parsing).
        """
        data = chunk.data
        prompt_column, completion_column = self.layout.prompt, self.layout.completion
        loads, new, none = orjson.loads, tuple.__new__, ()
        suspects = self._suspects(data)
        rows: list[RawRow] = []
        add = rows.append
        slow: list[tuple[int, int, bytes]] = []
        number = chunk.number - 1
        for line in data.split(b"\n"):
            number += 1
            try:
                value = loads(line)
                prompt = value[prompt_column]
                completion = value[completion_column]
                plain = type(prompt) is str and type(completion) is str
            except (ValueError, KeyError, TypeError):
                plain = False
            if plain:
                row = new(Row, (prompt, completion, "", "", none))
                add(new(RawRow, (number, row, None, None, line)))
            elif line and not line.isspace():
                slow.append((len(rows), number, line))
                add(new(RawRow, (number, None, None, None, line)))
        for line_index in suspects:
            at = line_index + chunk.number
            index = bisect_left(rows, at, key=_line_of)
            if index < len(rows) and rows[index].line == at and rows[index].row is not None:
                slow.append((index, at, rows[index].raw))
        if not self._are_single(data, rows, slow):
            slow += [
                (index, row.line, row.raw)
                for index, row in enumerate(rows)
                if row.row is not None and not self._keys.are_single_in(row.raw)
            ]
        for index, number, line in slow:
            rows[index] = self._row(number, line)
        return rows

    def _are_single(
        self, data: bytes, rows: list[RawRow], slow: list[tuple[int, int, bytes]]
    ) -> bool:
        """Whether every line but the slow ones has each key once."""
        fast = len(rows) - len(slow)
        if self._keys.may_be_escaped(data):
            return False
        for _, quoted in self._keys.quoted:
            elsewhere = sum(line.count(quoted) for _, _, line in slow)
            if data.count(quoted) != fast + elsewhere:
                return False
        return True

    def _suspects(self, data: bytes) -> set[int]:
        """Indices of lines with a number that may not fit 64 bits."""
        found = set()
        line, counted = 0, 0
        for at in digit_runs(data):
            line += data.count(b"\n", counted, at)
            counted = at
            found.add(line)
        return found

    def _lines(self, chunk: Chunk) -> Iterator[RawRow]:
        suspects = self._suspects(chunk.data)
        among = self._keys.among(chunk.data)
        for index, line in enumerate(chunk.data.split(b"\n")):
            if line and not line.isspace():
                yield self._row(chunk.number + index, line, index in suspects, among)

    def _elements(self, elements: list[tuple[int, bytes]]) -> Iterator[RawRow]:
        together = b"\n".join([raw for _, raw in elements])
        suspect = bool(digit_runs(together))
        among = self._keys.among(together)
        for number, raw in elements:
            yield self._row(number, raw, suspect, among)

    def _row(
        self, number: int, line: bytes, suspect: bool = True, among: Among | None = None
    ) -> RawRow:
        value, repair, boms = parse_object(line, self._keys, suspect, among)
        if boms:
            self.file_repairs["bom"] += boms
        if value is None:
            return RawRow(number, None, "malformed", None, line)
        row, drop, is_number = self.layout.row(value)
        return RawRow(number, row, drop, repair or ("number_as_text" if is_number else None), line)

    def _records(self, records: list[CsvRecord], header: tuple[str, ...]) -> Iterator[RawRow]:
        width = len(header)
        twice = any(header.count(name) > 1 for name in self.layout.needed)
        make = self._pair_maker(header)
        for line, fields, raw, repair in records:
            if fields is None or len(fields) != width:
                yield RawRow(line, None, "malformed", None, raw)
                continue
            if twice:
                repair = repair or "duplicate_key"
            if make is not None:
                yield RawRow(line, make(fields), None, repair, raw)
                continue
            row, drop, is_number = self.layout.row(dict(zip(header, fields, strict=True)))
            repair = repair or ("number_as_text" if is_number else None)
            yield RawRow(line, row, drop, repair, raw)

    def _pair_maker(self, header: tuple[str, ...]) -> Callable[[list[str]], Row] | None:
        layout = self.layout
        if not layout.is_pair or not {layout.prompt, layout.completion} <= set(header):
            return None
        last = {name: index for index, name in enumerate(header)}
        prompt, completion = last[layout.prompt], last[layout.completion]
        return lambda fields: Row(fields[prompt], fields[completion])

    def _batch(self, chunk: Chunk) -> Iterator[RawRow]:
        from engine.data.sources.columnar import batch_rows

        needed = self.layout.needed
        for number, value in enumerate(batch_rows(chunk.data), chunk.number):
            if value is None:
                yield RawRow(number, None, "malformed", None, b"")
                continue
            repair = _texts_of_bytes(value)
            raw = record_json(value)
            row, drop, is_number = self.layout.row(value)
            if not repair and any(
                type(item := value.get(name)) is float and item != item for name in needed
            ):
                repair = "nan"
            yield RawRow(
                number, row, drop, repair or ("number_as_text" if is_number else None), raw
            )


def record_json(value: dict[str, Any]) -> bytes:
    """A record as JSON, for people: what JSON does not have is written as Python writes it."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        return repr(value).encode("utf-8", "replace")


def _texts_of_bytes(value: dict[str, Any]) -> str | None:
    """Texts that came as bytes: old Parquet files do not say which are text."""
    repair = None
    for key, item in value.items():
        if isinstance(item, bytes) and b"\0" not in item:
            try:
                value[key] = item.decode("utf-8")
            except UnicodeDecodeError:
                value[key] = item.decode("cp1252", "tunebench.latin1")
                repair = "invalid_utf8"
    return repair
