"""Unpacked bytes of a file from anywhere on, as cheaply as its packing allows."""

import bisect
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.data.sources.files import FileNotes, SourceFile
from engine.data.sources.source import text_pieces

__all__ = ["ForwardBytes", "GzipBytes", "PlainBytes"]

KEEP_EVERY = 32 << 20
_CHUNK = 1 << 20


class PlainBytes:
    """A plain file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    reached = 0

    def reach(self, start: int, most: int) -> bool:
        """Whether ``start`` can be read from at once: always, here."""
        return True

    def read(self, start: int, end: int | None) -> bytes:
        """The bytes from ``start`` to ``end`` (None: to the end of the file)."""
        self._file.seek(start)
        return self._file.read() if end is None else self._file.read(end - start)


class GzipBytes:
    """Random access to unpacked bytes by way of remembered states of the decoder."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
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
            while self._position < end and (data := self._next()):
                self._last = (self._position - len(data), data)
        return start <= end

    def read(self, start: int, end: int | None) -> bytes:
        """The unpacked bytes from ``start`` to ``end`` (None: as far as they can be unpacked)."""
        at, data = self._last
        if not at <= start < at + len(data):
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
        if self._position - self._kept[-1][0] >= KEEP_EVERY:
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


class ForwardBytes:
    """What can only be read from the beginning: other packings, other encodings."""

    def __init__(self, file: SourceFile) -> None:
        self._source = file
        self._pieces: Iterator[bytes] = iter(())
        self._begin()

    def _begin(self) -> None:
        self._pieces = text_pieces(self._source, FileNotes())
        self._at = self._position = 0
        self._data = b""
        """The last piece, which begins at ``_at`` and ends at ``_position``."""

    @property
    def reached(self) -> int:
        """Where reading on costs nothing."""
        return self._position

    def reach(self, start: int, most: int) -> bool:
        """Unpack at most ``most`` bytes; whether that gets to ``start``."""
        if start < self._at:
            self._begin()
        end = min(start, self._position + most)
        while self._position < end and self._next():
            pass
        return start <= end

    def read(self, start: int, end: int | None) -> bytes:
        """The unpacked bytes from ``start`` to ``end`` (None: as far as they can be unpacked)."""
        if start < self._at:
            self._begin()
        parts: list[bytes] = []
        while True:
            stop = len(self._data) if end is None else min(len(self._data), end - self._at)
            parts.append(self._data[max(0, start - self._at) : max(0, stop)])
            if (end is not None and self._position >= end) or not self._next():
                return b"".join(parts)

    def _next(self) -> bool:
        data = next(self._pieces, b"")
        if not data:
            return False
        self._data, self._at = data, self._position
        self._position += len(data)
        return True
