"""How a live run is doing: what a notice is made of. Cheap: it is asked twice a second of each."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.history.pace import RECENT_STEPS, Told, silence_limit
from engine.history.queries import memory
from engine.history.row import RunRow
from engine.history.store import Store

__all__ = ["Reading", "Vitals", "vitals"]

MEMORY_READINGS = 16
LOOKS, SAMPLES = 8, 64
USED_SHARE = 0.95
PEAK_SHARE = 0.97
HIGH_STEPS = 3
"""So many steps in a row have to be too high."""
FEWEST = 10
TIMES = 3.0
ABOVE = 0.5
"""Of a loss near zero three times as much is nothing yet."""
WATCHDOG = "the learning rate is multiplied by"
"""In the words of every warning of the loss watchdog."""


@dataclass(frozen=True)
class Reading:
    """Memory of a device, in bytes."""

    t: float
    used: float | None
    total: float
    peak: float | None
    """Of this run alone."""

    @property
    def is_near_limit(self) -> bool:
        return (self.used or 0.0) > USED_SHARE * self.total or self.peak_is_near

    @property
    def peak_is_near(self) -> bool:
        return (self.peak or 0.0) >= PEAK_SHARE * self.total


@dataclass(frozen=True)
class Vitals:
    """Of a run's latest attempt."""

    losses: tuple[tuple[float, int, float], ...] = ()
    """(time, step, loss) of the last steps, oldest first; not-a-number where it was none."""
    memory: Mapping[str, Reading] = field(default_factory=dict)
    """Device -> its latest reading."""
    warning: tuple[float, str] = (0.0, "")
    """When the loss watchdog last warned, and what of."""
    silence_limit: float = 60.0
    """Seconds without a line of the journal that this run never needs."""

    @property
    def divergence(self) -> tuple[float, str]:
        """When and in what words the loss went wrong in the last steps; words "" when it did not"""
        if self.warning[1]:
            return self.warning
        for t, step, loss in self.losses[-HIGH_STEPS:]:
            if not math.isfinite(loss):
                return t, f"the loss is no number at step {step}"
        before = [loss for _, _, loss in self.losses[:-HIGH_STEPS] if math.isfinite(loss)]
        if len(before) >= FEWEST:
            usual = statistics.median(before)
            high = max(TIMES * usual, usual + ABOVE)
            if all(loss > high for _, _, loss in self.losses[-HIGH_STEPS:]):
                t, step, loss = self.losses[-1]
                return t, f"the loss explodes: {loss:.4g} at step {step}, {usual:.4g} before"
        return 0.0, ""


def vitals(store: Store, row: RunRow) -> Vitals:
    """What ``runs.db`` holds of them."""
    steps = store.query(
        "SELECT t, step, loss, step_seconds FROM metrics WHERE run = ? AND attempt = ? "
        "ORDER BY step DESC LIMIT ?",
        (row.id, row.attempt, RECENT_STEPS),
    )[::-1]
    warned = store.query(
        "SELECT t, text FROM events WHERE run = ? AND attempt = ? AND type = 'warning' "
        "AND instr(text, ?) ORDER BY line DESC LIMIT 1",
        (row.id, row.attempt, WATCHDOG),
    )
    told = Told(
        [seconds for *_, seconds in steps if isinstance(seconds, int | float)],
        _latest(store, row, "evaluations", ("split", "which", "rows", "seconds"), LOOKS),
        _latest(store, row, "checkpoints", ("seconds",), LOOKS),
        _latest(store, row, "samples", (), SAMPLES),
    )
    return Vitals(
        tuple((_time(t), step, _loss(loss)) for t, step, loss, _ in steps if loss is not None),
        _readings(memory(store, row.id, MEMORY_READINGS)),
        (_time(warned[0][0]), str(warned[0][1])) if warned else (0.0, ""),
        silence_limit(row, told),
    )


def _latest(
    store: Store, row: RunRow, table: str, columns: tuple[str, ...], limit: int
) -> list[dict[str, Any]]:
    """What a run did beside its steps, of late, oldest first."""
    names = ("step", "attempt", "t", *columns)
    found = store.query(
        f"SELECT {', '.join(names)} FROM {table} WHERE run = ? ORDER BY step DESC LIMIT ?",
        (row.id, limit),
    )
    return [dict(zip(names, one, strict=True)) for one in reversed(found)]


def _time(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _loss(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _readings(events: Sequence[Mapping[str, Any]]) -> dict[str, Reading]:
    found = {}
    for event in events:
        total = event["total_bytes"]
        if isinstance(event["device"], str) and isinstance(total, int | float) and total > 0:
            used, peak = (
                value if isinstance(value := event[name], int | float) else None
                for name in ("used_bytes", "peak_bytes")
            )
            found[event["device"]] = Reading(_time(event["t"]), used, total, peak)
    return found
