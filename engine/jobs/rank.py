"""One of the processes that train a run together: ``python -m engine.jobs.rank RUN_DIR``.

The first (rank 0) writes the journal and obeys; the others follow it. None writes the run's end:
each tells the lead how it ended, and the lead knows which end was the first.
"""

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs.context import RunContext, Stopped
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.launcher import LAUNCHER
from engine.jobs.processes import die_with_parent
from engine.jobs.ranks import STOP_SIGNAL, RankFiles
from engine.jobs.worker import (
    FAILED,
    FINISHED,
    Requests,
    Stop,
    Train,
    WorkerJournal,
    error_fields,
    train_for_real,
)

__all__ = ["main"]

ANOTHER_RANKS_END = ("Connection closed by peer", "Connection reset by peer", "NCCL", "gloo")
"""In the message of an error that only says that another rank is gone."""


class NoJournal(Journal):
    """What a rank that is not the first writes its events to."""

    step: int | None = None
    device: str | None = None
    phase = ""

    def __init__(self) -> None:
        pass

    def append(self, type: str, **fields: Any) -> None:
        if type == "state" and "seconds" not in fields:  # for words about an error
            self.phase = str(fields.get("phase") or "")
            self.device = fields.get("device", self.device)

    def close(self) -> None:
        pass


def main(arguments: list[str] | None = None, train: Train = train_for_real) -> int:
    """Run one rank of one attempt; exit status 0 when its end could be told, whichever it is."""
    parser = argparse.ArgumentParser(prog="engine.jobs.rank", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--resume-from", type=Path)
    args = parser.parse_args(arguments)
    die_with_parent(int(os.environ[LAUNCHER]))
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    folder = RunFolder(args.run_dir)
    files = RankFiles(folder)
    if rank:
        _print_to(files.log(rank))
    stop = Stop()
    # The lead's word, to the first rank only. SIGTERM is none: whoever sends it to all processes
    # has sent it to the lead, and the launcher sends it when another rank is dead.
    signal.signal(STOP_SIGNAL, signal.SIG_IGN if rank else stop.on_term)
    for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    faulthandler.enable()
    journal: NoJournal | WorkerJournal
    journal = NoJournal() if rank else WorkerJournal(folder, args.attempt, stop)
    end: dict[str, Any]
    try:
        files.announce(rank)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
        context = RunContext(
            home=Home(folder.path.parent.parent),
            folder=folder,
            recipe=folder.read_recipe(),
            attempt=args.attempt,
            journal=journal,
            resume_from=args.resume_from,
            stop_requested=(lambda: False) if rank else stop,
            take_controls=list if rank else Requests(folder, journal).take,
            rank=rank,
            ranks=count,
        )
        end = {"state": "finished", "fields": train(context)}
    except Stopped:
        end = {"state": "stopped"}
    except BaseException as error:
        end = _failed(error, error_fields(folder, error, journal.phase, journal.device))
        if end["error"]["kind"] == "disk_full":
            folder.reserve.unlink(missing_ok=True)
    stop.at_once = False
    try:
        files.end(rank, end | {"t": time.time(), "step": getattr(journal, "step", None)})
        journal.close()
    except OSError as error:  # then the exit code says it
        with contextlib.suppress(OSError):
            print(f"rank {rank}: its end cannot be told: {error}", file=sys.stderr)
        return FAILED
    return FINISHED


def _failed(error: BaseException, fields: dict[str, Any]) -> dict[str, Any]:
    names = {base.__name__ for base in type(error).__mro__}
    lost = "DistError" in names or any(words in str(error) for words in ANOTHER_RANKS_END)
    lost = lost and fields["kind"] == "crash"
    with contextlib.suppress(OSError):  # the log's disk may be full too
        if lost:
            print(f"another process is gone: {fields['message']}", file=sys.stderr)
        elif not isinstance(error, UserError):
            traceback.print_exception(error)
    return {"state": "failed", "error": fields, "lost_another": lost}


def _print_to(path: Path) -> None:
    """Whatever this process prints, also from native code, goes to ``path``."""
    sys.stdout.flush()
    sys.stderr.flush()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as the worker: clearing up takes seconds
