"""Ends a workbench whose terminal is gone, or that is told to end; and when it can be suspended.

A closed terminal sends SIGHUP, but only to those that it controls. One that was started without (a
program opened the terminal for it) would wait for ever to write, and its input thread would read
the end of the input in a loop: 60 % of a core, measured.
"""

import asyncio
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["can_come_back", "end_politely", "end_with_terminal"]

GRACE_SECONDS = 2.0
"""For an ordinary end, should SIGHUP come after all."""


def end_with_terminal() -> None:
    """Watch standard input in a thread that costs nothing; end this process when it hangs up."""
    if sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=_watch, args=(sys.stdin.fileno(),), daemon=True).start()


def _watch(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)  # nothing but the hang-up, which is always told
    while not any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll()):
        pass
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGHUP)  # the main thread may wait for a terminal that reads no more


def end_politely(app: "App[int]") -> None:
    """Leave the terminal as it was at SIGTERM too, which would end this process at once."""
    status = 128 + signal.SIGTERM
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: app.exit(status, return_code=status)
    )


def can_come_back() -> bool:
    """Whether a shell with job control started this process: nobody else would know ``fg``."""
    try:
        parent = os.getppid()
        return os.getsid(parent) == os.getsid(0) and os.getpgid(parent) != os.getpgrp()
    except OSError:
        return False
