"""Several runs side by side: what their recipes differ in, and what came of them."""

from collections.abc import Sequence
from typing import Any

from engine.history.row import RunRow, is_ended, seconds
from engine.jobs.folder import RunFolder

__all__ = ["METRICS", "compare", "differences"]

METRICS = (
    "state",
    "attempt",
    "step",
    "max_steps",
    "train_loss",
    "best_eval_loss",
    "best_step",
    "test_loss_before",
    "test_loss",
    "seconds",
    "tokens_per_second",
    "step_seconds",
    "peak_memory_bytes",
    "trainable_parameters",
    "total_parameters",
    "train_rows",
    "backend",
    "device",
    "dtype",
    "optim",
    "model",
    "dataset",
    "fingerprint",
)


def compare(runs: Sequence[RunRow]) -> dict[str, list[Any]]:
    """Each of :data:`METRICS` with its value in every run, in the order given."""
    return {name: [_value(run, name) for run in runs] for name in METRICS}


def _value(run: RunRow, name: str) -> Any:
    if name == "seconds":
        return seconds(run) if is_ended(run) else None
    return getattr(run, name)


def differences(folders: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """Recipe keys (``section.key``) whose values differ, with the value in every run.

    None where it is not known: of a run that another program made.
    """
    flat = [folder.settings() for folder in folders]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    found = {key: [recipe.get(key) for recipe in flat] for key in keys}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}
