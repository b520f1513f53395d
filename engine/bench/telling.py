"""A contestant's end of the pipe: what it does, each step's seconds, each loss, how it failed."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from engine.errors import UserError
from engine.jobs.ends import classify
from engine.jobs.processes import die_with_parent

__all__ = ["OPTION", "Teller", "serve"]

OPTION = "--tell"


class Teller:
    """Writes messages, one JSON object a line; libraries print elsewhere."""

    def __init__(self, fd: int) -> None:
        self._file = open(fd, "w", encoding="utf-8", buffering=1)  # noqa: SIM115

    def tell(self, **message: Any) -> None:
        """Send one message, stamped with the time: ``t`` in Unix seconds."""
        self._file.write(json.dumps({"t": time.time(), **message}, default=str) + "\n")


def serve(work: Callable[[list[str], Teller], None]) -> int:
    """The main of a process of the bench; returns its exit status.

    Its arguments are ``--tell FD PARENT_PID`` and the work's own. It dies with its parent. What
    ends the work is told as ``error`` (one line) and ``kind``, as in a run's journal.
    """
    option, fd, parent, *arguments = sys.argv[1:]
    assert option == OPTION
    die_with_parent(int(parent))
    os.umask(0o077)
    teller = Teller(int(fd))
    try:
        work(arguments, teller)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        kind, line, _ = classify(error)
        teller.tell(error=line, kind=kind)
        return 1
    return 0
