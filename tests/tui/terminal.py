"""A real program in a real pty or in tmux: what it writes, byte for byte. For tests only."""

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from pathlib import Path
from types import TracebackType

import pytest

from engine.home import Home
from engine.text import UNSAFE

__all__ = ["DANGEROUS", "ROOT", "PtyApp", "Tmux", "leaks", "no_tmux"]

ROOT = Path(__file__).parents[2]

DANGEROUS = re.compile(
    rb"\x1b\]52|\x1b\[31;5m|\x1bc|\x1b\[2J.{0,4}\x1b\[31|\x00"
    rb"|\xc2[\x80-\x9f]"  # C1, as UTF-8
    rb"|\xe2\x80[\x8b\x8e\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"  # bidi, invisible
    rb"|\xed[\xa0-\xbf]"  # surrogates
)
"""What of ``conftest.HOSTILE`` must never reach a terminal."""


CSI = re.compile("\x1b\\[[?>=<]?[0-9;:]*[ $]?[@-~]")
OURS = re.compile("\x1b[78=>]|\x1b\\]22;[a-z-]+\x07|\x1b\\][^\x00-\x1f\x7f-\x9f]*\x07")
"""Saving and restoring the cursor, keypad modes, the pointer's shape; an OSC of text alone."""
CONTROLS = re.compile(f"[{UNSAFE}]")


def leaks(written: bytes, *, osc: tuple[str, ...] = ()) -> str:
    """What of an output is none of the sequences that the workbench itself writes; "" if nothing.

    ``osc``: the beginnings of those OSC sequences that were asked for.
    """
    text = CSI.sub("", written.decode("utf-8"))  # half a character, or a bare C1 byte, raises
    for found in OURS.finditer(text):
        sequence = found.group()
        if sequence.startswith("\x1b]") and not sequence[2:].startswith(("22;", *osc)):
            return repr(sequence)
    text = OURS.sub("", text).replace("\r", "").replace("\n", "")
    found = CONTROLS.search(text)
    return "" if found is None else repr(text[max(0, found.start() - 60) : found.end() + 20])


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
        for name in ("TMUX", "TUNEBENCH_NOTIFY"):  # of the terminal that the tests are run in
            environment.pop(name, None)
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


no_tmux = pytest.mark.skipif(
    shutil.which("tmux") is None and not os.environ.get("CI"), reason="tmux is not installed"
)


class Tmux:
    """A tmux server of its own with one window."""

    def __init__(self) -> None:
        self.name = ""
        self.fresh()

    def fresh(self) -> None:
        """Another server: one that is just ending would take a new session with it."""
        if self.name:
            self.run("kill-server")
        self.name = f"tunebench-{uuid.uuid4().hex[:8]}"

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.name, "-f", os.devnull, *words],
            capture_output=True, text=True, timeout=20, env=dict(os.environ),
        )  # fmt: skip
        return done.stdout

    def start(self, home: Home, columns: int = 120, lines: int = 40) -> None:
        command = f"PYTHONPATH={ROOT} exec {sys.executable} -m tui --home {home.path}"
        self.run("new-session", "-d", "-s", "w", "-x", str(columns), "-y", str(lines), command)

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.run("send-keys", "-t", "w", key)

    def type(self, text: str) -> None:
        self.run("send-keys", "-t", "w", "-l", text)

    def screen(self) -> str:
        return self.run("capture-pane", "-p", "-t", "w")

    def pid(self) -> int:
        return int(self.run("list-panes", "-t", "w", "-F", "#{pane_pid}").strip())

    def wait(self, pattern: str, seconds: float = 60.0) -> str:
        """Look at the screen until it shows ``pattern``."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.screen()
            if re.search(pattern, shown):
                return shown
            assert time.monotonic() < deadline, f"{pattern!r} never appeared on\n{shown}"
            time.sleep(0.05)  # a look costs a process: not more than 20 a second
