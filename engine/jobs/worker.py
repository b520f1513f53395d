"""The process that trains one attempt of one run: ``python -m engine.jobs.worker RUN_DIR``.

It says what it does from its first moment, obeys SIGTERM, and writes its own end. What trains is a
parameter, so that everything around it is tested without torch.
"""

import argparse
import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import Diverged, UserError
from engine.home import Home
from engine.jobs import checkpoints, control, ends, out_of_memory
from engine.jobs.context import Control, RankFailed, RunContext, Stopped
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_all
from engine.jobs.lock import acquire, has_supervisor, keep_from_children
from engine.jobs.nudge import nudge
from engine.jobs.processes import start_ticks
from engine.jobs.suggestions import suggest

__all__ = ["main"]

FINISHED, FAILED, STOPPED = 0, 1, 3

Train = Callable[[RunContext], dict[str, Any]]


class Stop:
    """Whether the run shall stop, and whether that can wait for the end of a step."""

    def __init__(self) -> None:
        self.requested = False
        self.at_once = True
        self.announce: Callable[[], None] | None = None

    def on_term(self, *_: object) -> None:
        self.requested = True
        if self.at_once:
            raise Stopped

    def hold(self) -> None:
        """From now on a stop waits until somebody asks whether there is one."""
        self.at_once = False

    def __call__(self) -> bool:
        if self.requested and self.announce:
            announce, self.announce = self.announce, None
            announce()
        return self.requested


class WorkerJournal(Journal):
    """The run's journal; also knows the last step and phase, and when the first step begins."""

    def __init__(self, folder: RunFolder, attempt: int, stop: Stop) -> None:
        super().__init__(folder.journal, attempt)
        self.stop = stop
        self.step: int | None = None
        self.phase = ""
        self.device: str | None = None

    def append(self, type: str, **fields: Any) -> None:
        if type == "state" and fields.get("state") == "running":
            self.stop.at_once = False
            if self.stop.requested:
                raise Stopped
            self.step = fields.get("resume_step", self.step)
        if type == "state" and "seconds" not in fields:
            self.phase = str(fields.get("phase") or "")
            self.device = fields.get("device", self.device)
        super().append(type, **fields)
        if type == "metrics":
            self.step = fields.get("step")


class Requests:
    """The run's control files, each taken once and acknowledged in the journal."""

    def __init__(self, folder: RunFolder, journal: Journal) -> None:
        self.folder = folder
        self.journal = journal
        self._seen: set[int] = set()

    def take(self, *, ended: bool = False) -> list[Control]:
        """Requests not yet taken. ``ended``: what needs another step is noted as not done."""
        taken = []
        if ended and self.folder.ranks.is_dir():  # the first rank took what it lived to see
            self._seen |= {
                event["number"]
                for event in read_all(self.folder.journal)
                if event["type"] == "control" and event.get("attempt") == self.journal.attempt
            }
        for number in control.pending(self.folder, self._seen):
            self._seen.add(number)
            action, fields = control.read(self.folder, number)
            if action == "kill":  # the supervisor's, who also acknowledges it
                continue
            done = not ended or action in ("stop", "note")
            self.journal.append("control", number=number, action=action, taken=done)
            if action == "note":
                self.journal.append("note", text=str(fields.get("text", "")))
            taken.append(Control(number, action, fields))
        return taken


def train_for_real(context: RunContext) -> dict[str, Any]:
    """The training itself: the only import of torch & co. below this package.

    In several processes this one only leads: each of the others trains, by this function too.
    """
    if context.recipe.train.num_processes > context.ranks:
        return importlib.import_module("engine.jobs.lead").run(context)
    return importlib.import_module("engine.train.session").run(context)


def main(arguments: list[str] | None = None, train: Train = train_for_real) -> int:
    """Run one attempt; returns the exit status: 0 finished, 3 stopped, 1 failed."""
    parser = argparse.ArgumentParser(prog="engine.jobs.worker", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--lock-fd", type=int, help="the run's lock, already held")
    parser.add_argument("--lease-fds", default="", help="leases of devices, commas between")
    args = parser.parse_args(arguments)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.on_term)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    faulthandler.enable()
    os.umask(0o077)
    folder = RunFolder(args.run_dir.absolute())
    lock = args.lock_fd if args.lock_fd is not None else acquire(folder.lock)
    if lock is None:
        print("worker: another worker of this run lives", file=sys.stderr)
        return FAILED
    leases = [int(fd) for fd in args.lease_fds.split(",") if fd]
    for fd in (lock, *leases):
        keep_from_children(fd)
    journal = WorkerJournal(folder, args.attempt, stop)
    stop.announce = lambda: journal.append("state", state="stopping")
    requests = Requests(folder, journal)
    try:
        status = _attempt(folder, args.attempt, journal, stop, requests, train)
    except BaseException as error:
        stop.at_once = False
        try:
            status = _end_badly(folder, journal, error)
        except OSError:  # nothing can be written at all: the exit status remains
            status = ends.exit_status_of(ends.classify(error)[0])
    stop.at_once = False
    with contextlib.suppress(OSError):
        requests.take(ended=True)
        journal.close()
    if leases and not has_supervisor(folder):  # nobody else would tell the queue
        for fd in leases:
            os.close(fd)
        own = sys.modules["__main__"].__spec__  # a test's worker starts its like
        nudge(folder.path.parent.parent, own.name if own else __name__)
    return status


def _attempt(
    folder: RunFolder,
    attempt: int,
    journal: WorkerJournal,
    stop: Stop,
    requests: Requests,
    train: Train,
) -> int:
    journal.append(
        "state",
        state="starting",
        phase="starting",
        pid=os.getpid(),
        start_ticks=start_ticks(os.getpid()),
        host=os.uname().nodename,
    )
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    recipe = folder.read_recipe()
    if there := checkpoints.whole(folder):
        journal.append("state", state="starting", phase="checking the checkpoints")
    context = RunContext(
        home=Home(folder.path.parent.parent),
        folder=folder,
        recipe=recipe,
        attempt=attempt,
        journal=journal,
        # Of a first attempt too: a child run begins with its parent's.
        resume_from=checkpoints.latest_whole(folder) if there else None,
        stop_requested=stop,
        take_controls=requests.take,
        hold_stops=stop.hold,
    )
    fields = train(context)
    stop.at_once = False
    journal.append("state", state="finished", **{"checkpoint": _last(folder), **fields})
    return FINISHED


def _end_badly(folder: RunFolder, journal: WorkerJournal, error: BaseException) -> int:
    if isinstance(error, Stopped):
        end = {"step": journal.step, "checkpoint": _last(folder)}
        _append_end(folder, journal, "state", state="stopped", **end)
        return STOPPED
    if not isinstance(error, UserError | RankFailed):
        with contextlib.suppress(OSError):  # the log's disk may be full too
            traceback.print_exception(error)
    fields = error_fields(folder, error, journal.phase, journal.device)
    if fields["kind"] == "disk_full":
        folder.reserve.unlink(missing_ok=True)
    end = {"reason": fields["message"], "step": journal.step, "checkpoint": _last(folder)}
    _append_end(folder, journal, "error", **fields)
    told = _append_end(folder, journal, "state", state="failed", **end)
    return FAILED if told else ends.exit_status_of(fields["kind"])


def _last(folder: RunFolder) -> str | None:
    """The last whole checkpoint, as the journal names it."""
    with contextlib.suppress(OSError):
        if found := checkpoints.whole(folder):
            return str(found[-1].relative_to(folder.path))
    return None


def _append_end(folder: RunFolder, journal: Journal, type: str, **fields: Any) -> bool:
    """Append; on a full disk give up the reserve. What still fails is left to the supervisor."""
    try:
        journal.append(type, **fields)
        return True
    except OSError:
        with contextlib.suppress(OSError):
            folder.reserve.unlink(missing_ok=True)
            journal.append(type, **fields)
            return True
    return False


def error_fields(
    folder: RunFolder, error: BaseException, phase: str, device: str | None = None
) -> dict[str, Any]:
    """The fields of the ``error`` event for what ended the worker."""
    if isinstance(error, RankFailed):
        return error.fields
    kind, line, link = ends.classify(error, folder.path)
    fields: dict[str, Any] = {"kind": kind, "message": line}
    if isinstance(error, Diverged):
        fields.update(step=error.step, loss=error.loss)
        if error.suggestion:
            fields["suggestion"] = error.suggestion
    if kind == "out_of_memory":
        fields.update(out_of_memory.read(error, link, phase))
        fields["trains_on"] = device
        fields["message"] = out_of_memory.message(fields)
        with contextlib.suppress(UserError):
            recipe = folder.read_recipe()
            fields["tried"] = out_of_memory.attempted(recipe, fields["during"])
            if suggestion := suggest(recipe, fields, _peak_bytes(recipe)):
                fields["suggestion"] = suggestion.as_event()
    return fields


def _peak_bytes(recipe: Any) -> Callable[[Any], int] | None:
    try:
        from engine.preflight.sizes import peak_bytes

        return peak_bytes(recipe)
    except Exception:  # an estimate is not worth the end's own words
        return None


if __name__ == "__main__":
    status = main()
    with contextlib.suppress(OSError):  # the log's disk may be full
        sys.stdout.flush()
        sys.stderr.flush()
    # torch's clearing up takes 2.6 to 5 s on a busy machine; the run counts as alive meanwhile.
    os._exit(status)
