"""Looking at processes through ``/proc``: start times, sessions, descendants, who holds a file.

Small on purpose: a supervisor imports this and stays at a few MB for as long as its run takes.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "become_subreaper",
    "descendants",
    "die_with_parent",
    "end_all",
    "holds_file",
    "in_session",
    "start_ticks",
]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STATE, PARENT, SESSION, START = 0, 1, 3, 19  # fields of /proc/PID/stat after the command's ")"


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rfind(")") + 2 :].split()


def _all() -> list[tuple[int, list[str]]]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [(pid, fields) for pid in pids if (fields := _stat(pid)) and fields[STATE] not in "ZX"]


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; None when there is no such process."""
    fields = _stat(pid)
    return int(fields[START]) if fields else None


def descendants(root: int) -> list[int]:
    """Living children of ``root`` and theirs, whatever their session."""
    children: dict[int, list[int]] = {}
    for pid, fields in _all():
        children.setdefault(int(fields[PARENT]), []).append(pid)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def in_session(leader: int) -> list[int]:
    """Living processes of the session that ``leader`` started."""
    return [pid for pid, fields in _all() if int(fields[SESSION]) == leader]


def holds_file(pid: int, path: Path) -> bool:
    """True when ``pid`` has this very file open (a process of ours; else False)."""
    try:
        wanted = os.stat(path)
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                info = os.stat(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if (info.st_ino, info.st_dev) == (wanted.st_ino, wanted.st_dev):
                return True
    except OSError:
        pass
    return False


def become_subreaper() -> bool:
    """Orphans among this process's descendants become its children, so that it can end them."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def die_with_parent(parent: int) -> None:
    """The kernel kills this process (SIGKILL) as soon as its parent, the process ``parent``, ends.

    At once when that has happened already. A thread counts as the parent: the one that started
    this process must be one that lives as long as the parent's process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def end_all(find: Callable[[], list[int]], grace_seconds: float) -> int:
    """Wait up to ``grace_seconds`` for the processes of ``find()`` to end, then SIGKILL them.

    Returns how many had to be killed. Children of this process are reaped on the way.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    while True:
        _reap()
        left = find()
        if not left or time.monotonic() >= deadline + 5:
            return len(killed)
        if time.monotonic() >= deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                except ProcessLookupError:
                    pass
        time.sleep(0.02)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
