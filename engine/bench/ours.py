"""tunebench as a contestant: a run by the real launcher, supervisor and worker."""

import contextlib
import shutil
import time
from collections.abc import Callable
from typing import Any

from engine.bench.measured import Measured
from engine.bench.process import POLL_SECONDS, End, Ended
from engine.errors import UserError
from engine.home import Home
from engine.jobs import control, launch
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_lines
from engine.recipe import Recipe

__all__ = ["run_ours"]

END_SECONDS = 20.0
FACTS = ("backend", "device", "dtype", "optim", "notes", "trainable_parameters", "versions")


def run_ours(
    scratch: Home,
    name: str,
    recipe: Recipe,
    steps: int,
    on_status: Callable[[str], None],
    *,
    deadline: float,
    interrupted: Callable[[], bool],
) -> tuple[Measured, Ended]:
    """Train ``steps`` steps of the recipe in the home ``scratch``; then the run is killed.

    A step's time is that from the journal's line before it to its own: all that the engine does
    counts. Raises :class:`UserError` when the run cannot be started.
    """
    measured = Measured(began=time.time())
    folder = launch.begin(scratch, recipe, name, anyway=True)
    reader = _Reader(folder, measured, on_status)
    end: End = "finished"
    try:
        while True:
            dead = launch.wait_until_dead(folder, POLL_SECONDS)
            reader.read()
            if dead or len(measured.seconds) >= steps:
                break
            if interrupted():
                end = "interrupted"
            elif time.monotonic() >= deadline:
                end = "cut"
            if end != "finished":
                break
    finally:
        _end(folder)
    reader.read()
    for weights in (folder.checkpoints, folder.adapter):
        shutil.rmtree(weights, ignore_errors=True)
    if end == "finished" and len(measured.seconds) < steps:
        return measured, Ended("failed", reader.why())
    return measured, Ended(end)


def _end(folder: RunFolder) -> None:
    """Kill the run, whatever it does; its supervisor leaves no process behind."""
    if not launch.wait_until_dead(folder, 0):
        with contextlib.suppress(UserError):
            control.request(folder, "kill")
        launch.wait_until_dead(folder, END_SECONDS)
    deadline = time.monotonic() + END_SECONDS
    while launch.reap() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


class _Reader:
    """Follows the run's journal into what is measured."""

    def __init__(
        self, folder: RunFolder, measured: Measured, on_status: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.measured = measured
        self.on_status = on_status
        self._offset = 0
        self._last: float | None = None
        self._error = self._state = ""

    def read(self) -> None:
        lines = read_lines(self.folder.journal, self._offset)
        self._offset = lines.offset
        for event in lines.events:
            self._take(event)

    def why(self) -> str:
        """Why it ended before its steps were made."""
        if self._error or self._state:
            return self._error or self._state
        last = next((line for line in reversed(self.folder.log_tail()) if line.strip()), "")
        return last or "it ended without a word"

    def _take(self, event: dict[str, Any]) -> None:
        kind, measured = event["type"], self.measured
        if kind == "metrics":
            step, t = int(event["step"]), float(event["t"])
            if self._last is not None:
                measured.seconds[step] = t - self._last
            self._last = t
            if measured.first_step is None:
                measured.first_step = t
            if isinstance(event.get("loss"), int | float):
                measured.losses[step] = float(event["loss"])
            if isinstance(peak := event.get("peak_memory_bytes"), int):
                measured.peak_bytes = max(peak, measured.peak_bytes or 0)
            self.on_status(f"step {step}")
        elif kind == "state":
            phase = str(event.get("phase") or "")
            if "seconds" in event and phase:
                measured.phases[phase] = float(event["seconds"])
            elif event["state"] == "running":
                self._last = float(event["t"])
                measured.facts |= {key: event[key] for key in FACTS if event.get(key) is not None}
            elif event["state"] in ("failed", "killed", "stopped", "lost"):
                self._state = f"{event['state']}: {event.get('reason') or 'no reason told'}"
            if phase:
                self.on_status(phase)
        elif kind == "error":
            self._error = str(event.get("message") or "")
