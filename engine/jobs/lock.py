"""Who is alive: file locks that the kernel frees however their holder dies.

``runs/<id>/lock`` is one open file description, inherited from the launcher by the supervisor and
from it by the worker: it is held as long as one of them lives. ``runs/<id>/supervisor.lock`` is
held by the supervisor alone, so that a worker without one can be seen. No process ids are guessed.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import UserError
from engine.jobs.folder import RunFolder

__all__ = [
    "NoFileLocks",
    "acquire",
    "has_supervisor",
    "is_alive",
    "is_held",
    "keep_from_children",
    "locked",
]

POLL_SECONDS = 0.1
PROBE_SECONDS = 1.0
"""How long :func:`acquire` tries again: viewers hold a lock for an instant while they look."""


def acquire(path: Path, seconds: float = PROBE_SECONDS) -> int | None:
    """Take the lock at ``path`` and return its file descriptor (close-on-exec), or None.

    None: somebody still held it after ``seconds``.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"{path}: the run cannot be locked ({error.strerror})") from None
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.01)
        except OSError as error:
            os.close(fd)
            raise _no_locks(path, error) from None


class NoFileLocks(UserError):
    """The file system answers no ``flock``: mounted without it, or without a lock server."""


def _no_locks(path: Path, error: OSError) -> NoFileLocks:
    return NoFileLocks(
        f"{path}: file locks do not work here ({error.strerror}); put the home on another file "
        "system with --home DIR"
    )


def is_held(path: Path) -> bool:
    """True while anybody holds the lock at ``path``; a missing file is held by nobody."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _no_locks(path, error) from None
    finally:
        os.close(fd)
    return False


def is_alive(folder: RunFolder) -> bool:
    """True while the run's worker, or the supervisor that has yet to note its end, lives."""
    return is_held(folder.lock) or is_held(folder.supervisor_lock)


def has_supervisor(folder: RunFolder) -> bool:
    """True while a supervisor watches over the run."""
    return is_held(folder.supervisor_lock)


def keep_from_children(fd: int) -> None:
    """Let no child of this process inherit ``fd``, neither over exec nor over a bare fork.

    Data-loader workers are forked without exec, so close-on-exec alone would let one of them hold
    the run's lock after its worker died.
    """
    os.set_inheritable(fd, False)

    closed = False

    def close() -> None:
        nonlocal closed
        if not closed:  # in a child's own child the number may stand for something else
            closed = True
            with suppress(OSError):
                os.close(fd)

    os.register_at_fork(after_in_child=close)


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file at ``path``, waiting for it: without ``waiting`` for short sections only.

    ``waiting`` is called every 0.1 s while somebody else holds the lock, and may raise.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (fcntl.LOCK_NB if waiting else 0))
                break
            except BlockingIOError:
                assert waiting is not None
                waiting()
                time.sleep(POLL_SECONDS)
            except OSError as error:
                raise _no_locks(path, error) from None
        yield
    finally:
        os.close(fd)
