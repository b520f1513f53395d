"""The worker of a run in several processes: starts the ranks, passes on a stop, tells the end.

It never imports torch. The ranks and their launcher end with it, however it ends; when a rank
fails, it ends the others and says what failed first, not what the others made of it.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.jobs import child, processes
from engine.jobs.context import RankFailed, RunContext, Stopped
from engine.jobs.folder import log_tail
from engine.jobs.host_memory import read_oom_kills
from engine.jobs.last_words import last_words
from engine.jobs.ranks import STOP_SIGNAL, RankFiles, check_processes, read_json, trains_on_gpus

__all__ = ["run"]

RANK = "engine.jobs.rank"
LAUNCHER = "engine.jobs.launcher"
TICK_SECONDS = 0.1
GRACE_SECONDS = 1.5
"""After the first failure: for the other ranks' own words, and the launcher's exit codes."""
LEAVING_SECONDS = 20.0
"""After the first rank is done, for the others to leave: they have nothing left to do."""
TAIL_LINES = 15


def run(context: RunContext) -> dict[str, Any]:
    """Train in ``train.num_processes`` processes; returns the fields of the ``finished`` state.

    Raises :class:`Stopped`, UserError before they start, or :class:`RankFailed`: the first cause.
    """
    from engine.train.session import prepare_data

    check_processes(context.recipe)
    prepare_data(context)  # once, and before anything heavy is started
    count = context.recipe.train.num_processes
    context.phase(f"starting {count} processes")
    context.hold_stops()
    return _Lead(context, count).run()


class _Lead:
    def __init__(self, context: RunContext, count: int) -> None:
        self.context = context
        self.count = count
        self.files = RankFiles(context.folder)
        self.pidfds: dict[int, int] = {}
        self.pids: dict[int, int] = {}
        self.died: list[int] = []
        """Ranks that were gone without a word, in the order in which it was seen."""
        self.ends: dict[int, dict[str, Any]] = {}
        self.stop_passed_on = False

    def run(self) -> dict[str, Any]:
        processes.become_subreaper()  # what a rank leaves behind is this process's to end
        self.files.begin()
        self.kills_before = read_oom_kills()
        self.launcher = self._start()
        try:
            self._wait()
        finally:
            self._end_all()
        return self._verdict()

    def _start(self) -> "subprocess.Popen[bytes]":
        folder, recipe = self.context.folder, self.context.recipe
        command = [sys.executable, "-P", "-m", LAUNCHER, "--processes", str(self.count)]
        command += ["--rank", RANK, str(os.getpid()), str(folder.path)]
        command += ["--attempt", str(self.context.attempt)]
        if self.context.resume_from:
            command += ["--resume-from", str(self.context.resume_from)]
        cores = len(os.sched_getaffinity(0))
        settings = {
            "PYTHONSAFEPATH": "1",  # "-P" for the ranks, whom the launcher starts without it
            "OMP_NUM_THREADS": str(max(1, cores // self.count)),
            # Gloo and NCCL listen on an interface for each other: on one machine the loopback.
            "GLOO_SOCKET_IFNAME": "lo",
            "NCCL_SOCKET_IFNAME": "lo",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # or torchrun listens on every interface
        }
        settings = {name: os.environ.get(name, value) for name, value in settings.items()}
        if not trains_on_gpus(recipe):
            settings["ACCELERATE_USE_CPU"] = "true"
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=child.environment(**settings)
        )

    # ---- while they train -------------------------------------------------------------------

    def _wait(self) -> None:
        """Until the first rank is done, or anything has failed and had time to say so."""
        deadline = None
        while deadline is None or time.monotonic() < deadline:
            launched = self.launcher.poll() is None
            self._look()
            self._pass_on_stop()
            left = self.count - len(self.ends) - len(self.died)
            if not left or (not launched and deadline is None and not self.pids):
                return
            failed = self.died or any(end["state"] == "failed" for end in self.ends.values())
            if deadline is None:
                if failed or not launched:
                    deadline = time.monotonic() + GRACE_SECONDS
                elif 0 in self.ends:
                    # Stopped before its first step, it does not wait for the others.
                    early = self.ends[0]["state"] == "stopped" and not self.ends[0].get("step")
                    deadline = time.monotonic() + (0 if early else LEAVING_SECONDS)
            poll = select.poll()
            for rank, pidfd in self.pidfds.items():
                if rank not in self.ends and rank not in self.died:
                    poll.register(pidfd, select.POLLIN)
            poll.poll(TICK_SECONDS * 1000)

    def _look(self) -> None:
        for rank in range(self.count):
            if rank in self.ends or rank in self.died:
                continue
            if rank not in self.pidfds:
                self._meet(rank)
            gone = rank in self.pids and (rank not in self.pidfds or _readable(self.pidfds[rank]))
            # In this order: a rank tells its end before it is gone.
            if end := self.files.ended(rank):
                self.ends[rank] = end
            elif gone:
                self.died.append(rank)

    def _meet(self, rank: int) -> None:
        if rank in self.pids or not (process := self.files.process(rank)):
            return
        pid, ticks = process
        self.pids[rank] = pid
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            if processes.start_ticks(pid) == ticks:
                self.pidfds[rank] = pidfd
            else:
                os.close(pidfd)

    def _pass_on_stop(self) -> None:
        """The first rank tells the others at the end of a step, so that all leave at the same."""
        if self.stop_passed_on or not self.context.stop_requested():
            return
        self.stop_passed_on = True
        if 0 not in self.pids:
            raise Stopped  # nothing has begun
        if 0 in self.pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfds[0], STOP_SIGNAL)

    # ---- the end ----------------------------------------------------------------------------

    def _end_all(self) -> None:
        """No rank and no launcher outlives this."""
        self.launched = self.launcher.poll()
        for rank in range(self.count):
            self._meet(rank)
        for pidfd in self.pidfds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if self.died:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # It notes the exit codes, or was killed itself: its threads end one by one, the one
                # that takes the ranks with it among the first.
                self.launched = self.launcher.wait(GRACE_SECONDS)
        self.launcher.kill()
        self.launcher.wait()
        processes.end_all(lambda: processes.descendants(os.getpid()), 0)
        for pidfd in self.pidfds.values():
            while not _readable(pidfd, 100):
                pass
            os.close(pidfd)

    def _verdict(self) -> dict[str, Any]:
        journal, first = self.context.journal, self.ends.get(0)
        if first and first.get("step") is not None:
            journal.step = first["step"]  # type: ignore[attr-defined]
        if first and first["state"] == "finished":
            return dict(first["fields"])
        failed = [(rank, e) for rank, e in self.ends.items() if e["state"] == "failed"]
        own = sorted((e["t"], rank) for rank, e in failed if not e["lost_another"])
        if own:
            raise self._failed(own[0][1])
        if self.launched is not None and self.launched < 0 and not failed:
            name = signal.Signals(-self.launched).name
            words = f"the launcher of the processes was killed by {name}"
            raise RankFailed({"kind": "crash", "message": words})
        if self.died:
            raise self._died(self.died[0])
        if failed:
            raise self._failed(failed[0][0])
        if first:
            raise Stopped
        words = "the processes could not be started; the log says why"
        raise RankFailed({"kind": "crash", "message": words})

    def _failed(self, rank: int) -> RankFailed:
        self._show_log(rank)
        fields = dict(self.ends[rank]["error"])
        if fields["kind"] not in ("user", "nan"):  # those are every rank's
            fields |= {"message": f"{self._name(rank)}: {fields['message']}", "rank": rank}
        return RankFailed(fields)

    def _died(self, rank: int) -> RankFailed:
        """As a supervisor finds out about its worker, for a rank that said nothing."""
        self._show_log(rank)
        code = (read_json(self.files.failures) or {}).get(str(rank))
        ended = {"exit_code": code, "signal": None}
        if code is not None and code < 0:
            ended = {"exit_code": None, "signal": -code}
        context = self.context
        kills = read_oom_kills().since(self.kills_before)
        fields, _ = last_words(context.folder, context.attempt, ended, kills)
        if fields is None:
            words = "ended without a word"
            if ended["signal"]:
                words = f"was killed by {signal.Signals(ended['signal']).name}"
            elif ended["exit_code"]:
                words = f"ended with exit code {code}"
            fields = {"kind": "crash", "message": f"{self._name(rank)} {words}"}
        else:
            fields["message"] = f"{self._name(rank)}: {fields['message']}"
        return RankFailed(fields | ended | {"rank": rank})

    def _name(self, rank: int) -> str:
        return f"process {rank + 1} of {self.count} (rank {rank})"

    def _show_log(self, rank: int) -> None:
        """The last lines of a rank that has a log of its own, in the run's."""
        if not rank:
            return
        for line in log_tail(Path(self.files.log(rank)), TAIL_LINES):
            print(f"rank {rank}: {line}", file=sys.stderr)


def _readable(pidfd: int, milliseconds: int = 0) -> bool:
    """Whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(milliseconds))
