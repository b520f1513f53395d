"""The lines of a log that are near the eye, as rows on the screen: cut or wrapped, and marked."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engine.jobs.loglevels import Level
from engine.jobs.logline import Line
from engine.jobs.logsearch import Needle
from engine.text import steady
from tui.widgets.lines import ACCENT, BAD, PLAIN, QUIET, WARM, wrap

__all__ = ["LogRows"]

MARKS = {Level.WARNING: "W", Level.ERROR: "E", Level.CRITICAL: "C"}
"""What stands before a line: levels are told without colour too."""
GOES_ON, HERE = "│", "›"
HEADS = {Level.DEBUG: QUIET, Level.WARNING: WARM, Level.ERROR: BAD, Level.CRITICAL: BAD}
BODIES = {**HEADS, Level.ERROR: Style(color="#ff8787"), Level.CRITICAL: Style(color="#ff8787")}
MATCH = Style(reverse=True)
GUTTER = 2
CUT = "…"
MADE = 4_000
"""Lines whose rows are kept."""

Row = list[Segment]


class LogRows:
    """A stretch of lines, and which row of them is the first in sight."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.wrapped = False
        self.left = 0
        """Cells that are scrolled out to the left, where lines are not wrapped."""
        self.needle: Needle | None = None
        self.hit = -1
        """Offset of the line that a search reached."""
        self.top, self.sub = 0, 0
        """The first line in sight, and its first row in sight."""
        self._width, self._height = 1, 1
        self._made: dict[int, tuple[Line, list[Row]]] = {}

    def resize(self, width: int, height: int) -> None:
        if (width, height) != (self._width, self._height):
            self._width, self._height = max(1, width), max(1, height)
            self.remake()

    def remake(self) -> None:
        """Rows are made anew: what they look like has changed."""
        self._made.clear()
        self.sub = 0

    @property
    def height(self) -> int:
        return self._height

    # --- where one is

    def move(self, by: int) -> int:
        """Scroll by rows; gives those that there are no lines for (yet), with their sign."""
        step = 1 if by > 0 else -1
        last = self.last if by > 0 else (0, 0)
        for left in range(abs(by), 0, -1):
            if (self.top, self.sub) == last or not self.lines:
                return left * step
            self.sub += step
            if self.sub < 0:
                self.top -= 1
                self.sub = len(self._rows(self.top)) - 1
            elif self.sub >= len(self._rows(self.top)):
                self.top, self.sub = self.top + 1, 0
        return 0

    @property
    def last(self) -> tuple[int, int]:
        """Where the last row is in the last place on the screen."""
        room = self._height
        for index in range(len(self.lines) - 1, -1, -1):
            rows = len(self._rows(index))
            if rows >= room:
                return index, rows - room
            room -= rows
        return 0, 0

    @property
    def at_last(self) -> bool:
        return (self.top, self.sub) >= self.last

    def to_last(self) -> None:
        self.top, self.sub = self.last

    def to_line(self, start: int, above: int = 0) -> None:
        """Put the line that begins at ``start`` (or the next one) in sight, so many rows down."""
        found = next((i for i, line in enumerate(self.lines) if line.start >= start), None)
        self.top, self.sub = (len(self.lines) - 1 if found is None else found), 0
        self.top = max(0, self.top)
        self.move(-above)
        if self.lines:
            self.top, self.sub = min((self.top, self.sub), self.last)

    def pan_to_match(self, line: Line) -> None:
        """Scroll sideways as far as it takes to see what was looked for."""
        text = steady(line.text)
        spans = self.needle.spans(text) if self.needle is not None and not self.wrapped else []
        if spans:
            room = max(1, self._width - GUTTER)
            start, stop = (cell_len(text[:at]) for at in spans[0])
            if start < self.left + 1 or stop > self.left + room - 1:
                self.left = 0 if stop < room else max(0, start - room // 3)

    @property
    def first(self) -> Line | None:
        """The first line in sight."""
        return self.lines[self.top] if self.top < len(self.lines) else None

    def put(self, lines: list[Line]) -> None:
        """Other lines; the one that was the first in sight stays so if it is among them."""
        first, sub = self.first, self.sub
        self.lines = lines
        self.top = self.sub = 0
        if first is not None:
            self.top = next((i for i, one in enumerate(lines) if one.start == first.start), 0)
            if lines and lines[self.top].start == first.start:
                self.sub = min(sub, len(self._rows(self.top)) - 1)

    def seen(self) -> Iterator[tuple[int, Row]]:
        """(index of the line, row) of all that is in sight."""
        index, sub, room = self.top, self.sub, self._height
        while index < len(self.lines) and room:
            for row in self._rows(index)[sub:][:room]:
                yield index, row
                room -= 1
            index, sub = index + 1, 0

    # --- what it looks like

    @property
    def widest(self) -> int:
        """Cells of the longest line in sight."""
        return max(
            (sum(cell_len(part.text) for part in self._body(self.lines[index]))
             for index in {index for index, _ in self.seen()}),
            default=0,
        )  # fmt: skip

    def _rows(self, index: int) -> list[Row]:
        line = self.lines[index]
        kept = self._made.get(line.start)
        if kept is None or kept[0] is not line:
            if len(self._made) > MADE:
                self._made.clear()
            kept = self._made[line.start] = line, self._make(line)
        return kept[1]

    def _make(self, line: Line) -> list[Row]:
        room = max(1, self._width - GUTTER)
        body = self._body(line)
        head = self._gutter(line)
        if not self.wrapped:
            return [[*head, *self._cropped(body, room, line.cut)]]
        rows = wrap([(part.text, part.style or PLAIN) for part in body], room)
        under = [Segment(" " * GUTTER)]
        return [[*(under if number else head), *row] for number, row in enumerate(rows)]

    def _gutter(self, line: Line) -> Row:
        if line.start == self.hit:
            return [Segment(f"{HERE} ", ACCENT)]
        look = HEADS.get(line.level, PLAIN)
        mark = MARKS.get(line.level, " ")
        return [Segment(f"{GOES_ON if line.goes_on and mark != ' ' else mark} ", look)]

    def _body(self, line: Line) -> Row:
        look = (BODIES if line.goes_on else HEADS).get(line.level, PLAIN)
        text = steady(line.text)
        body, at = [], 0
        for start, stop in self.needle.spans(text) if self.needle else ():
            body += [Segment(text[at:start], look), Segment(text[start:stop], look + MATCH)]
            at = stop
        body.append(Segment(text[at:], look))
        if line.cut:
            body.append(Segment(f" {_more(line.cut)}", QUIET))
        return [segment for segment in body if segment.text]

    def _cropped(self, body: Row, room: int, cut: int) -> Row:
        size = sum(cell_len(segment.text) for segment in body)
        left = min(self.left, size)
        if not left and size <= room:
            return body
        before = [Segment(CUT, QUIET)] if left else []
        after = _more(cut) if cut and room > 60 else CUT
        if size - left <= room:
            after = ""
        strip = Strip(body).crop(left + len(before), max(left, left + room - len(after)))
        return [*before, *strip, Segment(after, QUIET)]


def _more(cut: int) -> str:
    return f"{CUT} {cut:,} more bytes"
