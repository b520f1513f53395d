"""Ends a workbench whose terminal is gone.

A closed terminal sends SIGHUP, but only to those that it controls. One that was started without (a
program opened the terminal for it) would wait for ever to write, and its input thread would read
the end of the input in a loop: 60 % of a core, measured.
"""

import os
import select
import signal
import sys
import threading
import time

__all__ = ["end_with_terminal"]

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
