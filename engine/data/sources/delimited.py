"""CSV and TSV: records of fields, wherever line ends and quotes stand."""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from engine.data.sources.files import BLOCK_BYTES, Cut, FileNotes
from engine.data.sources.lines import cut_lines

__all__ = ["CsvRecord", "cut_records", "header_of", "recognise_delimiter"]

DELIMITERS = (",", ";", "\t", "|")
MAX_RECORD_BYTES = 64 << 20
"""A quote that nothing closes for that long opened nothing."""
_MOST_REREADS = 8
_SEP = re.compile(rb"sep=.\r?$")
_HEADER_ROWS = 100

csv.field_size_limit(sys.maxsize)


class CsvRecord(NamedTuple):
    line: int
    fields: list[str] | None
    """None: malformed."""
    raw: bytes
    repair: str | None


class _Line(NamedTuple):
    number: int
    offset: int
    raw: bytes
    text: str
    repair: str | None


class _TooLong(Exception):
    pass


class _Feed:
    """Gives the csv module one line after the other and remembers which it took."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self._again: deque[_Line] = deque()
        self.taken: list[_Line] = []
        self.size = 0
        self.starved = False
        """It asked for a line that is not there, or not for this record."""
        self.one_by_one = False
        self.ended = False

    def begin(self) -> None:
        self.taken = []
        self.size = 0
        self.starved = False

    def give_back(self, lines: list[_Line]) -> None:
        self._again.extendleft(reversed(lines))

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self.one_by_one and self.taken and self._again:
            self.starved = True
            raise StopIteration
        if self.size > MAX_RECORD_BYTES:
            raise _TooLong
        line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            self.starved = self.ended = True
            raise StopIteration
        self.taken.append(line)
        self.size += len(line.raw)
        return line.text + "\n"

    @property
    def again(self) -> bool:
        return bool(self._again)


def _lines(blocks: Iterator[Cut]) -> Iterator[_Line]:
    for block in blocks:
        raws = block.data.split(b"\n")
        offset = block.offset
        texts: list[str] | None = None
        with suppress(UnicodeDecodeError):
            texts = block.data.decode("utf-8").split("\n")
        for index, raw in enumerate(raws):
            repair = None
            if texts is not None:
                text = texts[index]
            else:
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError:
                    text = raw.decode("cp1252", "tunebench.latin1")
                    repair = "invalid_utf8"
            yield _Line(block.number + index, offset, raw, text, repair)
            offset += len(raw) + 1


def _records(
    lines: Iterator[_Line], delimiter: str, path: str, notes: FileNotes
) -> Iterator[tuple[CsvRecord, int]]:
    """Records that are not blank, and the offset of each."""
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter)
    rereads = 0
    while True:
        feed.begin()
        fields: list[str] | None
        unclosed = False
        try:
            fields = next(reader)
        except StopIteration:
            if not feed.taken:
                if feed.again:
                    continue
                return
            fields = None
        except csv.Error:
            fields = None
        except _TooLong:
            fields, unclosed = None, True
        taken = feed.taken
        if feed.starved and taken:
            unclosed = True
        if unclosed:
            notes.repairs["unclosed_quote"] += 1
            if notes.repairs["unclosed_quote"] == 1:
                notes.warnings.append(
                    f"{path}: line {taken[0].number} opens a quote that nothing closes"
                )
            feed.give_back(taken[1:])
            rereads += len(taken) > 1
            taken, fields = taken[:1], None
            # Each line that opens a quote may have the rest of the file read again: not for long.
            feed.one_by_one = rereads > _MOST_REREADS
            reader = csv.reader(feed, delimiter=delimiter)
        raw = b"\n".join([line.raw for line in taken]) if len(taken) > 1 else taken[0].raw
        if not raw.strip(b" \r\n\x0b\x0c"):
            continue
        repair = next((line.repair for line in taken if line.repair), None)
        yield CsvRecord(taken[0].number, fields, raw.rstrip(b"\r"), repair), taken[0].offset


def cut_records(
    pieces: Iterator[bytes],
    path: str,
    delimiter: str,
    notes: FileNotes,
    number: int = 1,
    offset: int = 0,
) -> Iterator[Cut]:
    """Chunks of records; the header, first of a file, is in none."""
    header = offset == 0
    first, began, size = number, offset, 0
    records: list[CsvRecord] = []
    end = number

    def counted() -> Iterator[Cut]:
        nonlocal end
        for block in cut_lines(pieces, path, notes, number, offset):
            end = block.number + block.lines
            yield block

    for record, at in _records(_lines(counted()), delimiter, path, notes):
        if header:
            header = bool(_SEP.match(record.raw))
            continue
        if size >= BLOCK_BYTES:
            yield Cut(first, record.line - first, len(records), began, 0, records)
            records, size = [], 0
            first, began = record.line, at
        records.append(record)
        size += len(record.raw)
    if records or end > first:
        yield Cut(first, end - first, len(records), began, 0, records)


def header_of(head: bytes, delimiter: str) -> tuple[str, ...]:
    """The column names: the first record, without what only Excel reads."""
    for record, _ in _records(
        _lines(cut_lines(iter([head]), "", FileNotes())), delimiter, "", FileNotes()
    ):
        if not _SEP.match(record.raw):
            return tuple(name.strip() for name in record.fields or ())
    return ()


def recognise_delimiter(head: bytes, preferred: str = ",") -> tuple[str, int]:
    """The delimiter under which most records have as many fields as the header, and how many."""
    first = head.split(b"\n", 1)[0]
    if _SEP.match(first):
        return chr(first[4]), 2
    best = (0.0, 0, preferred)
    for delimiter in sorted(DELIMITERS, key=lambda d: d != preferred):
        widths = []
        lines = _lines(cut_lines(iter([head]), "", FileNotes()))
        for record, _ in _records(lines, delimiter, "", FileNotes()):
            widths.append(len(record.fields or ()))
            if len(widths) == _HEADER_ROWS:
                break
        if not widths or widths[0] < 2:
            continue
        alike = sum(width == widths[0] for width in widths) / len(widths)
        if (round(alike, 1), widths[0]) > best[:2]:
            best = (round(alike, 1), widths[0], delimiter)
    return best[2], best[1]
