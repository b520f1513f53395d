"""The pane of a log: its lines, a field for what to look for, titles that say where one is."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from engine.jobs import logsearch
from engine.jobs.logfile import LogFile
from engine.jobs.logsearch import Needle, Scan
from engine.text import clip
from tui.widgets.field import PlainInput
from tui.widgets.logview import FILTERS, LogView
from tui.words import bytes_words

if TYPE_CHECKING:
    from tui.app import WorkbenchApp

__all__ = ["LogPage"]

COUNT_DELAY = 0.2
"""Seconds without a key before what was typed is counted."""
COUNT_SECONDS = 1.0
"""Between two numbers that are shown."""


class LogPage(Vertical):
    """The screen's keys call what is here; nothing it does blocks the event loop."""

    ALLOW_MAXIMIZE = True
    DEFAULT_CSS = """
    LogPage { height: 1fr; }
    LogPage Input { display: none; }
    """

    class Changed(Message):
        """Other things than before are possible now."""

    def __init__(self, *, id: str, classes: str = "pane") -> None:
        super().__init__(id=id, classes=classes)
        self._name = ""
        self._titles = ("", "")
        self._needle: Needle | None = None
        self._found: tuple[int, bool] | None = None
        """(lines with the text, whether that is all of them)."""
        self._search: Scan | None = None
        self._counting: Scan | None = None

    def compose(self) -> ComposeResult:
        yield LogView()
        yield PlainInput(placeholder="find in the log; n and N: next and last match")

    @property
    def view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def _field(self) -> PlainInput:
        return self.query_one(PlainInput)

    @property
    def searched(self) -> bool:
        """There is a text to look for again."""
        return self._needle is not None

    def open(self, path: Path, name: str = "") -> None:
        """Show this log from its end, unless it is shown already; ``name``: whose it is."""
        view = self.view
        if view.file is None or view.file.path != path:
            self._forget()
            self._name = name
            view.open(path)
            self.show_titles()

    def on_unmount(self) -> None:
        self._forget()

    def _forget(self) -> None:
        for scan in (self._search, self._counting):
            if scan is not None:
                scan.stopped = True
        self._needle = self._found = self._search = self._counting = None

    # --- titles

    def on_resize(self) -> None:
        self.show_titles()

    def on_log_reader_moved(self, event: LogView.Moved) -> None:
        event.stop()
        self.show_titles()

    def show_titles(self) -> None:
        view, room = self.view, max(10, self.outer_size.width - 6)
        title = f"worker.log of {clip(self._name, 30)}" if self._name else "worker.log"
        if view.file is not None and view.file.size:
            title += f" · {bytes_words(view.file.size)}"
        if view.level:
            title += f" · {FILTERS[view.level]}"
        if self._needle is not None:
            title += f" · {self._count_words(self._needle)}"
        words = view.words
        if (scan := self._search) is not None:
            words = f"searching, {100 * scan.at // scan.size} % · esc stops"
        titles = clip(title, room), clip(words, room)
        if titles != self._titles:  # the whole pane is painted anew with them: 12 kB at 120x40
            self._titles = titles
            self.border_title, self.border_subtitle = map(Text, titles)

    def _count_words(self, needle: Needle) -> str:
        shown = clip(needle.text, 24)
        if self._found is None:
            return f"“{shown}”"
        lines, whole = self._found
        told = "1 line" if lines == 1 and whole else f"{lines:,} lines"
        return f"“{shown}” {'in ' if whole else 'in at least '}{told}"

    # --- search

    def find(self) -> None:
        """Open the field."""
        field = self._field
        field.value = self._needle.text if self._needle is not None else ""
        field.display = True
        field.focus()

    def _close(self) -> None:
        self._field.display = False
        self.view.focus()
        self.post_message(self.Changed())

    def on_input_changed(self, event: Input.Changed) -> None:
        """What is typed is marked in the lines in sight, and counted."""
        event.stop()
        if self._field.display:
            self._take(event.value)

    def _take(self, text: str) -> None:
        if text == (self._needle.text if self._needle is not None else ""):
            return
        self._needle, self._found = (Needle(text) if text else None), None
        self.view.look_for(self._needle)
        self.show_titles()
        self._recount()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close()
        self._take(event.value)
        self.again(-1 if self.view.following else 1, here=True)

    def again(self, way: int, *, here: bool = False) -> None:
        """The next line with the text, or (``way`` < 0) the one before; round the end.

        ``here``: from what is in sight, whatever was found last.
        """
        view, log = self.view, self.view.file
        if self._needle is None or log is None:
            return
        if self._search is not None:
            self._search.stopped = True
        lines, hit = view.rows.lines, -1 if here else view.rows.hit
        place = next((line for line in lines if line.start == hit), None)
        seen = [lines[index] for index, _ in view.rows.seen()]
        if way > 0:
            start = place.end if place else (seen[0].start if seen else 0)
        else:
            start = place.start if place else (seen[-1].end if seen else log.size)
        scan = self._search = Scan(log.size)
        self.run_worker(
            partial(self._find, self._needle, log, start, way < 0, scan),
            group="search",
            exclusive=True,
        )

    async def _find(self, needle: Needle, log: LogFile, start: int, back: bool, scan: Scan) -> None:
        timer = self.set_interval(COUNT_SECONDS, self.show_titles)
        try:
            level = self.view.level
            seek = partial(logsearch.find, log, needle, back=back, level=level, told=scan.told)
            line = await asyncio.to_thread(seek, start)
            around = line is None and not scan.stopped
            if around:
                line = await asyncio.to_thread(seek, log.size if back else 0)
            if scan.stopped:
                return
            if line is None:
                where = f"{FILTERS[level]} of this log" if level else "log"
                self._say(f"nothing in the {where} reads {clip(needle.text, 30)}")
                return
            if around:
                self._say("from the end again" if back else "from the beginning again")
            self.view.go_to(line)
        finally:
            timer.stop()
            scan.stopped = True  # a thread does not end with its worker
            if self._search is scan:
                self._search = None
                self.show_titles()
                self.post_message(self.Changed())

    def _recount(self) -> None:
        if self._counting is not None:
            self._counting.stopped = True
            self._counting = None
        log = self.view.file
        if self._needle is not None and log is not None:
            scan = self._counting = Scan(log.size)
            self.run_worker(
                partial(self._count, self._needle, log, scan), group="count", exclusive=True
            )

    async def _count(self, needle: Needle, log: LogFile, scan: Scan) -> None:
        await asyncio.sleep(COUNT_DELAY)
        numbers = logsearch.count(log, needle, level=self.view.level, told=scan.told)

        def some() -> tuple[int, bool] | None:
            """The number after a while; with it, whether it is the last one."""
            until, number = time.monotonic() + COUNT_SECONDS, None
            for number in numbers:
                if time.monotonic() > until:
                    return number, False
            return None if number is None else (number, True)

        try:
            while not scan.stopped and (found := await asyncio.to_thread(some)) is not None:
                if scan.stopped:
                    return
                self._found = found
                self.show_titles()
                if found[1]:
                    break
        finally:
            scan.stopped = True

    # --- what other keys do

    def next_level(self) -> None:
        self.view.next_level()
        self._found = None
        self._recount()
        self.show_titles()

    def back(self) -> bool:
        """One step back from what is done here; False: nothing is."""
        if self._field.display:
            self._close()
        elif self._search is not None:
            self._search.stopped = True
        elif not (self.view.level and self.view.stop()):
            return False
        return True

    def _say(self, words: str) -> None:
        cast("WorkbenchApp", self.app).say(words)
