"""How long a run will take: by the probe's own steps, or by a finished run like it. Seconds."""

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.home import Home
from engine.recipe import Recipe

if TYPE_CHECKING:
    from engine.preflight.resolve import Resolved

__all__ = ["Pace", "measured_pace", "remembered_pace"]


@dataclass(frozen=True)
class Pace:
    """Seconds of one optimiser step and of the whole; ``source`` says where they come from."""

    step_seconds: float
    tokens_per_second: float
    training_seconds: float
    evaluation_seconds: float
    source: str
    """``probe``, or the name of a run."""

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.evaluation_seconds


def measured_pace(resolved: "Resolved", attempt: dict[str, Any]) -> Pace:
    """From one attempt of a probe (see :mod:`engine.preflight.probe`)."""
    step = float(attempt["step_seconds"])
    rows = _evaluated_row_seconds(resolved, float(attempt["evaluation_row_seconds"]))
    answers = float(attempt.get("generation_seconds") or 0.0) * resolved.evaluations
    return Pace(
        step_seconds=step,
        tokens_per_second=float(attempt["tokens_per_second"]),
        training_seconds=step * resolved.steps,
        evaluation_seconds=rows + answers,
        source="probe",
    )


def _evaluated_row_seconds(resolved: "Resolved", longest_row_seconds: float) -> float:
    """All evaluations together: validation as often as it is due, test before and after.

    The probe evaluated the longest rows; an ordinary one takes its share of their time.
    """
    recipe = resolved.recipe
    tests = 2 if recipe.evaluate.before else 1
    total = 0.0
    for name, times in (("validation", resolved.evaluations), ("test", tests)):
        split = resolved.splits[name]
        tokens = split.whole("tokens")
        total += times * tokens / max(1, resolved.longest_evaluated) * longest_row_seconds
    return total


def remembered_pace(home: Home, resolved: "Resolved", gpu: str | None) -> Pace | None:
    """From the latest finished run of the same model and settings on this kind of card, if any.

    Asks ``runs.db``; a home without runs is left without one.
    """
    from engine.history.ingest import ingest_all
    from engine.history.queries import evaluations, list_runs, series
    from engine.history.store import open_store
    from engine.jobs.launch import find_run, run_folders

    if not run_folders(home):
        return None
    try:
        store = open_store(home)
        ingest_all(home, store)
        rows = [row for row in list_runs(store) if row.state == "finished" and row.gpu == gpu]
        for row in rows:
            recipe = find_run(home, row.id).read_recipe()
            if _alike(recipe) != _alike(resolved.recipe):
                continue
            found = series(store, row.id, ["step_seconds", "tokens_per_second"])
            steps, speeds = found["step_seconds"][1], found["tokens_per_second"][1]
            if not len(steps):
                continue
            late = slice(len(steps) // 2, None)  # kernels are compiled by then
            step = statistics.median(map(float, steps[late]))
            times = evaluations(store, row.id)
            each = _median(e["seconds"] for e in times if e["which"] == "during")
            test = _median(e["seconds"] for e in times if e["split"] == "test")
            tests = 2 if resolved.recipe.evaluate.before else 1
            return Pace(
                step_seconds=step,
                tokens_per_second=statistics.median(map(float, speeds[late])),
                training_seconds=step * resolved.steps,
                evaluation_seconds=each * resolved.evaluations + test * tests,
                source=row.name,
            )
    except (UserError, OSError):
        return None
    return None


def _median(values: Any) -> float:
    found = [float(value) for value in values if value is not None]
    return statistics.median(found) if found else 0.0


def _alike(recipe: Recipe) -> tuple[object, ...]:
    """What decides how long a step takes."""
    train = recipe.train
    return (
        recipe.model,
        recipe.lora,
        train.per_device_train_batch_size,
        train.gradient_accumulation_steps,
        train.max_length,
        train.packing,
        train.gradient_checkpointing,
        train.optim,
        train.num_processes,
        recipe.data.source,
    )
