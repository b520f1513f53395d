"""Numbers and names as loggers write them, made such as the journal holds."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from engine.text import safe_line

__all__ = ["metric_name", "number", "numbers", "renamed", "shorter", "step_of"]

RESERVED = frozenset({"v", "t", "type", "attempt", "step", "run", "line", "split", "which"})
MOST_NAMES = 150
"""Metrics of one logged step: more than that are no metrics."""
TOO_HIGH = 2**63


def number(value: Any) -> float | int | None:
    """A number, also one that is written as a text; None for anything else."""
    if type(value) is float:  # nearly all of them
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < TOO_HIGH else float(value) if value < 10**300 else math.inf
    if isinstance(value, str) and len(value) < 64:
        try:
            return int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        except ValueError:
            return None
    return None


def step_of(value: Any) -> int | None:
    """A step: whole, from 0; None for anything else."""
    found = number(value)
    if found is None or not math.isfinite(found) or found != int(found):
        return None
    return int(found) if 0 <= found < TOO_HIGH else None


@lru_cache(maxsize=4096)
def metric_name(key: str) -> str:
    """A logger's key as a field of the journal: one line, and none of the journal's own names."""
    name = safe_line(key)[:100].strip() or "(no name)"
    return f"logged_{name}" if name in RESERVED else name


def numbers(entry: Mapping[Any, Any]) -> dict[str, float | int]:
    """Every number of a logged step, by :func:`metric_name`."""
    found: dict[str, float | int] = {}
    for key, value in entry.items():
        if len(found) >= MOST_NAMES:
            break
        if (value := number(value)) is not None:
            found[metric_name(str(key))] = value
    return found


SHORTER = {
    "lr": "learning_rate",
    "lr-AdamW": "learning_rate",
    "learning-rate": "learning_rate",
    "accuracy": "mean_token_accuracy",
}
"""Other words for the columns that runs are compared by."""


def shorter(name: str) -> str:
    return SHORTER.get(name, name)


LOSSES = {
    "train_loss": "loss", "training_loss": "loss", "loss/train": "loss", "loss_train": "loss",
    "val_loss": "eval_loss", "validation_loss": "eval_loss", "valid_loss": "eval_loss",
    "loss/val": "eval_loss", "loss/validation": "eval_loss", "loss/eval": "eval_loss",
    "loss/valid": "eval_loss", "val/loss": "eval_loss", "validation/loss": "eval_loss",
    "valid/loss": "eval_loss",
}  # fmt: skip
"""Names of the two losses in lower case, where nobody logs them under Transformers' names."""


def renamed(name: str, known: bool) -> str:
    """A tracker's name (``train/loss``, ``eval/loss``) under the one that Transformers logs by.

    ``known``: the tracker holds ``train/loss``; what resembles it is then something else.
    """
    if name.startswith("train/"):
        inner = name[len("train/") :]
        return inner if inner in ("train_loss", "loss") or known else shorter(inner)
    if name.startswith("eval/"):
        return f"eval_{name[len('eval/') :]}"
    if not known and (loss := LOSSES.get(name.lower())):
        return loss
    return name if known else shorter(name)
