"""Runs one process of the bench and listens to it: until it ends, or time or patience does."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.bench.telling import OPTION
from engine.errors import UserError
from engine.jobs import child
from engine.jobs.ends import classify_log
from engine.jobs.folder import log_tail
from engine.jobs.processes import in_session

__all__ = ["POLL_SECONDS", "End", "Ended", "environment", "run_process"]

POLL_SECONDS = 0.1
LOG_LINES = 30
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_DISABLED": "true",
}
"""Nothing is told to anybody. Nothing here bears on a step's time."""

End = Literal["finished", "failed", "cut", "interrupted"]
"""How a contestant ended; cut: its time was over."""


@dataclass(frozen=True)
class Ended:
    end: End
    reason: str = ""
    """One line of outside text; empty where the end says it all."""


def environment() -> dict[str, str]:
    """What a process of the bench sees; without any setting that would make it faster or slower."""
    return child.environment(PYTHONUNBUFFERED="1", **QUIET)


def run_process(
    module: str,
    arguments: Sequence[str],
    on_message: Callable[[dict[str, Any]], None],
    *,
    folder: Path,
    log: Path,
    deadline: float,
    interrupted: Callable[[], bool],
) -> Ended:
    """Run ``python -m module`` in ``folder`` and hand over its messages until it has ended.

    It has a session of its own, which is killed whole at its end, at ``deadline`` (on the monotonic
    clock) and once ``interrupted()``. What it prints goes to ``log``. Raises :class:`UserError`
    when it cannot be started.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    read, write = os.pipe()
    with log.open("wb") as output, open(read, "rb") as pipe:
        command = [sys.executable, "-m", module, OPTION, str(write), str(os.getpid())]
        try:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(write,),
                env=environment(),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"{sys.executable}: cannot be started ({error.strerror})") from None
        finally:
            os.close(write)
        told: str | None = None
        end: End = "finished"
        try:
            for line in _lines(pipe.fileno()):
                if interrupted():
                    end = "interrupted"
                elif time.monotonic() >= deadline:
                    end = "cut"
                if end != "finished":
                    break
                if not line and process.poll() is not None:
                    break  # a child that it left behind may hold the pipe open
                if line:
                    message = json.loads(line)
                    told = message.get("error", told)
                    on_message(message)
        finally:
            if end != "finished":
                _kill(process.pid)
            process.wait()
            _kill(process.pid)  # what it left behind in its session
    if end == "finished" and (told is not None or process.returncode):
        return Ended("failed", told or _last_words(log, process.returncode))
    return Ended(end)


def _lines(fd: int) -> Iterator[bytes]:
    """Whole lines as they come, and ``b""`` at least ten times a second."""
    rest = b""
    while True:
        if not select.select([fd], [], [], POLL_SECONDS)[0]:
            yield b""
            continue
        piece = os.read(fd, 1 << 16)
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line)
        if not piece:
            return


def _kill(session: int) -> None:
    for pid in in_session(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _last_words(log: Path, status: int) -> str:
    """Why a process ended that could not say it."""
    lines = log_tail(log, LOG_LINES)
    if found := classify_log(lines):
        return found[1]
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name} from outside"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"ended with status {status}" + (f": {last}" if last else "")
