"""Finds a text in a log of gigabytes, in pieces that can be stopped: only where lines show it."""

import re
from collections.abc import Iterator

from engine.jobs.logfile import BLOCK, LogFile, Told
from engine.jobs.loglevels import Level
from engine.jobs.logline import Line

__all__ = ["Needle", "Scan", "count", "find"]


class Scan:
    """Something that reads on and on in a thread: how far it is, and a way to stop it."""

    def __init__(self, size: int) -> None:
        self.size, self.at, self.stopped = max(1, size), 0, False

    def told(self, at: int) -> bool:
        """A :data:`~engine.jobs.logfile.Told`."""
        self.at = at
        return not self.stopped


class Needle:
    """A text to look for: as it is written where it has a capital, else in any case (ASCII's)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folds = text == text.lower()
        self._bytes = text.encode("utf-8", "replace")
        self.size = len(self._bytes)

    def fold(self, data: bytes) -> bytes:
        return data.lower() if self.folds else data

    @property
    def folded(self) -> bytes:
        return self.fold(self._bytes)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where ``text`` has it: (start, stop) in characters."""
        if not self.text:
            return []
        pattern = re.compile(re.escape(self.text), re.I | re.A if self.folds else re.A)
        return [found.span() for found in pattern.finditer(text)]


def find(
    log: LogFile,
    needle: Needle,
    offset: int,
    *,
    back: bool = False,
    level: Level = Level.NONE,
    told: Told | None = None,
) -> Line | None:
    """The nearest line from ``offset`` on (``back``: before it) that shows the text.

    Only lines of ``level`` or worse count; the level of a line that is found without one is NONE.
    """
    if not needle.size:
        return None
    if level > Level.NONE:
        lines: Iterator[Line] = log.marked(offset, level, told, back=back)
        return next((line for line in lines if _shows(log, line, needle)), None)
    return (_find_back if back else _find_on)(log, needle, offset, told)


def _find_on(log: LogFile, needle: Needle, offset: int, told: Told | None) -> Line | None:
    at = offset
    while at < log.size:
        data = needle.fold(log.read(at, BLOCK + needle.size - 1))
        hit = data.find(needle.folded)
        passed = at + BLOCK
        while hit >= 0:
            line = log.line(log.start_of(at + hit))
            if line.start >= offset and _shows(log, line, needle):
                return line
            if line.end - at >= len(data):
                passed = max(passed, line.end)
                break
            hit = data.find(needle.folded, line.end - at)
        at = passed
        if told is not None and not told(min(at, log.size)):
            break
    return None


def _find_back(log: LogFile, needle: Needle, offset: int, told: Told | None) -> Line | None:
    at = min(offset, log.size)
    while at > 0:
        low = max(0, at - BLOCK)
        data = needle.fold(log.read(low, min(offset, at + needle.size - 1) - low))
        hit = data.rfind(needle.folded)
        passed = low
        while hit >= 0:
            line = log.line(log.start_of(low + hit))
            if line.start < offset and _shows(log, line, needle):
                return line
            if line.start <= low:
                passed = line.start
                break
            hit = data.rfind(needle.folded, 0, line.start - low)
        at = passed
        if told is not None and not told(at):
            break
    return None


def _shows(log: LogFile, line: Line, needle: Needle) -> bool:
    """Whether the text is in what the line shows in the end, however long that is."""
    if needle.spans(line.text):
        return True
    return bool(line.cut) and needle.folded in needle.fold(log.state_of(line.start, line.end))


def count(
    log: LogFile, needle: Needle, *, level: Level = Level.NONE, told: Told | None = None
) -> Iterator[int]:
    """How many lines show the text, in the blocks seen so far: the end of the file first.

    Gives a number after every block; the last one counts the whole file, unless ``told`` stopped.
    """
    found = 0
    if level > Level.NONE:
        for line in log.marked(log.size, level, told, back=True):
            found += _shows(log, line, needle)
            yield found
        yield found
        return
    stop = log.size
    while stop > 0:
        low = max(0, stop - BLOCK)
        data = log.read(low, stop - low)
        # Whole lines only; what is left of the first one is the next block's.
        begin = data.find(b"\n", 0, len(data) - 1) + 1 if low else 0
        data, stop = data[begin:], low + begin
        found += _lines_with(needle.folded, needle.fold(data))
        yield found
        if told is not None and not told(stop):
            return
    yield found


def _lines_with(needle: bytes, data: bytes) -> int:
    """How many lines have it behind their last carriage return."""
    found, hit = 0, data.find(needle)
    while hit >= 0:
        end = data.find(b"\n", hit)
        bar = data.rfind(b"\r", hit, (len(data) if end < 0 else end) - 1)
        if bar >= 0:  # overwritten
            hit = data.find(needle, bar)
            continue
        found += 1
        hit = data.find(needle, end) if end >= 0 else -1
    return found
