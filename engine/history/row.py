"""One run as the history knows it, and how its journal's events add up to it.

No database here: a command that follows a run folds its journal the same way as ``runs.db`` does.
"""

import json
import math
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "ENDS",
    "RunRow",
    "fitted",
    "fold",
    "is_ended",
    "mark_lost",
    "scalar",
    "seconds",
    "time_of",
]

ENDS = frozenset({"finished", "stopped", "failed", "killed", "lost"})

KILLED = "killed on request"

Event = dict[str, Any]


@dataclass
class RunRow:
    """A row of the table ``runs``; field names are its columns. Times are Unix seconds."""

    id: str
    name: str = ""
    parent: str | None = None
    recipe: str | None = None
    created: float | None = None
    state: str = "queued"
    phase: str = ""
    started: float | None = None
    """When the worker of the latest attempt began."""
    ended: float | None = None
    attempt: int = 1
    step: int | None = None
    max_steps: int | None = None
    resume_step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    step_seconds: float | None = None
    train_loss: float | None = None
    eval_loss: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    test_loss_before: float | None = None
    test_loss: float | None = None
    memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    total_parameters: int | None = None
    trainable_parameters: int | None = None
    train_rows: int | None = None
    validation_rows: int | None = None
    test_rows: int | None = None
    model: str | None = None
    dataset: str | None = None
    fingerprint: str | None = None
    backend: str | None = None
    device: str | None = None
    gpu: str | None = None
    dtype: str | None = None
    optim: str | None = None
    git_commit: str | None = None
    versions: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    signal_name: str | None = None
    checkpoint: str | None = None
    best_checkpoint: str | None = None
    adapter: str | None = None
    reason: str | None = None
    error_kind: str | None = None
    last_event: float | None = None
    earlier_seconds: float | None = None
    """What the attempts before the latest one took together."""
    sweep: str | None = None
    """The group of runs that this one was made with, by ``--sweep``."""
    sweep_values: str | None = None
    """JSON object: the keys that differ within the group, with this run's values."""
    num_processes: int | None = None
    error: str | None = None
    """JSON: the last ``error`` event of the latest attempt, with its suggestion if it has one."""
    estimated_peak_bytes: int | None = None
    """What the arithmetic before the first step said ``peak_memory_bytes`` would be."""
    repeats: str | None = None
    """The run whose recipe this one repeats, with changes or without; ``parent`` is a run that it
    goes on from."""
    imported: str | None = None
    """JSON: where a run comes from that another program made."""


_KINDS = {
    column.name: next(kind for kind in (str, float, int) if column.type in (kind, kind | None))
    for column in fields(RunRow)
}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


_TIMES = ("created", "started", "ended", "last_event")
_YEAR_9999 = 253_370_764_800


def time_of(value: Any) -> float | None:
    """Unix seconds that a calendar has; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _YEAR_9999 else None


def fitted(column: str, value: Any) -> Any:
    """``value`` as the column can have it; None for what is no number where one belongs.

    ``run.json``, ``recipe.toml`` and journals may have been written by hand.
    """
    kind = _KINDS[column]
    if column in _TIMES:
        return time_of(value)
    if value is None or type(value) is kind:
        return value
    if kind is str:
        return value if isinstance(value, str) else json.dumps(value, default=str)
    if isinstance(value, str) and kind is float and value in _NOT_FINITE:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind is int:
        return int(value) if math.isfinite(value) else None
    return value if isinstance(value, float) or abs(value) < 1e300 else None


def is_ended(row: RunRow) -> bool:
    return row.state in ENDS


def seconds(row: RunRow, now: float | None = None) -> float | None:
    """What all attempts took, without the pauses between them; up to ``now`` when one runs.

    None when no worker has begun, or (without ``now``) the first one has not ended, and of an
    imported run whose source told no times: it begins and ends in the same moment.
    """
    found = _spent(row, now)
    return None if row.imported is not None and not found else found


def _spent(row: RunRow, now: float | None) -> float | None:
    end = now if row.ended is None else row.ended
    if row.started is None or end is None:
        return row.earlier_seconds
    return (row.earlier_seconds or 0.0) + max(0.0, end - row.started)


RUNNING = (
    "max_steps",
    "resume_step",
    "best_eval_loss",
    "best_step",
    "total_parameters",
    "trainable_parameters",
    "train_rows",
    "validation_rows",
    "test_rows",
    "backend",
    "device",
    "dtype",
    "optim",
    "gpu",
    "dataset",
    "fingerprint",
    "git_commit",
    "num_processes",
    "estimated_peak_bytes",
)
METRICS = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "step_seconds",
    "memory_bytes",
)


def fold(row: RunRow, event: Event) -> None:
    """Bring ``row`` up to date with one more event of the run's journal."""
    attempt = event.get("attempt") or 1
    if not isinstance(attempt, int) or attempt < row.attempt:
        return
    if attempt > row.attempt:
        row.earlier_seconds, row.started = _spent(row, row.last_event), None
        row.attempt = attempt
        row.state, row.phase, row.ended = "queued", "", None
        row.exit_code = row.signal = row.signal_name = row.reason = row.error_kind = None
        row.error = None
    if (time := time_of(event.get("t"))) is not None:
        row.last_event = time
    handler = _HANDLERS.get(event["type"])
    if handler:
        handler(row, event)


VANISHED = (
    "the worker vanished without a word: killed together with its supervisor, the machine "
    "restarted, or nothing could be written any more"
)


def mark_lost(row: RunRow, reason: str = VANISHED) -> None:
    """Nobody holds the run's lock, and its journal has no end."""
    row.state = "lost"
    row.ended = row.last_event or row.created
    row.reason = reason


def _copy(row: RunRow, event: Event, keys: tuple[str, ...]) -> None:
    for key in keys:
        if key in event:
            setattr(row, key, _plain(event[key]))


def _plain(value: Any) -> Any:
    """The journal's "NaN" and "Infinity" as floats, containers as JSON."""
    if isinstance(value, str) and value in _NOT_FINITE:
        return float(value)
    return json.dumps(value) if isinstance(value, dict | list) else value


def scalar(value: Any) -> Any:
    """What a column of SQLite can hold: non-finite numbers and containers as text."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else scalar(_float(value))
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:  # more than 300 digits
        return math.inf if value > 0 else -math.inf


def _state(row: RunRow, event: Event) -> None:
    state = str(event.get("state"))
    if row.state in ENDS - {"lost"} and state not in ENDS:
        return  # a late "stopping" of the supervisor
    row.state = state
    if state == "starting":
        row.phase = str(event.get("phase") or "")
        row.started = row.started or row.last_event
    elif state == "running":
        row.phase = str(event.get("phase") or "") if "seconds" not in event else ""
        if "max_steps" in event:  # the first step is about to run; later ones tell a phase
            _copy(row, event, RUNNING)
            row.step = row.resume_step or 0
        if "versions" in event:
            row.versions = json.dumps(event["versions"])
    elif state in ENDS:
        row.phase, row.ended = "", row.last_event
        _copy(row, event, ("checkpoint", "best_checkpoint", "adapter", "train_loss", "reason"))
        steps = event.get("steps", event.get("step"))
        row.step = steps if isinstance(steps, int) else row.step
        if event.get("eval_loss") is not None:  # the trainer's own word, across attempts
            row.best_eval_loss = _plain(event["eval_loss"])


def _metrics(row: RunRow, event: Event) -> None:
    if row.state == "lost":
        row.state, row.ended, row.reason = "running", None, None
    _copy(row, event, METRICS)
    _peak(row, event.get("peak_memory_bytes"))


def _peak(row: RunRow, peak: Any) -> None:
    if isinstance(peak, int | float):
        row.peak_memory_bytes = int(max(peak, row.peak_memory_bytes or 0))


def _evaluation(row: RunRow, event: Event) -> None:
    loss, split, which = _plain(event.get("loss")), event.get("split"), event.get("which")
    if split == "validation":
        row.eval_loss = loss
        best = row.best_eval_loss
        better = best is None or best != best or (loss is not None and loss < best)
        if which == "during" and better:  # one that was asked for decides nothing
            row.best_eval_loss, row.best_step = loss, event.get("step")
    elif split == "test" and which == "before":
        row.test_loss_before = loss
    elif split == "test":
        row.test_loss = loss


def _checkpoint(row: RunRow, event: Event) -> None:
    row.checkpoint = event.get("path")
    if event.get("best"):
        row.best_checkpoint = event.get("path")


def _memory(row: RunRow, event: Event) -> None:
    row.memory_bytes = event.get("used_bytes", row.memory_bytes)
    _peak(row, event.get("peak_bytes"))


def _error(row: RunRow, event: Event) -> None:
    row.reason, row.error_kind = str(event.get("message")), str(event.get("kind"))
    row.error = json.dumps(event, ensure_ascii=False)


def _control(row: RunRow, event: Event) -> None:
    if event.get("action") == "kill":
        row.reason = KILLED


def _exit(row: RunRow, event: Event) -> None:
    _copy(row, event, ("exit_code", "signal", "signal_name", "checkpoint"))
    if row.state in ENDS - {"lost"}:
        return
    row.phase, row.ended = "", row.last_event
    told = row.reason == KILLED or event.get("oom_kill") is True
    if row.signal is not None or (row.exit_code is None and told):
        row.state = "killed"
        row.reason = row.reason or _killed_words(row, event)
    elif row.exit_code is None:
        row.state = "lost"
        row.reason = row.reason or "the worker ended without a word, watched by nobody"
    else:
        row.state = "failed"
        row.reason = row.reason or f"ended with exit status {row.exit_code} without saying why"


def _killed_words(row: RunRow, event: Event) -> str:
    """By whom, as far as the kernel's counters told the supervisor; and what there is to resume."""
    if event.get("oom_kill"):
        words = "killed by the kernel for want of host memory"
    else:
        words = f"killed by {row.signal_name or row.signal} from outside"
        if row.signal_name == "SIGKILL" and event.get("oom_kill") is None:
            words += " (perhaps for want of host memory)"
    if "checkpoint" not in event:
        return words
    last = str(event["checkpoint"] or "").rsplit("/", 1)[-1]
    return f"{words}, {f'last whole checkpoint {last}' if last else 'no checkpoint yet'}"


_HANDLERS = {
    "state": _state,
    "metrics": _metrics,
    "evaluation": _evaluation,
    "checkpoint": _checkpoint,
    "memory": _memory,
    "error": _error,
    "control": _control,
    "exit": _exit,
}
