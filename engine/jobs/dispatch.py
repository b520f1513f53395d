"""Starts what waits in the queue and can have its devices: ``python -m engine.jobs.dispatch HOME``.

Whoever adds to the queue or frees a device dispatches, under one lock, and need not stay. Strictly
in order: a run that waits for its devices lets none pass. An entry goes only once its run is
started, so whoever dies on the way leaves nothing undone that the next one would not do.

Only when the first run waits for what no run of this home will free (a GPU that somebody else
uses), one dispatcher stays and looks again every ten seconds.
"""

import argparse
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UserError
from engine.home import Home
from engine.jobs import entries, launch, leases
from engine.jobs.create import settle
from engine.jobs.entries import Entry, State, hold, read_entries, read_state, write_state
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_lines
from engine.jobs.last_words import ENDS
from engine.jobs.leases import Wait
from engine.jobs.lock import acquire, is_alive, is_held
from engine.jobs.nudge import nudge

__all__ = ["Outcome", "dispatch"]

WATCH_SECONDS = 10.0
FAILURES = 3
AT_ONCE_SECONDS = 60.0
TAIL_BYTES = 64 << 10


@dataclass
class Outcome:
    """What a dispatch came to."""

    started: list[str] = field(default_factory=list)
    """Names of the runs that were started, in order."""
    paused: str = ""
    wait: Wait | None = None
    """Why the first of those left waits; None: none is left, or the queue is paused."""

    @property
    def foreign(self) -> bool:
        return self.wait is not None and self.wait.foreign


def dispatch(home: Home, watch: bool = True) -> Outcome:
    """Start every run that is first in the queue and can have its devices.

    With ``watch`` a process is left behind that looks again, where nobody else would. Raises
    UserError when the queue cannot be read or locked.
    """
    outcome = Outcome()
    try:
        if not home.queue.is_dir():
            return outcome
        with hold(home):
            settle(home)
            state = _account(home, read_state(home))
            outcome.paused = state.paused
            if not state.paused:
                _start(home, state, outcome)
    except OSError as error:
        where = error.filename or home.queue
        raise UserError(f"{where}: the queue cannot go on ({error.strerror})") from None
    if watch and outcome.foreign and not is_held(home.queue / ".watch"):
        nudge(home.path, launch.WORKER)
    return outcome


def _start(home: Home, state: State, outcome: Outcome) -> None:
    for entry in read_entries(home)[0]:
        folder = RunFolder(home.runs / entry.run)
        if is_over(folder, entry):
            entries.remove(home, entry.run)
            continue
        devices = leases.take(home, entry.gpus, entry.visible)
        if isinstance(devices, Wait):
            outcome.wait = devices
            return
        words = devices.words
        try:
            launch.launch(folder, entry.attempt, devices)
        except (UserError, OSError) as error:
            if is_alive(folder):  # somebody else was quicker
                entries.remove(home, entry.run)
            else:
                _give_up(home, folder, entry, str(error))
                state.failed.append(entry.name)
                write_state(home, _judge(home, state))
                if state.paused:
                    outcome.paused = state.paused
                    return
            continue
        state.started[entry.run] = entry.attempt
        write_state(home, state)
        outcome.started.append(entry.name)
        _log(home, f"{entry.name} ({entry.run}) started on {words}")


def is_over(folder: RunFolder, entry: Entry) -> bool:
    """True when the entry has nothing left to start: deleted, running, or begun before."""
    if not folder.identity.exists() or is_alive(folder):
        return True
    return launch.has_begun(folder, entry.attempt)


def _give_up(home: Home, folder: RunFolder, entry: Entry, reason: str) -> None:
    """A run that cannot be started must not stand in the way of the others."""
    folder.reserve.unlink(missing_ok=True)
    journal = Journal(folder.journal, entry.attempt)
    journal.append("state", state="failed", reason=f"it could not be started: {reason}")
    journal.close()
    entries.remove(home, entry.run)
    _log(home, f"{entry.name} ({entry.run}) could not be started: {reason}")


def _account(home: Home, state: State) -> State:
    """Note how runs of the queue ended; three in a row that failed at once pause it."""
    from engine.history.follow import state_of
    from engine.history.row import KILLED

    ended = []
    for run, attempt in list(state.started.items()):
        folder = RunFolder(home.runs / run)
        # A worker that is gone has freed its devices, though its supervisor still clears up: a
        # third failure that is not counted yet would let a fourth run start.
        if is_alive(folder) and not _says_its_end(folder, attempt):
            continue
        del state.started[run]
        row = state_of(folder)
        if folder.identity.exists() and row.attempt == attempt and row.ended is not None:
            ended.append(row)
    if not ended:
        return state
    for row in sorted(ended, key=lambda row: row.ended or 0.0):
        seconds = (row.ended or 0.0) - (row.started or row.ended or 0.0)
        bad = row.state == "failed" or (row.state == "killed" and row.reason != KILLED)
        if bad and seconds < AT_ONCE_SECONDS:
            state.failed.append(row.name)
        else:
            state.failed.clear()
    write_state(home, _judge(home, state))
    return state


def _says_its_end(folder: RunFolder, attempt: int) -> bool:
    """Whether the last lines of the journal have the end of this attempt."""
    try:
        size = folder.journal.stat().st_size
    except OSError:
        return False
    last = read_lines(folder.journal, max(0, size - TAIL_BYTES)).events
    return any(
        event["type"] == "state" and event.get("attempt") == attempt and event.get("state") in ENDS
        for event in last
    )


def _judge(home: Home, state: State) -> State:
    if len(state.failed) >= FAILURES and not state.paused:
        names = ", ".join(state.failed[-FAILURES:])
        state.paused = (
            f"{FAILURES} runs in a row failed within their first minute ({names}); see what they "
            "say, then 'tunebench queue resume'"
        )
        _log(home, f"paused: {state.paused}")
    return state


def _log(home: Home, text: str) -> None:
    with suppress(OSError), (home.queue / "dispatch.log").open("a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def _watch(home: Home, seconds: float) -> None:
    """Dispatch; stay as long as the first run waits for what nobody else would tell of."""
    while (outcome := dispatch(home, watch=False)).foreign:
        lock = acquire(home.queue / ".watch", 0)
        if lock is None:
            return  # another one stays
        try:
            while outcome.foreign:
                time.sleep(seconds)
                launch.reap()
                outcome = dispatch(home, watch=False)
        finally:
            os.close(lock)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 when the queue cannot be used."""
    parser = argparse.ArgumentParser(prog="engine.jobs.dispatch", description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--worker", default=launch.WORKER, help="module that is the worker")
    parser.add_argument("--seconds", type=float, default=WATCH_SECONDS, help="between two looks")
    args = parser.parse_args(arguments)
    os.umask(0o077)
    launch.WORKER = args.worker
    try:
        _watch(Home(args.home.absolute()), args.seconds)
    except UserError as error:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
