"""What a probe is asked to do: which rows, which batches, how long. Written as JSON, no torch."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.recipe import Recipe

__all__ = ["LONGEST_STEPS", "ProbeSpec", "probe_recipe"]

LONGEST_STEPS = 2
"""Optimiser steps on the longest rows: the second one has the optimiser's state in memory."""
AGAIN_STEPS = 1
"""Further ones after an evaluation and an answer, which leave memory in other pieces."""
ORDINARY_STEPS = 8
"""At most so many further steps on ordinary rows: they tell the speed."""
ACCUMULATED = 2
"""Batches of a probed step at most: from the second on, gradients are in memory beside it."""
NEVER = 10**6


@dataclass
class ProbeSpec:
    """One probe. Rows are numbers of rows of the prepared dataset's splits."""

    home: str
    recipe: dict[str, Any]
    dataset: str
    longest: list[int]
    """Of train: enough for :data:`LONGEST_STEPS` steps of the largest batch; longest first, and the
    shortest row at the end."""
    ordinary: list[int]
    """Of train, at random."""
    evaluation_split: str
    evaluation: list[int]
    """The longest rows of the split that has the longest one, and its shortest row."""
    batches: list[tuple[int, int]] = field(default_factory=list)
    """(per_device_train_batch_size, gradient_accumulation_steps) to measure, in this order."""
    search: bool = False
    """``batches`` is what a batch-size search may choose from, largest effective use last."""
    limit_bytes: int | None = None
    """What the device has for this process; None: what is free when the probe begins."""
    timing_seconds: float = 20.0
    """Ordinary steps end after this long."""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "ProbeSpec":
        values = json.loads(path.read_text(encoding="utf-8"))
        values["batches"] = [(size, steps) for size, steps in values["batches"]]
        return cls(**values)


def probe_recipe(recipe: Recipe, batch: int, accumulation: int) -> Recipe:
    """The recipe as it is probed: a few steps of the same work, nothing saved, nobody told."""
    tree = recipe.model_dump()
    tree["train"] |= {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": min(accumulation, ACCUMULATED),
        "max_steps": LONGEST_STEPS + AGAIN_STEPS + ORDINARY_STEPS,
        "eval_steps": LONGEST_STEPS,
        "save_steps": NEVER,
        "early_stopping_patience": 0,
        "loss_watchdog": "off",
        "num_processes": 1,
        "report_to": [],
        "stop_at_loss": 0.0,
    }
    return Recipe.model_validate(tree)
