"""Cuts the elements of a JSON array out of its bytes, without parsing them.

Every element goes to the same tolerant parser as a line of JSON Lines, so a malformed one is one
malformed row and the rest is read. Arrays behind each other, objects without an array around them
and missing commas are read as well. Where an element is damaged (a bracket that closes nothing, a
string that does not end in its line, an object where none can be), it ends before what looks like
the next one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from engine.data.sources.encodings import BOM
from engine.data.sources.files import BLOCK_BYTES, Cut, FileNotes

__all__ = ["cut_elements", "first_element"]

MAX_ELEMENT_BYTES = 32 << 20
_LOOK_BYTES = 4 << 20
"""How far a damaged element may go on before what looks like the next one is taken for it."""
_MOST_RECORDS = 10_000
_MOST_DEEP = 1000
"""No parser follows deeper; it also bounds what an array that does not end can swallow."""
_MOST_ENDLESS = 4
_STRING = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
# All strings and scalars of an object without further objects in it are one token.
_TOKEN = re.compile(rb"(?s)[{}\[\]]|(?:" + _STRING + rb'[^"{}\[\]]*+)++|"')
_SPACE = re.compile(rb"[\s,]*+")
_SCALAR_END = re.compile(rb"[,\]\n]")
_NEXT = re.compile(rb"\n[ \t\r]*+(?=\{)|(?<=\})\s*+,\s*+(?=\{)")


class _More(Exception):
    """The bytes at hand end within an element."""


class _Damaged(Exception):
    """What began as an element is none."""


def _end_of(data: bytes | bytearray, start: int) -> int:
    """Where the object or array ends that begins at ``start``."""
    open_: list[int] = []
    for match in _TOKEN.finditer(data, start):
        byte = data[match.start()]
        if byte == 0x7B or byte == 0x5B:  # { [
            if open_ and not _may_open(data, match.start(), open_[-1]):
                raise _Damaged
            open_.append(byte)
            if len(open_) > _MOST_DEEP:
                raise _Damaged
        elif byte == 0x7D or byte == 0x5D:  # } ]
            if not open_ or open_.pop() != byte - 2:
                raise _Damaged
            if not open_:
                return match.end()
        elif match.end() - match.start() == 1:  # a quote whose string does not end here
            if data.find(b"\n", match.start()) >= 0:
                raise _Damaged
            raise _More
    raise _More


def _may_open(data: bytes | bytearray, at: int, inside: int) -> bool:
    at -= 1
    while data[at] in b" \t\r\n":
        at -= 1
    return data[at] == 0x3A if inside == 0x7B else data[at] in b"[,"


def first_element(data: bytes) -> tuple[int, int] | None:
    """Where the first object of ``data`` begins and ends; None when it does not end in there."""
    start = data.find(b"{")
    try:
        return (start, _end_of(data, start)) if start >= 0 else None
    except (_More, _Damaged):
        return None


class _Buffer:
    """The bytes from the current element on; reads twice as much when one does not fit."""

    def __init__(self, pieces: Iterator[bytes], offset: int) -> None:
        self._pieces = pieces
        self.offset = offset
        """Of ``data[0]`` in the unpacked bytes."""
        self.data = b""
        self.at = 0
        self.ended = False

    def more(self, wanted: int = BLOCK_BYTES) -> None:
        parts = [self.data[self.at :]]
        self.offset += self.at
        self.at = 0
        have, goal = len(parts[0]), max(wanted, 2 * len(parts[0]))
        while have < goal and not self.ended:
            piece = next(self._pieces, b"")
            self.ended = not piece
            have += len(piece)
            parts.append(piece)
        self.data = b"".join(parts)

    def skip(self, pattern: re.Pattern[bytes]) -> bytes:
        """What of the pattern is here, taken away."""
        skipped = []
        while True:
            match = pattern.match(self.data, self.at)
            assert match
            skipped.append(match.group())
            self.at = match.end()
            if self.at < len(self.data) or self.ended:
                return b"".join(skipped)
            self.more()


def cut_elements(
    pieces: Iterator[bytes],
    path: str,
    notes: FileNotes,
    base: int = 0,
    number: int = 1,
    offset: int = 0,
    state: Sequence[Any] = (),
) -> Iterator[Cut]:
    """Chunks of elements: (number, raw) of each.

    An element's number is that of the line on which it begins, or one more than the one before it
    when that is higher: several on a line have numbers of their own. ``base`` is what the files
    before have used up, ``number`` the first that is free, ``state`` that of the cut at ``offset``.
    """
    buffer = _Buffer(pieces, offset)
    buffer.more()
    if not offset and buffer.data.startswith(BOM):
        notes.repairs["bom"] += 1
        buffer.at = len(BOM)
    elements = _Elements(buffer, path, notes, state)
    records: list[tuple[int, bytes]] = []
    size, first, began, began_state = 0, number, offset, state
    for at_offset, at_state, raw in elements:
        at_line = at_state[0]
        if size >= BLOCK_BYTES or len(records) >= _MOST_RECORDS:
            upto = max(number, at_line + base)
            yield Cut(first, upto - first, len(records), began, began_state, records)
            records, size, first, began, began_state = [], 0, upto, at_offset, at_state
        number = max(number, at_line + base)
        records.append((number, raw))
        number += 1
        size += len(raw)
    last = max(number, elements.line + base)
    if records or last > first:
        yield Cut(first, last - first, len(records), began, began_state, records)


class _Elements:
    """Iterates over (offset, state, raw) of the elements; a state is (line, in array, indent)."""

    def __init__(self, buffer: _Buffer, path: str, notes: FileNotes, state: Sequence[Any]) -> None:
        self.line: int
        self.line, inside, indent = state or (1, False, None)
        self._buffer = buffer
        self._path = path
        self._notes = notes
        self._in_array = inside
        self._bracketed = inside
        self._comma = True
        self._indent: bytes | None = None if indent is None else indent.encode()
        """The line end and white space before the first element; empty: none."""
        self._endless = 0

    def __iter__(self) -> Iterator[tuple[int, tuple[Any, ...], bytes]]:
        buffer = self._buffer
        while True:
            gap = buffer.skip(_SPACE)
            self.line += gap.count(b"\n")
            self._comma = self._comma or b"," in gap
            if buffer.at >= len(buffer.data):
                break
            byte = buffer.data[buffer.at]
            if byte == 0x5B and not self._in_array:  # [
                self._in_array = self._bracketed = self._comma = True
                buffer.at += 1
                continue
            if byte == 0x5D and self._in_array:  # ]
                self._in_array = False
                self._comma = True
                buffer.at += 1
                continue
            if not self._comma and self._in_array:
                self._notes.repairs["missing_comma"] += 1
            if self._indent is None and byte == 0x7B:
                self._indent = gap[gap.rfind(b"\n") :] if b"\n" in gap else b""
            indent = None if self._indent is None else self._indent.decode("latin-1")
            offset, state = buffer.offset + buffer.at, (self.line, self._in_array, indent)
            raw = self._element(byte)
            self.line += raw.count(b"\n")
            buffer.at += len(raw)
            self._comma = False
            yield offset, state, raw.rstrip()
        if self._in_array and self._bracketed:
            self._notes.repairs["truncated_json"] += 1
            self._notes.warnings.append(
                f"{self._path}: the array does not end; what is there was read"
            )

    def _element(self, byte: int) -> bytes:
        """The bytes of the element at hand, whole or damaged; never none."""
        buffer = self._buffer
        while True:
            try:
                if byte in b"{[":
                    return buffer.data[buffer.at : _end_of(buffer.data, buffer.at)]
                break
            except _Damaged:
                break
            except _More:
                size = len(buffer.data) - buffer.at
                if buffer.ended or size > MAX_ELEMENT_BYTES:
                    self._endless += size > _LOOK_BYTES
                    break
                if size > _LOOK_BYTES and (self._endless >= _MOST_ENDLESS or self._swallowed()):
                    break
                buffer.more()
        return self._damaged(byte)

    def _damaged(self, byte: int) -> bytes:
        """Up to what looks like the next element: a brace at the place where others begin."""
        buffer = self._buffer
        if not buffer.ended and len(buffer.data) - buffer.at < _LOOK_BYTES // 2:
            buffer.more(_LOOK_BYTES)
        data, at = buffer.data, buffer.at
        if self._indent:
            end = data.find(self._indent + b"{", at + 1)
        else:
            match = _NEXT.search(data, at + 1)
            end = match.start() if match else -1
        last = end < 0
        end = len(data) if last else end
        if byte not in b"{[" and (match := _SCALAR_END.search(data, at + 1, end)):
            last, end = False, match.start()
        raw = data[at:end].rstrip(b" \t\r\n,")
        if last and buffer.ended and self._in_array and raw.endswith(b"]"):
            raw = raw[:-1].rstrip()  # that one belongs to the array
        return raw or data[at : at + 1]

    def _swallowed(self) -> bool:
        """Whether another element seems to begin within the one at hand."""
        buffer = self._buffer
        if self._indent is None or len(self._indent) < 2:
            return False
        start = buffer.at
        return buffer.data.find(self._indent + b"{", start, start + _LOOK_BYTES) > start
