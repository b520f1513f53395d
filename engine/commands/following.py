"""A run on a terminal: its phases, its progress line, its evaluations, and how it ended."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from engine.commands.endings import ending_lines, standing_checkpoints
from engine.commands.output import Output
from engine.errors import UserError
from engine.history.follow import Follower
from engine.history.row import RunRow, is_ended, scalar, seconds
from engine.home import Home
from engine.jobs import control
from engine.jobs.dispatch import dispatch
from engine.jobs.folder import RunFolder
from engine.jobs.launch import adopt
from engine.jobs.lock import has_supervisor, is_alive
from engine.text import clip
from engine.words import duration, percent

__all__ = ["document", "exit_status", "follow", "interrupts_noted", "request", "summary", "why"]

PROGRESS_SECONDS = 0.5
LOG_LINES = 15
TOLD_WHOLE = ("user", "nan", "out_of_memory", "disk_full", "read_only")
"""Kinds of errors whose line says it all: a stack trace would only hide it."""
DISPATCH_SECONDS = 5.0


def exit_status(row: RunRow) -> int:
    """0 for a finished run, 3 for one that was stopped, else 1."""
    return {"finished": 0, "stopped": 3}.get(row.state, 1)


def request(folder: RunFolder, action: str) -> int:
    """Ask a living run for ``action``, giving it a supervisor first when it has lost its own.

    Returns the request's number, which the journal acknowledges it by.
    """
    if not is_alive(folder):
        raise UserError(f"run {folder.id} is not running; 'tunebench runs show {folder.id}'")
    if not has_supervisor(folder):
        adopt(folder)
    return control.request(folder, action)


@contextmanager
def interrupts_noted(wanted: bool) -> Iterator[list[int]]:
    """Ctrl+C is noted in a list, for the loop to act on: a handler may cut into a print or a lock.

    Main thread only.
    """
    noted: list[int] = []
    if not wanted:
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _end(folder: RunFolder, out: Output, kill: bool) -> None:
    if kill:
        out.note("killing it: nothing is saved")
    else:
        out.note(
            "stopping: after this step, with a checkpoint, once steps are made; "
            "Ctrl+C again kills it"
        )
    with suppress(UserError):  # it ended just now
        request(folder, "kill" if kill else "stop")


def follow(
    folder: RunFolder, out: Output, new_only: bool = False, *, stop_on_interrupt: bool = False
) -> RunRow:
    """Tell of a run until its processes are gone; returns the run as it ended.

    ``new_only`` leaves out what its journal says already. With ``stop_on_interrupt`` Ctrl+C asks
    the run to stop, and the second time kills it; the terminal's end does neither.
    """
    with interrupts_noted(stop_on_interrupt) as interrupts:
        return _follow(folder, out, new_only, interrupts)


def _follow(folder: RunFolder, out: Output, new_only: bool, interrupts: list[int]) -> RunRow:
    follower = Follower(folder)
    if new_only:
        follower.read()
    shown, looked, acted, asked = "", 0.0, 0, time.monotonic()
    for event in follower.events():
        while acted < len(interrupts):
            _end(folder, out, kill=acted > 0)
            acted, shown = acted + 1, ""
        if event is None:
            if follower.row.state == "queued" and time.monotonic() - asked >= DISPATCH_SECONDS:
                asked = time.monotonic()
                with suppress(UserError):  # the queue's own verbs tell of that
                    dispatch(Home(folder.path.parent.parent))
            if time.monotonic() - looked >= PROGRESS_SECONDS and not is_ended(follower.row):
                looked = time.monotonic()
                # A line as wide as the terminal would wrap, and could not be taken back.
                text = progress(follower.row, follower.seconds_left())
                text = clip(text, shutil.get_terminal_size().columns - 1)
                if text != shown:
                    out.progress(text)
                    shown = text
        elif text := line(event):
            out.progress_done()
            out.line(text)
            shown = ""
    out.progress_done()
    return follower.row


def line(event: dict[str, Any]) -> str:
    """An event in one line; "" for those that the progress line shows."""
    kind, step = event["type"], event.get("step")
    if kind == "state":
        state, phase = event.get("state"), event.get("phase")
        if phase:
            seconds = event.get("seconds")
            return f"  {phase} {duration(seconds)}" if isinstance(seconds, int | float) else ""
        if state == "running":
            resumed = event.get("resume_step")
            whence = f" from step {resumed}" if resumed else ""
            return (
                f"running{whence}: {_count(event.get('trainable_parameters'))} of "
                f"{_count(event.get('total_parameters'))} parameters, "
                f"{_count(event.get('train_rows'))} rows, {_count(event.get('max_steps'))} steps, "
                f"{event.get('backend')} on {event.get('gpu') or event.get('device')}"
            )
        return f"{state}" if state in ("queued", "stopping") else ""
    if kind == "evaluation":
        which = event.get("which")
        which = f" {which} training" if which in ("before", "after") else ""
        return f"step {step}: {event.get('split')} loss{which} {_loss(event.get('loss'))}"
    if kind == "checkpoint":
        return f"step {step}: checkpoint{', the best so far' if event.get('best') else ''}"
    if kind in ("warning", "error"):
        return f"{kind}: {event.get('message')}"
    return f"note: {event.get('text')}" if kind == "note" else ""


def progress(row: RunRow, left: float | None = None) -> str:
    """Step, share, losses, speed and the seconds ``left``, in one line."""
    if row.phase or row.state != "running":
        return row.phase or row.state
    step, steps = row.step or 0, row.max_steps or 0
    parts = [f"{step}/{steps} {percent(step, steps)}" if steps else f"step {step}"]
    if row.loss is not None:
        parts.append(f"loss {row.loss:.4f}")
    if row.eval_loss is not None:
        parts.append(f"validation {row.eval_loss:.4f}")
    if row.learning_rate is not None:
        parts.append(f"lr {row.learning_rate:.2e}")
    if row.tokens_per_second:
        parts.append(f"{row.tokens_per_second:,.0f} tok/s")
    if left:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)


def why(row: RunRow) -> str:
    """Why the run ended, or how far it had come."""
    return row.reason or (f"at step {row.step}" if row.step else "before the first step")


def summary(row: RunRow, folder: RunFolder, out: Output) -> None:
    """How the run ended and what there is of it."""
    standing_checkpoints(row, folder)
    spent = seconds(row)
    took = f" after {duration(spent)}" if spent is not None else ""
    out.line(f"{row.name} ({row.id}) {row.state}{took}: {why(row)}")
    for label, value in (
        ("train loss", row.train_loss),
        ("best validation loss", row.best_eval_loss),
        ("test loss before", row.test_loss_before),
        ("test loss after", row.test_loss),
    ):
        if value is not None:
            out.line(f"  {label:<21} {value:.4f}")
    if row.state != "finished" and out.as_json:
        out.note(f"tunebench: run {row.name} ({row.id}) {row.state}: {why(row)}")
    if row.state == "finished":
        if row.adapter:
            out.line(f"  {'result':<21} {folder.path / row.adapter}")
        return
    for label, words in ending_lines(row, folder):
        out.line(f"  {label:<21} {words}")
    out.line(f"  {'last whole checkpoint':<21} {row.checkpoint or 'none yet'}")
    if row.error_kind not in TOLD_WHOLE and row.state != "stopped":
        for text in folder.log_tail(LOG_LINES):
            out.line(f"  | {text}")
    out.line(f"  go on with it: tunebench resume {row.name}")


def document(row: RunRow, folder: RunFolder) -> dict[str, Any]:
    """What ``train --json`` ends with."""
    standing_checkpoints(row, folder)
    document = {
        "run": row.id,
        "name": row.name,
        "folder": str(folder.path),
        "state": row.state,
        "attempt": row.attempt,
        "steps": row.step,
        "max_steps": row.max_steps,
        "train_loss": row.train_loss,
        "eval_loss": row.best_eval_loss,
        "test_loss_before": row.test_loss_before,
        "test_loss": row.test_loss,
        "best_checkpoint": row.best_checkpoint,
        "checkpoint": row.checkpoint,
        "adapter": row.adapter,
        "tokens_per_second": row.tokens_per_second,
        "peak_memory_bytes": row.peak_memory_bytes,
        "exit_code": row.exit_code,
        "signal": row.signal,
        "reason": row.reason,
        "error": json.loads(row.error) if row.error else None,
    }
    return {  # JSON has no NaN
        key: value if isinstance(value, dict) else scalar(value) for key, value in document.items()
    }


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "?"


def _loss(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else str(value)
