"""A real program in a real pty: what it writes, byte for byte. For tests only."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType

__all__ = ["DANGEROUS", "PtyApp"]

ROOT = Path(__file__).parents[2]

DANGEROUS = re.compile(
    rb"\x1b\]52|\x1b\[31;5m|\x1bc|\x1b\[2J.{0,4}\x1b\[31|\x00"
    rb"|\xc2[\x80-\x9f]"  # C1, as UTF-8
    rb"|\xe2\x80[\x8b\x8e\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"  # bidi, invisible
    rb"|\xed[\xa0-\xbf]"  # surrogates
)
"""What of ``conftest.HOSTILE`` must never reach a terminal."""


class PtyApp:
    """The workbench on a home, in a pty of its own; everything it wrote is in ``written``."""

    def __init__(self, home: Path, columns: int = 120, lines: int = 40, *words: str) -> None:
        """``words``: further ones of the command line."""
        self.home, self.columns, self.lines, self.words = home, columns, lines, words
        self.written = b""

    def __enter__(self) -> "PtyApp":
        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", self.lines, self.columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tui", "--home", str(self.home), *self.words],
            stdin=child, stdout=child, stderr=child, env=environment, start_new_session=True,
            cwd=self.home,
        )  # fmt: skip
        os.close(child)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        os.close(self._fd)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_for(self, pattern: bytes, seconds: float = 60.0, since: int = 0) -> int:
        """Read until ``pattern`` was written after byte ``since``; returns how much was written."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.written[since:]):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was never written:\n{self.written[since:][-3000:]!r}"
            if select.select([self._fd], [], [], min(left, 1.0))[0]:
                self.written += os.read(self._fd, 1 << 16)
            assert self.process.poll() is None, self.written[-3000:].decode("utf-8", "replace")
        return len(self.written)

    def quiet(self, seconds: float = 0.4) -> int:
        """Read until nothing was written for ``seconds``; returns how much was written."""
        while select.select([self._fd], [], [], seconds)[0]:
            self.written += os.read(self._fd, 1 << 16)
        return len(self.written)

    def ended(self, seconds: float = 20.0) -> int:
        """Read until the program has ended; returns its exit status."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.written[-1000:]
            if select.select([self._fd], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # nobody holds the other end any more
                    self.written += os.read(self._fd, 1 << 16)
        return self.process.wait()

    def hang_up(self, seconds: float) -> int:
        """Take the terminal away, as a program that held it and was killed does.

        Returns the exit status; raises ``TimeoutExpired`` when the workbench lives on.
        """
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_RDWR)
        return self.process.wait(seconds)
