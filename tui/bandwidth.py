"""Over a slow link what lives by itself is drawn rarely: on by choice, or by what the link shows.

What the link shows: behind what is drawn the terminal is asked for its cursor's position, which
every terminal answers, and only once it has read all that came before. A terminal that never
answers shows it by how long writing to it takes. (tmux and mosh answer on the server's side, and
send no more than the link takes by themselves.)
"""

import threading
import time
from collections.abc import Callable
from typing import IO, Any

from textual import events
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

__all__ = ["PROBE", "SLOW_SECONDS", "Link", "TimedDriver"]

PROBE = "\x1b[6n"
SLOW_SECONDS = 5.0
"""Between two repaints of what lives by itself, over a slow link."""
LAG, LONG_LAG = 0.8, 3.0
"""Seconds until the terminal has read what was drawn, from which on that is slow, or very slow."""
ENOUGH = 3
"""Slow answers in a row that turn it on; a very slow one counts for two."""
GOOD_LAG = 0.25
GOOD_ANSWERS = 12
"""Good ones in a row that turn it off again: a minute of them; each time twice as many."""
FRAME = 3_000
"""Characters drawn behind which an answer says something."""
LEAVE_SECONDS = 2.0
"""An answer that comes after leaving would be typed into the shell."""


class Link:
    """How fast the way to the terminal is, and whether that means to draw rarely.

    ``low``: chosen by the user; None: found out. Called by the event loop, the feed's thread, and
    those of the driver.
    """

    def __init__(
        self, low: bool | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.low = bool(low)
        self.chosen = low is not None
        self.changed: Callable[[], Any] = lambda: None
        """Called, from any thread, when it turned itself on or off."""
        self._clock = clock
        self._lock = threading.Lock()
        self._drawn: dict[str, float] = {}
        self._slow = self._good = 0
        self._wanted = GOOD_ANSWERS
        self._size = FRAME  # so that the first frame is asked about
        self._asked: float | None = None
        self._answers = False
        self._settled = threading.Event()
        self._settled.set()

    def choose(self, low: bool) -> None:
        """The user's word, which holds from now on."""
        self.low, self.chosen = low, True

    def due(self, what: str, seconds: float = SLOW_SECONDS) -> bool:
        """False: over this link ``what`` was drawn too lately to draw it again.

        Timers ask it that repaint what changes by itself; what answers a key does not.
        """
        now = self._clock()
        if self.low and now - self._drawn.get(what, float("-inf")) < seconds - 0.1:
            return False
        self._drawn[what] = now
        return True

    # --- what the link shows

    def wrote(self, size: int) -> None:
        """So many characters are on their way."""
        self._size += size

    def ask(self) -> bool:
        """True: the terminal is to be asked now, behind what was drawn."""
        with self._lock:
            if self.chosen or self._asked is not None or self._size < FRAME:
                return False
            self._size, self._asked = 0, self._clock()
            self._settled.clear()
            return True

    def answered(self) -> None:
        """The terminal has read everything up to the last question."""
        with self._lock:
            asked, self._asked, self._answers = self._asked, None, True
            self._settled.set()
        if asked is not None:
            self._judge(self._clock() - asked)

    def blocked(self, seconds: float) -> None:
        """Writing took so long: all there is to judge by where the terminal answers nothing."""
        if not self._answers and not self.chosen:
            self._judge(seconds)

    def _judge(self, lag: float) -> None:
        with self._lock:
            self._slow = self._slow + (2 if lag >= LONG_LAG else 1) if lag >= LAG else 0
            self._good = self._good + 1 if lag <= GOOD_LAG else 0
            before = self.low
            if self.chosen:
                return
            if not before and self._slow >= ENOUGH:
                self.low, self._good = True, 0
            elif before and self._good >= self._wanted:
                self.low, self._slow = False, 0
                self._wanted *= 2
            turned = before != self.low
        if turned:
            self.changed()

    def settle(self) -> None:
        """Before leaving: wait for an answer that is on its way."""
        if self._answers:
            self._settled.wait(LEAVE_SECONDS)


class _Timed:
    """The terminal's file as the writer thread uses it, with a clock."""

    def __init__(self, file: IO[str], link: Link) -> None:
        self._file, self._link = file, link
        self._took = 0.0

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, text: str) -> None:
        began = time.monotonic()
        self._file.write(text)
        self._took += time.monotonic() - began

    def flush(self) -> None:
        began = time.monotonic()
        self._file.flush()
        took, self._took = self._took + time.monotonic() - began, 0.0
        self._link.blocked(took)


class TimedDriver(LinuxDriver):
    """Tells the app's :class:`Link` what is written, how long that takes, and what is answered."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._link: Link = app.link
        self._file: Any = _Timed(self._file, self._link)

    def write(self, data: str) -> None:
        self._link.wrote(len(data))
        super().write(data)

    def ask(self) -> None:
        """Ask the terminal for an answer behind what was written, where one is of use."""
        if self._writer_thread is not None and self._link.ask():
            super().write(PROBE)

    def process_message(self, message: Message) -> None:
        if isinstance(message, events.CursorPosition):
            self._link.answered()
        else:
            super().process_message(message)

    def disable_input(self) -> None:
        self._link.settle()
        super().disable_input()
