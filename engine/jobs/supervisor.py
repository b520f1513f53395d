"""Watches over one attempt of one run: ``python -m engine.jobs.supervisor RUN_DIR``.

It starts the worker, turns requests into signals, notes exit code and signal in the journal and
ends what the worker left behind. With ``--adopt`` it takes over from a supervisor that died: the
worker is then not its child, so its exit code cannot be known. It imports nothing heavy.
"""

import argparse
import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.jobs import control, processes
from engine.jobs.folder import RunFolder
from engine.jobs.host_memory import OomKills, read_oom_kills
from engine.jobs.journal import Journal, read_all
from engine.jobs.lock import acquire
from engine.jobs.nudge import nudge

__all__ = ["main"]

TICK_SECONDS = 0.2
GRACE_SECONDS = 1.0
DISK_FULL_SECONDS = 600.0
UNWRITABLE_SECONDS = 5.0


_journals: dict[Path, Journal] = {}


def append(folder: RunFolder, attempt: int, type: str, **fields: Any) -> None:
    """One line in the run's journal, beside the worker's."""
    open_journal(folder, attempt).append(type, **fields)


def open_journal(folder: RunFolder, attempt: int) -> Journal:
    """The run's journal, held open from now on: one that is removed can then be written anew."""
    journal = _journals.get(folder.journal)
    if journal is None:
        journal = _journals[folder.journal] = Journal(folder.journal, attempt, beside=True)
    journal.attempt = attempt
    return journal


def append_surely(folder: RunFolder, attempt: int, type: str, **fields: Any) -> bool:
    """:func:`append`; on a full disk gives up the reserve, then tries again for ten minutes.

    On a file system that became read-only it gives up soon: viewers take the run for a living one
    as long as this process has its lock.
    """
    began = time.monotonic()
    while True:
        try:
            append(folder, attempt, type, **fields)
            return True
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if full and folder.reserve.exists():
                folder.reserve.unlink(missing_ok=True)
                continue
            seconds = DISK_FULL_SECONDS if full else UNWRITABLE_SECONDS
            if not folder.path.exists() or time.monotonic() - began >= seconds:
                with contextlib.suppress(OSError):
                    print(f"supervisor: the journal cannot be written: {error}", flush=True)
                return False
            time.sleep(1.0)


class Requests:
    """What was asked of the run, by file or by a SIGTERM to the supervisor."""

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self.folder = folder
        self.attempt = attempt
        self.terminated = False
        self._seen: set[int] = set()
        self._stopping = False
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, *_: object) -> None:
        self.terminated = True

    def forward(self, pidfd: int) -> None:
        """Send the signals that new requests ask for to the worker."""
        stop, self.terminated = self.terminated, False
        for number in control.pending(self.folder, self._seen):
            self._seen.add(number)
            action, _ = control.read(self.folder, number)
            if action == "kill":
                self._note("control", number=number, action=action, taken=True)
                _send(pidfd, signal.SIGKILL)
            stop = stop or action == "stop"
        if stop:
            if not self._stopping:
                self._stopping = True
                self._note("state", state="stopping")
            _send(pidfd, signal.SIGTERM)

    def _note(self, type: str, **fields: Any) -> None:
        with contextlib.suppress(OSError):  # obeying matters more than noting it
            append(self.folder, self.attempt, type, **fields)


def _send(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _python(module: str, *arguments: str) -> list[str]:
    # -P: the current folder is the user's; a json.py there must not become the standard library's.
    return [sys.executable, "-P", "-m", module, *arguments]


def supervise(
    folder: RunFolder, attempt: int, lock: int, worker: str, leases: tuple[int, ...] = ()
) -> None:
    """Start the worker, wait for its end, note it, end its descendants."""
    processes.become_subreaper()
    requests = Requests(folder, attempt)
    with contextlib.suppress(OSError):
        open_journal(folder, attempt)
    kills_before = read_oom_kills()  # of this cgroup, which the worker inherits
    # A stop that comes before the worker can handle it waits: the mask is inherited, and lifted by
    # the worker once its handler is there.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        child = subprocess.Popen(
            [
                *_python(worker, str(folder.path), "--attempt", str(attempt)),
                *("--lock-fd", str(lock), "--lease-fds", ",".join(map(str, leases))),
            ],
            start_new_session=True,
            pass_fds=(lock, *leases),
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        message = f"the worker cannot be started: {error.strerror}"
        append_surely(folder, attempt, "error", kind="crash", message=message)
        append_surely(folder, attempt, "state", state="failed", reason=message)
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _wait(child.pid, requests)
    code = child.wait()
    ended: dict[str, Any] = {"exit_code": code, "signal": None, "signal_name": None}
    if code < 0:
        ended = {"exit_code": None, "signal": -code, "signal_name": signal.Signals(-code).name}
    note_end(folder, attempt, ended, kills_before)
    processes.end_all(lambda: processes.descendants(os.getpid()), GRACE_SECONDS)


def note_end(
    folder: RunFolder, attempt: int, ended: dict[str, Any], kills: OomKills, by: str = "supervisor"
) -> None:
    """Journal the worker's exit, and why it ended where it could not say so itself."""
    # Late: what a supervisor needs only once, at the end.
    from engine.jobs.last_words import last_words

    error: dict[str, Any] | None = None
    more: dict[str, Any] = {}
    try:
        error, more = last_words(folder, attempt, ended, read_oom_kills().since(kills))
    except Exception as trouble:  # the exit itself matters more
        with contextlib.suppress(OSError):
            print(f"supervisor: {type(trouble).__name__}: {trouble}", flush=True)
    if error:
        append_surely(folder, attempt, "error", **error)
    append_surely(folder, attempt, "exit", **ended, **more, by=by)


def _wait(pid: int, requests: Requests) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(TICK_SECONDS * 1000):
            requests.forward(pidfd)
    finally:
        os.close(pidfd)


def find_worker(folder: RunFolder, attempt: int) -> int | None:
    """The process id of the attempt's worker, if the process that noted it still lives.

    Sure, not guessed: same host, same start time, and it has the run's lock file open.
    """
    found = None
    for event in read_all(folder.journal):
        if event["type"] == "state" and "pid" in event and event.get("attempt") == attempt:
            found = event
    if not found or found.get("host") != os.uname().nodename:
        return None
    pid, ticks = found["pid"], found.get("start_ticks")
    if not isinstance(pid, int) or processes.start_ticks(pid) != ticks:
        return None
    return pid if processes.holds_file(pid, folder.lock) else None


def adopt(folder: RunFolder, attempt: int) -> None:
    """Wait for the end of a worker whose supervisor died, and note it."""
    requests = Requests(folder, attempt)
    with contextlib.suppress(OSError):
        open_journal(folder, attempt)
    kills = read_oom_kills()
    while (lock := acquire(folder.lock, 0)) is None:
        if (pid := find_worker(folder, attempt)) is None:
            time.sleep(TICK_SECONDS)  # it has not noted its process id yet, or lives elsewhere
            continue
        with contextlib.suppress(ProcessLookupError):
            _wait(pid, requests)
        processes.end_all(lambda leader=pid: processes.in_session(leader), GRACE_SECONDS)  # type: ignore[misc]
    if not _has_exit(folder, attempt):
        unknown = {"exit_code": None, "signal": None, "signal_name": None}
        note_end(folder, attempt, unknown, kills, by="adopted")
    os.close(lock)


def _has_exit(folder: RunFolder, attempt: int) -> bool:
    return any(
        e["type"] == "exit" and e.get("attempt") == attempt for e in read_all(folder.journal)
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 when another supervisor has the run."""
    parser = argparse.ArgumentParser(prog="engine.jobs.supervisor", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--lock-fd", type=int, help="the run's lock, already held")
    parser.add_argument("--supervisor-fd", type=int, help="the supervisor's lock, already held")
    parser.add_argument("--worker", default="engine.jobs.worker", help="module that is the worker")
    parser.add_argument("--lease-fds", default="", help="leases of devices, commas between")
    parser.add_argument("--adopt", action="store_true")
    args = parser.parse_args(arguments)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    os.umask(0o077)
    folder = RunFolder(args.run_dir.absolute())
    own = args.supervisor_fd if args.supervisor_fd is not None else acquire(folder.supervisor_lock)
    if own is None:
        print("supervisor: another one watches over this run", flush=True)
        return 1
    os.set_inheritable(own, False)
    home = folder.path.parent.parent
    if args.adopt:
        adopt(folder, args.attempt)
        os.close(own)
        nudge(home, args.worker)
        return 0
    lock = args.lock_fd if args.lock_fd is not None else acquire(folder.lock)
    if lock is None:
        print("supervisor: a worker of this run lives", flush=True)
        return 1
    leases = tuple(int(fd) for fd in args.lease_fds.split(",") if fd)
    supervise(folder, args.attempt, lock, args.worker, leases)
    # The run's lock before the supervisor's own: never a worker that seems to lack a supervisor.
    for fd in (*leases, lock, own):
        os.close(fd)
    nudge(home, args.worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
