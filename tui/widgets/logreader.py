"""A log of any size: the lines near the eye are read in a thread, the rest stays on the disk."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from textual.message import Message
from textual.widget import Widget

from engine.jobs.logfile import LogFile
from engine.jobs.loglevels import Level
from engine.jobs.logline import Line
from engine.jobs.logsearch import Scan
from tui.widgets.logrows import LogRows

__all__ = ["LogReader"]

LOOK_SECONDS = 1.0
"""Between two looks at whether the log has grown: each one that has repaints the pane, 4 kB."""
AHEAD = 300
"""Lines read beyond those in sight."""
KEPT = 3_000
GROWN = 1 << 20
"""Bytes of growth from which on the end is read anew."""
COUNTED = 64 << 20
"""Bytes of growth in which new lines are counted."""
COUNT_SECONDS = 0.03
TELL_SECONDS = 1.0
PATIENCE = 3
"""Looks between two numbers of new lines: each one paints the pane anew."""
NEAR = 100
"""Lines left to scroll to when more are fetched."""


class LogReader(Widget, can_focus=True):
    """Follows the end until one scrolls up; :meth:`open` says which log. A subclass draws.

    Every reading is a worker of one group, so that a later one takes an earlier one's place.
    """

    class Moved(Message):
        """Other words say where one is."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, LogReader.Moved)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.file: LogFile | None = None
        self.level = Level.NONE
        self.following = True
        self.rows = LogRows()
        self.note = ""
        """What happened to the file."""
        self.error = ""
        self.loaded = False
        self._whole = False
        """The lines go on to the end of the file."""
        self._known, self._generation = 0, 0
        """Size and file that the lines, or the number of new ones, are up to date with."""
        self._tail = 0
        """Where the last line begins: read again when the file has grown."""
        self.new_lines = 0
        """Lines written since one scrolled up, as is said; ``_missed`` is up to date."""
        self._missed = self._looks = 0
        self.number: int | None = None
        """How many lines are before the first one that is kept."""
        self.count: int | None = None
        self.scan: Scan | None = None
        self._owed = 0
        """Rows still to be scrolled, once there are lines for them."""
        self._fetching = 0
        """Where more lines are being fetched: -1 before, 1 behind those that are kept."""

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self._poll)

    def on_unmount(self) -> None:
        self.stop()  # leaving would wait for the thread
        if self.file is not None:
            self.file.close()

    @property
    def _in_sight(self) -> bool:
        return self.screen.is_current and all(w.display for w in self.ancestors_with_self)

    # --- which log

    def open(self, path: Path) -> None:
        """Show this log from its end."""
        if self.file is not None:
            self.file.close()
        self.file = LogFile(path)
        self.rows.needle, self.rows.hit, self.note, self.error = None, -1, "", ""
        self.loaded, self.count = False, None
        self._put([], False)
        self.go_last()

    def _put(self, lines: list[Line], whole: bool) -> None:
        self.rows.put(lines)
        self._whole = whole
        self.refresh()
        self.post_message(self.Moved())

    # --- reading

    def _start(self, read: Callable[[LogFile, Scan], Awaitable[None]]) -> None:
        if self.file is None:
            return
        self.stop()
        self._fetching = 0
        scan = self.scan = Scan(self.file.size)
        self.run_worker(partial(self._run, read, self.file, scan), group="log", exclusive=True)

    async def _run(
        self, read: Callable[[LogFile, Scan], Awaitable[None]], log: LogFile, scan: Scan
    ) -> None:
        timer = self.set_interval(TELL_SECONDS, lambda: self.post_message(self.Moved()))
        try:
            await read(log, scan)
            self.error = ""
        except OSError as error:
            self.error = f"{log.path}: {error.strerror}"
            self.refresh()
        finally:
            timer.stop()
            scan.stopped = True
            if self.scan is scan:
                self.scan, self._fetching, self.loaded = None, 0, True
                self.refresh()
                self.post_message(self.Moved())

    def stop(self) -> bool:
        """Give up what is being read; False: nothing is."""
        if self.scan is None:
            return False
        self.scan.stopped = True
        return True

    def _poll(self) -> None:
        self._looks += 1
        reads = self.file is not None and self.scan is None and self._in_sight
        if reads and self.app.link.due("log"):
            self._start(self._read_growth)

    # --- what is read

    async def _read_growth(self, log: LogFile, scan: Scan) -> None:
        await asyncio.to_thread(log.look)
        if log.generation != self._generation:
            self.note = "the log began anew"
            self.following = True
            await self._read_last(log, scan)
        elif log.size == self._known:
            self.new_lines = self._missed
        elif not self.following:
            self._whole = False
            known, until = self._known, min(log.size, self._known + COUNTED)
            self._missed += await asyncio.to_thread(log.ended_between, known, until)
            self._known = log.size
            if self._looks % PATIENCE == 0 or not self.new_lines:
                self.new_lines = self._missed
        elif log.size - self._tail > GROWN and self.level == Level.NONE:
            await self._read_last(log, scan)
        else:
            tail = self._tail
            new = await asyncio.to_thread(log.after, tail, KEPT, self.level, scan.told)
            if not scan.stopped:
                lines = [line for line in self.rows.lines if line.start < tail] + new
                await self._put_last(log, lines[-KEPT:])
        await self._read_numbers(log)

    async def _read_numbers(self, log: LogFile) -> None:
        lines = self.rows.lines
        await asyncio.to_thread(log.count_ahead, COUNT_SECONDS)
        self.count = await asyncio.to_thread(log.number, log.size)
        if lines and self.count is not None:
            self.number = await asyncio.to_thread(log.number, lines[0].start)

    async def _put_last(self, log: LogFile, lines: list[Line]) -> None:
        await self._read_tail(log)
        self._known, self._generation = log.size, log.generation
        self.number = None
        self._put(lines, True)
        self.rows.to_last()
        self.new_lines = self._missed = 0

    async def _read_tail(self, log: LogFile) -> None:
        self._tail = await asyncio.to_thread(log.start_of, max(0, log.size - 1))

    async def _read_last(self, log: LogFile, scan: Scan) -> None:
        await asyncio.to_thread(log.look)
        scan.size = max(1, log.size)
        count = self.rows.height + AHEAD
        lines = await asyncio.to_thread(log.before, log.size, count, self.level, scan.told)
        while not self.level and 0 < len(lines) < self.rows.height and lines[0].start > 0:
            more = await asyncio.to_thread(log.before, lines[0].start, count)  # they are long
            lines = more + lines
        await self._put_last(log, lines)
        await self._read_numbers(log)

    async def _read_first(self, log: LogFile, scan: Scan) -> None:
        count = self.rows.height + AHEAD
        lines = await asyncio.to_thread(log.after, 0, count, self.level, scan.told)
        self._put(lines, await self._reach_end(lines, count, log, scan))
        self.rows.top = self.rows.sub = self.number = 0
        self._settle()

    async def _read_around(self, at: int, log: LogFile, scan: Scan) -> None:
        """The lines before and behind offset ``at``, which is put a third down."""
        after = await asyncio.to_thread(log.after, at, AHEAD, self.level, scan.told)
        before = await asyncio.to_thread(log.before, at, AHEAD, self.level, scan.told)
        self.number = None
        self._put(before + after, await self._reach_end(after, AHEAD, log, scan))
        self.rows.to_line(at, self.rows.height // 3)
        if self.rows.hit == at:  # a line that was looked for stays where it is
            self.following = False
        else:
            self._settle()
        await self._read_numbers(log)

    async def _read_more(self, back: bool, log: LogFile, scan: Scan) -> None:
        """Lines beyond those that are kept; what was scrolled meanwhile is made up for."""
        count = AHEAD + self.rows.height
        while not scan.stopped:
            lines = self.rows.lines
            read = (
                partial(log.before, lines[0].start) if back else partial(log.after, lines[-1].end)
            )
            more = await asyncio.to_thread(read, count, self.level, scan.told)
            self.number = None
            if back:
                self._put((more + lines)[:KEPT], self._whole and len(more) + len(lines) <= KEPT)
            else:
                whole = await self._reach_end(more, count, log, scan)
                self._put((lines + more)[-KEPT:], whole)
            self._owed = self.rows.move(self._owed)
            self._settle()
            if not self._owed or not more:
                break
        self._owed = 0
        await self._read_numbers(log)

    async def _reach_end(self, lines: list[Line], count: int, log: LogFile, scan: Scan) -> bool:
        """Whether nothing comes after ``lines``, of which ``count`` were asked for."""
        await self._read_tail(log)
        if self.level > Level.NONE:
            return len(lines) < count and not scan.stopped
        return not lines or lines[-1].end >= log.size

    # --- moving

    def _settle(self) -> None:
        """Following or not, after a move by the user."""
        self.following = self._whole and self.rows.at_last
        if self.following:
            self.new_lines = self._missed = 0
        self.refresh()
        self.post_message(self.Moved())

    def scroll_rows(self, by: int) -> None:
        """Up (``by`` < 0) or down; beyond the lines that are kept as soon as there are more."""
        lines = self.rows.lines
        if not lines or not by:
            return
        self.note = ""
        owed = self.rows.move(by)
        self._settle()
        way = 1 if by > 0 else -1
        ahead = len(lines) - self.rows.top - self.rows.height if by > 0 else self.rows.top
        if ahead < NEAR and (lines[0].start > 0 if by < 0 else not self._whole):
            self._owed = owed + (self._owed if self._fetching == way else 0)
            if self._fetching != way:
                self._start(partial(self._read_more, by < 0))
                self._fetching = way

    def go_first(self) -> None:
        self.note = ""
        self._start(self._read_first)

    def go_last(self) -> None:
        self.following, self.new_lines, self._missed = True, 0, 0
        self._start(self._read_last)

    def go_to(self, line: Line) -> None:
        """Put this line in sight, as what a search found."""
        self.rows.hit = line.start
        self.rows.pan_to_match(line)
        self.rows.remake()
        if any(one.start == line.start for one in self.rows.lines[1:-1]):
            seen = {self.rows.lines[index].start for index, _ in self.rows.seen()}
            self.following = False
            if line.start not in seen:
                self.rows.to_line(line.start, self.rows.height // 3)
            self.refresh()
            self.post_message(self.Moved())
        else:
            self._start(partial(self._read_around, line.start))
