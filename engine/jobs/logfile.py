"""Reads a log of any size: windows of lines from wherever one looks, never the whole file.

Everything here blocks; several threads may read at once. Offsets are bytes. A line is what ends
with a newline; of what carriage returns overwrote only the last state is shown.
"""

import io
import os
import stat
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from engine.jobs.loglevels import Level, Marker, suspects
from engine.jobs.logline import SHOWN, Line, last_state, shown_text

__all__ = ["BLOCK", "LogFile", "Told"]

BLOCK = 1 << 20
"""Bytes that are scanned, counted and remembered together."""
LONGEST = 4 * BLOCK
"""A line without an end is broken at multiples of this, where none ended in as many bytes before:
a progress bar may write gigabytes without a newline."""
STEP = 4 << 10
WHOLE = 64 << 10
"""Bytes of a line up to which it is read whole; of a longer one the beginning, or the last state
of its progress bar."""
CONTEXT = 16 << 10
"""So far back it is looked for the beginning of a traceback."""
WINDOW = 8 * BLOCK
"""Bytes that one window reads at most, unless one line is longer."""
PRINT = 64
"""First bytes of a file, by which another one of the same name is known."""

Told = Callable[[int], bool]
"""Called with the offset that a scan has reached, once a block; False: stop the scan."""


class LogFile:
    """A log that may grow, be truncated, or be replaced. Missing files are empty.

    ``size``: bytes when :meth:`look` was last called; nothing behind that is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.generation = 0
        """Another number: offsets from before mean nothing any more."""
        self._file: io.FileIO | None = None
        self._identity: tuple[int, int] | None = None
        self._print = b""
        self._worst: dict[int, Level] = {}
        """Block -> the worst level in it; of blocks that were scanned and do not change."""
        self._newlines = array("Q")
        """How many there are up to the end of each block, as far as was counted."""

    def close(self) -> None:
        """A thread that still reads goes on with the file that it has got."""
        self._file = None

    def look(self) -> None:
        """Find out how long the file is now. Raises OSError where it cannot be opened."""
        try:
            info = os.stat(self.path)
        except FileNotFoundError:
            info = None
        if info is None or not stat.S_ISREG(info.st_mode):
            if self._identity is not None:
                self._anew(None, None)
            return
        identity = (info.st_dev, info.st_ino)
        if identity != self._identity:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._anew(identity, io.FileIO(fd))
        elif info.st_size < self.size or not self.read(0, PRINT).startswith(self._print):
            self._anew(identity, self._file)
        if self._file is not None:
            self.size = os.fstat(self._file.fileno()).st_size
        if len(self._print) < PRINT:
            self._print = self.read(0, PRINT)

    def _anew(self, identity: tuple[int, int] | None, file: io.FileIO | None) -> None:
        self._file, self._identity, self.size, self._print = file, identity, 0, b""
        self._worst, self._newlines = {}, array("Q")
        self.generation += 1

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes where the file ends, or was truncated meanwhile."""
        file = self._file
        if file is None or length <= 0:
            return b""
        with suppress(OSError):  # the disk is gone
            return os.pread(file.fileno(), length, max(0, offset))
        return b""

    # --- lines

    def start_of(self, at: int) -> int:
        """Where the line begins that byte ``at`` is in."""
        base = at // LONGEST * LONGEST
        lowest, step = max(0, base - LONGEST), STEP
        below = at
        while below > lowest:
            size = min(step, below - lowest)
            found = self.read(below - size, size).rfind(b"\n")
            if found >= 0:
                return below - size + found + 1
            below -= size
            step = min(step * 4, BLOCK)
        return base

    def end_of(self, start: int) -> int:
        """Where the line that begins at ``start`` ends, behind its newline."""
        limit = min(self.size, -(-start // LONGEST) * LONGEST + LONGEST)
        at, step = start, STEP
        while at < limit:
            data = self.read(at, min(step, limit - at))
            found = data.find(b"\n")
            if found >= 0:
                return at + found + 1
            if not data:
                break
            at += len(data)
            step = min(step * 4, BLOCK)
        return at

    def state_of(self, start: int, end: int) -> bytes:
        """What the line shows in the end, whole."""
        return last_state(self.read(start, end - start))

    def line(self, start: int) -> Line:
        """The line that begins at ``start``, without a level."""
        end = self.end_of(start)
        size = end - start
        if size <= WHOLE:
            raw = self.state_of(start, end)
            whole = len(raw)
        else:
            tail = self.read(end - WHOLE, WHOLE)
            raw = tail.rstrip(b"\r\n")
            size -= len(tail) - len(raw)
            bar = raw.rfind(b"\r")
            raw = last_state(raw) if bar >= 0 else self.read(start, SHOWN * 4)
            whole = len(raw) if bar >= 0 else size
        text = shown_text(raw)
        cut = 0
        if len(text) > SHOWN or whole > len(raw):
            text = text[:SHOWN]
            cut = max(1, whole - len(text.encode("utf-8", "replace")))
        return Line(start, end, text, cut)

    def before(
        self, offset: int, count: int, level: Level = Level.NONE, told: Told | None = None
    ) -> list[Line]:
        """The last lines that begin before ``offset``, at most ``count``, of this level or worse.

        Fewer only where the file begins, ``told`` stops it, or lines are very long (at least one).
        """
        if level > Level.NONE:
            return self._filtered(offset, count, level, told, back=True)
        starts: list[int] = []
        at = min(offset, self.size)
        lowest = at - WINDOW
        while at > 0 and len(starts) < count and (at > lowest or not starts):
            at = self.start_of(at - 1)
            starts.append(at)
        return self._levelled(starts[::-1])

    def after(
        self, offset: int, count: int, level: Level = Level.NONE, told: Told | None = None
    ) -> list[Line]:
        """The first lines that begin at ``offset``, where one does, or behind it; as before()."""
        if level > Level.NONE:
            return self._filtered(offset, count, level, told, back=False)
        starts: list[int] = []
        at = offset
        while at < self.size and len(starts) < count and (at < offset + WINDOW or not starts):
            starts.append(at)
            end = self.end_of(at)
            if end <= at:
                break
            at = end
        return self._levelled(starts)

    def _levelled(self, starts: list[int]) -> list[Line]:
        if not starts:
            return []
        marker, found = Marker(), []
        head = max(0, starts[0] - CONTEXT)
        context = self.read(head, starts[0] - head).split(b"\n")
        for raw in context[1 if head else 0 : -1]:
            marker.next(shown_text(last_state(raw)))
        for start in starts:
            line = self.line(start)
            level, goes_on = marker.next(line.text)
            found.append(Line(line.start, line.end, line.text, line.cut, level, goes_on))
        return found

    # --- by level

    def _filtered(
        self, offset: int, count: int, level: Level, told: Told | None, *, back: bool
    ) -> list[Line]:
        found: list[tuple[int, Level, bool]] = []
        for marked in self._blocks(offset, level, told, back=back):
            found = marked + found if back else found + marked
            if len(found) >= count:
                break
        return [self._as_marked(*one) for one in (found[-count:] if back else found[:count])]

    def marked(self, offset: int, level: Level, told: Told | None, *, back: bool) -> Iterator[Line]:
        """All lines of this level or worse, from ``offset`` on or before it, nearest first."""
        for marked in self._blocks(offset, level, told, back=back):
            for one in reversed(marked) if back else marked:
                yield self._as_marked(*one)

    def _as_marked(self, start: int, level: Level, goes_on: bool) -> Line:
        line = self.line(start)
        return Line(line.start, line.end, line.text, line.cut, level, goes_on)

    def _blocks(
        self, offset: int, level: Level, told: Told | None, *, back: bool
    ) -> Iterator[list[tuple[int, Level, bool]]]:
        worst, last = self._worst, -(-self.size // BLOCK)
        order = range(-(-offset // BLOCK) - 1, -1, -1) if back else range(offset // BLOCK, last)
        for block in order:
            if worst.get(block, Level.CRITICAL) >= level:
                marked = self._scan(block, worst)
                if chosen := [
                    one for one in marked if one[1] >= level and (one[0] < offset) is back
                ]:
                    yield chosen
            if told is not None and not told(block * BLOCK):
                return

    def _scan(self, block: int, worst: dict[int, Level]) -> list[tuple[int, Level, bool]]:
        """(start, level, goes on) of the lines that begin in a block and are WARNING or worse."""
        low, high = block * BLOCK, min(self.size, (block + 1) * BLOCK)
        head = max(0, low - CONTEXT)
        data = self.read(head, min(self.size, high + CONTEXT) - head)
        found: list[tuple[int, Level, bool]] = []
        done = 0
        for start in suspects(data):
            if start < done or head + start >= high:
                continue
            marker, at = Marker(), start
            while at < len(data) and head + at < high:
                end = data.find(b"\n", at) + 1 or len(data)
                # A long one's end is looked for in the file: a bar's last state may lie there.
                raw = shown_text(last_state(data[at:end]))
                text = self.line(head + at).text if end == len(data) else raw
                level, goes_on = marker.next(text)
                if at > start and not goes_on:
                    break
                if level >= Level.WARNING and head + at >= low:
                    found.append((head + at, level, goes_on))
                at = end
            done = at
        if high + CONTEXT <= self.size:  # nothing that is written later can change it
            worst[block] = max((level for _, level, _ in found), default=Level.NONE)
        return found

    # --- numbers of lines

    def count_ahead(self, seconds: float) -> bool:
        """Count lines for about so long; True: all of them are counted, as far as that helps."""
        newlines, until = self._newlines, time.monotonic() + seconds
        while len(newlines) < self.size // BLOCK:
            data = self.read(len(newlines) * BLOCK, BLOCK)
            if len(data) < BLOCK or newlines is not self._newlines:
                return False
            newlines.append(data.count(b"\n") + (newlines[-1] if newlines else 0))
            if time.monotonic() > until:
                break
        return len(newlines) >= self.size // BLOCK

    def number(self, offset: int) -> int | None:
        """How many lines ended before ``offset``; None while that is not counted yet."""
        newlines, block = self._newlines, offset // BLOCK
        if block > len(newlines):
            return None
        rest = self.read(block * BLOCK, offset - block * BLOCK).count(b"\n")
        return rest + (newlines[block - 1] if block else 0)

    def ended_between(self, start: int, stop: int) -> int:
        """How many lines end in these bytes: a short time's growth."""
        return sum(
            self.read(at, min(BLOCK, stop - at)).count(b"\n") for at in range(start, stop, BLOCK)
        )
