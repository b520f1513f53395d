"""A rival as a contestant: its process started, its messages gathered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.bench.job import Job
from engine.bench.measured import Measured
from engine.bench.process import Ended, run_process

__all__ = ["run_theirs"]


def run_theirs(
    job: Job,
    folder: Path,
    log: Path,
    on_status: Callable[[str], None],
    *,
    began: float,
    deadline: float,
    interrupted: Callable[[], bool],
) -> tuple[Measured, Ended]:
    """Let the rival do its job in ``folder``, where its libraries may leave what they compile.

    ``began``: now, in Unix seconds. Raises :class:`UserError` when it cannot be started.
    """
    measured = Measured(began)
    phase = ("starting", began)

    def take(message: dict[str, Any]) -> None:
        nonlocal phase
        if "phase" in message:
            measured.phases[phase[0]] = message["t"] - phase[1]
            phase = (str(message["phase"]), message["t"])
            on_status(phase[0])
        elif "seconds" in message:
            measured.seconds[message["step"]] = message["seconds"]
            if message["step"] == 1:
                measured.first_step = message["t"]
            on_status(f"step {message['step']}")
        elif "loss" in message:
            measured.losses[message["step"]] = message["loss"]
        elif "peak_bytes" in message:
            measured.peak_bytes = message["peak_bytes"]
        elif "facts" in message:
            measured.facts |= message["facts"]

    file = folder.with_suffix(".json")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    job.write(file)
    ended = run_process(
        "engine.bench.rival",
        [str(file)],
        take,
        folder=folder,
        log=log,
        deadline=deadline,
        interrupted=interrupted,
    )
    return measured, ended
