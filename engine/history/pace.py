"""How long a run still takes, by how long its last steps and its evaluations took."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from engine.history.row import RunRow

__all__ = ["RECENT_STEPS", "seconds_left"]

RECENT_STEPS = 50


def seconds_left(
    row: RunRow, step_seconds: Iterable[float], evaluations: Iterable[Mapping[str, Any]]
) -> float | None:
    """Seconds until the last step, evaluations included; None: not known.

    ``step_seconds``: of the last :data:`RECENT_STEPS` steps; their median counts, so that one slow
    step changes nothing. ``evaluations``: dicts with which, step and seconds.
    """
    step, last = row.step, row.max_steps
    if not step or not last or step > last:
        return None
    recent = [float(value) for value in step_seconds if value == value]
    seconds = statistics.median(recent) if recent else row.step_seconds
    if not seconds:
        return None
    during = [one for one in evaluations if one.get("which") == "during" and one.get("step")]
    spent = sum(one.get("seconds") or 0.0 for one in during)
    each = spent / max(one["step"] for one in during) if during else 0.0
    return (last - step) * (seconds + each)
