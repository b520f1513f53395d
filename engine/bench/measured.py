"""What is measured of one contestant, and what that comes to: rates, shares, a line of results."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.bench.contestants import Entrant
from engine.bench.process import Ended
from engine.bench.rows import RowSet

__all__ = ["LIMIT_FACTOR", "Measured", "result", "warm_up", "with_ratios"]

LIMIT_FACTOR = {"lora": 4, "full": 6}
"""FLOP a parameter and token: forward, the activations' gradients, and the weights' where trained.
"""
MOST_WARM_UP = 10


def warm_up(steps: int) -> int:
    """How many of so many steps are not counted."""
    return min(MOST_WARM_UP, 2 * steps // 5)


@dataclass
class Measured:
    """One contestant on one set of rows, as far as it came."""

    began: float
    """When its process was started, in Unix seconds."""
    seconds: dict[int, float] = field(default_factory=dict)
    """Step (from 1) -> its seconds."""
    losses: dict[int, float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    """Phase -> its seconds, in order."""
    first_step: float | None = None
    """When the first step was done, in Unix seconds."""
    peak_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def total(self, *beginnings: str) -> float | None:
        """Seconds of all phases whose names begin so; None when there are none."""
        found = [s for phase, s in self.phases.items() if phase.startswith(beginnings)]
        return sum(found) if found else None


def result(
    entrant: Entrant, rows: RowSet, measured: Measured, ended: Ended, steps: int, others: str
) -> dict[str, Any]:
    """One line of results, without ratios. ``others``: who else used the device meanwhile.

    Tokens a second count a step's rows: padded as ``max_length`` each, whatever the contestant
    does with padding.
    """
    train = entrant.recipe.train
    skipped = warm_up(steps)
    counted = [s for step, s in sorted(measured.seconds.items()) if step > skipped]
    median = statistics.median(counted) if counted else None
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps
    end, reason = ended.end, ended.reason
    if end == "cut":
        reason = f"its time was over after {len(measured.seconds)} of {steps} steps"
        if not counted:
            end = "failed"

    def rate(tokens: float) -> float | None:
        return batch * tokens / median if median else None

    beyond = None
    if median:
        early = [s for step, s in measured.seconds.items() if step <= skipped]
        beyond = max(0.0, sum(early) - len(early) * median)
    first = None if measured.first_step is None else measured.first_step - measured.began
    return {
        "contestant": entrant.contestant.id,
        "label": entrant.label,
        "kind": entrant.contestant.kind,
        "settings": list(entrant.contestant.settings),
        "rows": rows.name,
        "state": end,
        "reason": reason,
        "steps": len(measured.seconds),
        "counted_steps": len(counted),
        "step_seconds": median,
        "step_seconds_mean": statistics.mean(counted) if counted else None,
        "step_seconds_min": min(counted, default=None),
        "step_seconds_max": max(counted, default=None),
        "padded_tokens_per_second": rate(train.max_length),
        "tokens_per_second": rate(rows.tokens),
        "trained_tokens_per_second": rate(rows.trained),
        "to_best": None,
        "to_limit": None,
        "peak_memory_bytes": measured.peak_bytes,
        "first_step_after_seconds": first,
        "importing_seconds": measured.total("importing"),
        "loading_seconds": measured.total("loading"),
        "first_step_seconds": measured.seconds.get(1),
        "warm_up_extra_seconds": beyond,
        "phases": measured.phases,
        "first_loss": _finite(measured.losses[min(measured.losses)]) if measured.losses else None,
        "last_loss": _finite(measured.losses[max(measured.losses)]) if measured.losses else None,
        "facts": measured.facts,
        "others": others,
    }


def _finite(loss: float) -> float | str:
    """A loss as JSON can say it."""
    return loss if math.isfinite(loss) else str(loss)


def with_ratios(
    results: Iterable[dict[str, Any]], limit_tokens_per_second: float | None
) -> list[dict[str, Any]]:
    """The results with ``to_best`` (1 for the fastest on the same rows) and ``to_limit``."""
    results = list(results)
    best: dict[str, float] = {}
    for one in results:
        best[one["rows"]] = max(best.get(one["rows"], 0.0), one["tokens_per_second"] or 0.0)
    found = []
    for one in results:
        rate = one["tokens_per_second"]
        share = rate / limit_tokens_per_second if rate and limit_tokens_per_second else None
        found.append(
            one | {"to_best": rate / best[one["rows"]] if rate else None, "to_limit": share}
        )
    return found
