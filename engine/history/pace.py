"""How long a run still takes, and how long it may say nothing, by what its journal told so far."""

import statistics
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.history.row import RunRow

__all__ = ["RECENT_STEPS", "Rhythm", "Told", "rhythm_of", "seconds_left", "silence_limit"]

RECENT_STEPS = 50
RECENT_LOOKS = 5
OUTLIER = 4.0
FIRST_STEPS = 3
FIRST_ANSWERS = 0.5
"""Of what the first answers took, what later ones do: 0.25 on an H200, all of it on a CPU."""
RESULT_SHARE = 1 / 3
"""Of a checkpoint, what the result takes: it has no optimiser state, of two numbers a weight."""
FORWARD_SHARE = 0.4
"""Of a row's training time, what evaluating it takes: 0.42 measured on an H200, 0.39 on a CPU."""
SILENCE_SECONDS = 60.0
PHASE_SILENCE_SECONDS = 300.0
"""Loading and saving large weights, and importing, say nothing between their two lines."""
SILENCE_TIMES = 5.0

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Rhythm:
    """After how many steps a run evaluates and saves, by its recipe."""

    eval_steps: int
    save_steps: int
    keeps_best: bool = True
    """A new best evaluation is saved too."""


@lru_cache(maxsize=64)
def rhythm_of(recipe: str) -> Rhythm | None:
    """The rhythm of a run with this ``recipe.toml``; None when it does not say."""
    try:
        train = tomllib.loads(recipe)["train"]
        every, saves = train["eval_steps"], train["save_steps"]
        if not (isinstance(every, int) and isinstance(saves, int) and every > 0 and saves > 0):
            return None
        return Rhythm(every, saves, bool(train.get("load_best_model_at_end", True)))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True)
class Told:
    """What a run told so far, as its journal or the history has it.

    ``step_seconds``: of the last :data:`RECENT_STEPS` steps. The others are dicts: evaluations with
    split, which, step, rows, seconds and t; checkpoints with step and seconds; samples with step
    and t. Of several attempts those of the latest one count, where it has any.
    """

    step_seconds: Iterable[float] = ()
    evaluations: Events = ()
    checkpoints: Events = ()
    samples: Events = ()


def _regular(values: Iterable[float], made: int) -> float | None:
    """The mean of the latest steps, of which the attempt has ``made`` so many.

    Without its first ones, which compile kernels, and without one that hung. No median: it would
    not see that every fourth step is slow.
    """
    found = [float(value) for value in values if value == value]
    if made <= len(found):
        found = found[min(FIRST_STEPS, len(found) // 3) :]
    if not found:
        return None
    most = OUTLIER * statistics.median(found)
    return statistics.fmean(value for value in found if value <= most)


def _usual(seconds: Sequence[float]) -> float | None:
    """The mean of the latest; the first of a kind compiles and allocates, and counts only alone."""
    return statistics.fmean(seconds[1:][-RECENT_LOOKS:] or seconds) if seconds else None


def _number(event: Mapping[str, Any], key: str) -> float | None:
    value = event.get(key)
    return float(value) if isinstance(value, int | float) and value == value else None


def _of_attempt(row: RunRow, events: Events) -> Events:
    latest = [event for event in events if event.get("attempt", row.attempt) == row.attempt]
    return latest or events


class _Parts:
    """What one run's steps, evaluations, answers and checkpoints usually take."""

    def __init__(self, row: RunRow, told: Told) -> None:
        self.row = row
        self.during = [
            event
            for event in _of_attempt(row, told.evaluations)
            if event.get("which") == "during" and event.get("split", "validation") == "validation"
        ]
        self._tests = [event for event in told.evaluations if event.get("split") == "test"]
        self.saved = {event.get("step") for event in told.checkpoints}
        made = (row.step or 0) - (row.resume_step or 0)
        self.step = _regular(told.step_seconds, made) or row.step_seconds
        self.save = _usual(_seconds(_of_attempt(row, told.checkpoints))) or 0.0
        answers = self._answers(_of_attempt(row, told.samples))
        self.answers = (_usual(answers) or 0.0) * (FIRST_ANSWERS if len(answers) == 1 else 1.0)
        self.measured = _usual(_seconds(self.during))

    def _answers(self, samples: Events) -> list[float]:
        """The seconds that the samples of each evaluation took: from its line to their last."""
        recent = self.during[-RECENT_LOOKS - 1 :]
        wanted = {event.get("step") for event in recent}
        last: dict[Any, float] = {}
        for sample in reversed(samples):
            if (at := _number(sample, "t")) is not None and sample.get("step") in wanted:
                last[sample.get("step")] = max(at, last.get(sample.get("step"), at))
        spans = []
        for event in recent:
            began, ended = _number(event, "t"), last.get(event.get("step"))
            if began is not None and ended is not None and ended > began:
                spans.append(ended - began)
        return spans

    def evaluation(self) -> float:
        """Of validation: as so far, or a row as one of the test before training."""
        if self.measured is not None:
            return self.measured
        row, before = self.row, self._test_seconds()
        if before and row.test_rows and row.validation_rows is not None:
            return before * row.validation_rows / row.test_rows
        return self._guess(row.validation_rows)

    def test(self) -> float:
        """Of the test after training: as before it, or a row as one of validation."""
        if before := self._test_seconds():
            return before
        row = self.row
        if self.measured is not None and row.test_rows is not None:
            rows = _number(self.during[-1], "rows") or row.validation_rows
            if rows:
                return self.measured * row.test_rows / rows
        return self._guess(row.test_rows)

    def _test_seconds(self) -> float:
        """0: never measured, or by another run."""
        return next(reversed(_seconds(self._tests)), 0.0)

    def _guess(self, rows: int | None) -> float:
        """By the training steps: a step's rows are what the epoch grew by."""
        row = self.row
        if not (rows and self.step and row.epoch and row.step and row.train_rows):
            return 0.0
        return FORWARD_SHARE * rows * self.step * row.step / (row.epoch * row.train_rows)

    @property
    def is_tested(self) -> bool:
        return any(event.get("which") == "after" for event in self._tests)

    def longest(self) -> float:
        """The part with the most time between its line and the one before, of what comes now."""
        looks = (self.evaluation(), self.answers, self.save)
        return max(self.step or 0.0, *looks, self.test() if self.row.phase else 0.0)


def _seconds(events: Events) -> list[float]:
    return [found for event in events if (found := _number(event, "seconds"))]


def _due(step: int, last: int, every: int, done: Collection[Any]) -> int:
    """How often something is still to be done: every so many steps, and after the last one."""
    ahead = last // every - step // every + (1 if last % every and step < last else 0)
    return ahead + ((step % every == 0 or step == last) and step not in done)


def seconds_left(
    row: RunRow, told: Told, rhythm: Rhythm | None = None, now: float | None = None
) -> float | None:
    """Seconds until the run ends: steps, evaluations, answers, checkpoints and the test; None: not
    known.

    Without ``rhythm`` evaluations come as often as they did so far. What has passed at ``now``
    since the journal's last line is taken off, as far as the run can be busy with one thing.
    """
    step, last = row.step, row.max_steps
    if not step or not last or step > last:
        return None
    parts = _Parts(row, told)
    if not parts.step:
        return None
    left = (last - step) * parts.step
    if rhythm is not None:
        evaluated = {event.get("step") for event in parts.during}
        looks = _due(step, last, rhythm.eval_steps, evaluated)
        saves = float(_due(step, last, rhythm.save_steps, parts.saved))
        if rhythm.keeps_best and evaluated:
            saves = max(saves, looks * len(evaluated & parts.saved) / len(evaluated))
        left += looks * (parts.evaluation() + parts.answers) + saves * parts.save
    elif parts.during:
        most = max(int(_number(event, "step") or 0) for event in parts.during) or step
        each = parts.evaluation() + parts.answers + parts.save
        left += (last - step) * each * len(parts.during) / most
    left += RESULT_SHARE * parts.save
    if not parts.is_tested:
        left += parts.test()
    if now is not None and row.last_event:
        left -= min(max(0.0, now - row.last_event), parts.longest())
    return max(0.0, left)


def silence_limit(row: RunRow, told: Told | None = None) -> float:
    """Seconds without a journal line after which a live run is said to be silent: several times
    what it ever does between two of them."""
    told = told or Told()
    floor = SILENCE_SECONDS if row.step and not row.phase else PHASE_SILENCE_SECONDS
    return max(floor, SILENCE_TIMES * _Parts(row, told).longest())
