"""Starts a dispatcher of the queue in a process of its own, for those who free a device.

Small on purpose: supervisors import this.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from engine.jobs import child

__all__ = ["nudge"]

LOG_BYTES = 1 << 20


def nudge(home: Path, worker: str) -> bool:
    """Start ``python -m engine.jobs.dispatch`` when anything waits in the home's queue.

    ``worker``: the module that trains. What it says goes to ``queue/dispatch.log``. Returns whether
    one was started; never raises OSError, for those who call it have ended otherwise.
    """
    queue = home / "queue"
    with contextlib.suppress(OSError):
        if not any(n.endswith(".json") and not n.startswith(".") for n in os.listdir(queue)):
            return False
        log = _open(queue / "dispatch.log")
        try:
            subprocess.Popen(
                [sys.executable, "-P", "-m", "engine.jobs.dispatch", str(home), "--worker", worker],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child.environment(PYTHONUNBUFFERED="1"),
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(log)
        return True
    return False


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        if path.exists() and path.stat().st_size > LOG_BYTES:
            flags |= os.O_TRUNC
        return os.open(path, flags, 0o600)
    except OSError:  # a full disk: the next run may still have room where it writes
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
