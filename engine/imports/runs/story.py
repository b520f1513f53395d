"""Logged steps, one after the other, as events of a journal."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from engine.imports.runs.past import Event
from engine.imports.runs.values import shorter

__all__ = ["Logged", "Summary", "is_summary", "story"]

Clock = Callable[[int], float]


class Logged(NamedTuple):
    """One entry of a trainer's log, under the names that Transformers logs by."""

    step: int
    values: dict[str, float | int]
    t: float | None = None
    """Unix seconds; None: a clock says."""


class Summary(NamedTuple):
    """What a trainer logs last."""

    train_loss: float | None
    seconds: float | None


def is_summary(values: Mapping[str, Any]) -> bool:
    """Whether an entry sums up a training that came to its end, rather than logging a step."""
    summed = "train_runtime" in values or {"train_loss", "total_flos"} <= values.keys()
    return summed and "loss" not in values


def story(entries: Iterable[Logged], clock: Clock, max_steps: int | None) -> Iterator[Event]:
    """``metrics`` and ``evaluation`` events: one of each kind a step at most.

    What several entries say of one step comes together in one line. A step lower than the one
    before means that training went on from an earlier checkpoint: that begins another attempt, and
    from that step on only the later one's lines count.
    """
    attempt, last = 1, -1
    metrics: dict[str, Any] = {}
    evaluations: dict[str, Any] = {}
    t = 0.0

    def told() -> Iterator[Event]:
        if metrics:
            yield {"t": t, "type": "metrics", "attempt": attempt, "step": last, **metrics}
        if evaluations:
            own = {"split": "validation", "which": "during"}
            stamp = {"t": t, "type": "evaluation", "attempt": attempt, "step": last}
            yield {**stamp, **own, **evaluations}
        metrics.clear()
        evaluations.clear()

    for step, values, when in entries:
        if is_summary(values):
            continue
        if step != last:
            yield from told()
            back, last = step < last, step
            t = clock(step) if when is None else when
            if back:
                attempt += 1
                yield from again(t, attempt, step, max_steps)
        elif when is not None:
            t = when
        for name, value in values.items():
            if "eval_loss" in values and name.startswith("eval_"):
                inner = EVALUATION.get(name, name[len("eval_") :])
                if inner not in ("split", "which", "t", "type", "attempt", "step", "v"):
                    evaluations[inner] = value
            elif "eval_loss" not in values or name not in ("epoch", "num_input_tokens_seen"):
                metrics[shorter(name)] = value
    yield from told()


EVALUATION = {"eval_runtime": "seconds"}


def again(t: float, attempt: int, step: int, max_steps: int | None) -> Iterator[Event]:
    """The lines by which a journal says that an attempt goes on before ``step``."""
    stamp = {"t": t, "type": "state", "attempt": attempt}
    yield {**stamp, "state": "starting", "phase": "resuming"}
    resumed = max(0, step - 1)
    yield {**stamp, "state": "running", "max_steps": max_steps, "resume_step": resumed}
