"""A recipe with its data and tokenizer, resolved to rows, tokens, steps: everything but the model.

No torch; quick for a dataset that is prepared and counted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.dataset import Dataset
from engine.data.packing import pack
from engine.data.tokens import Formatter
from engine.errors import UserError
from engine.home import Home
from engine.preflight.counting import SplitTokens, count_split
from engine.preflight.spec import ACCUMULATED, LONGEST_STEPS, ORDINARY_STEPS, ProbeSpec
from engine.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Resolved", "prepared", "resolve"]

SPLITS = ("train", "validation", "test")


@dataclass
class Resolved:
    """What a recipe comes to. Counts are whole numbers; where ``is_estimate``, about right."""

    recipe: Recipe
    dataset: Dataset
    formatter: Formatter
    splits: dict[str, SplitTokens]

    @property
    def is_estimate(self) -> bool:
        """Whether only the first rows were counted."""
        return any(split.is_estimate for split in self.splits.values())

    @cached_property
    def _packed(self) -> list[list[int]]:
        """Packed sequences as places among the train rows that are not left out."""
        kept = self._kept("train")
        return pack([int(n) for n in kept], self.recipe.train.max_length)

    def _kept(self, split: str) -> "np.ndarray":
        lengths = self.splits[split].lengths
        return lengths[lengths > 0]

    @cached_property
    def sequences(self) -> int:
        """What a batch of train is made of: rows, or packed sequences."""
        train = self.splits["train"]
        if not self.recipe.train.packing:
            return train.trained_rows
        return round(len(self._packed) * train.scale)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps, as Transformers counts them."""
        train = self.recipe.train
        batches = math.ceil(self.sequences / train.per_device_train_batch_size)
        batches = math.ceil(batches / train.num_processes)
        return max(1, math.ceil(batches / train.gradient_accumulation_steps))

    @property
    def steps(self) -> int:
        """All optimiser steps, unless the run is stopped early."""
        train = self.recipe.train
        if train.max_steps > 0:
            return train.max_steps
        return math.ceil(train.num_train_epochs * self.steps_per_epoch)

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch

    @property
    def tokens(self) -> int:
        """Tokens that the run goes over in training, padding not counted."""
        return round(self.splits["train"].whole("tokens") * self.epochs)

    @property
    def effective_batch(self) -> int:
        train = self.recipe.train
        per_step = train.per_device_train_batch_size * train.gradient_accumulation_steps
        return per_step * train.num_processes

    @property
    def evaluations(self) -> int:
        """Evaluations on validation: every ``eval_steps``, and at the last step."""
        return math.ceil(self.steps / self.recipe.train.eval_steps)

    @property
    def checkpoints(self) -> int:
        """Checkpoints written: every ``save_steps``, and at the last step; the best ones more."""
        return math.ceil(self.steps / self.recipe.train.save_steps)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence that is trained."""
        train = self.splits["train"]
        if self.recipe.train.packing:
            kept = self._kept("train")
            return max((int(sum(kept[row] for row in rows)) for rows in self._packed), default=0)
        return int(train.lengths.max(initial=0))

    @property
    def longest_evaluated(self) -> int:
        """Tokens of the longest row of validation and test."""
        return max(int(self.splits[name].lengths.max(initial=0)) for name in SPLITS[1:])

    @property
    def lengths_differ(self) -> bool:
        """Whether train has rows of several lengths: batches then have padding."""
        kept = self._kept("train")
        return int(kept.min()) != int(kept.max())

    def probe_spec(self, home: Home, batches: list[tuple[int, int]]) -> ProbeSpec:
        """What a probe of these (batch, accumulation) pairs needs to know."""
        import numpy as np

        train = self.splits["train"]
        most = max(batch * min(accumulation, ACCUMULATED) for batch, accumulation in batches)
        kept = np.flatnonzero(train.lengths)
        if self.recipe.train.packing:
            fullest = sorted(self._packed, key=lambda rows: -sum(train.lengths[kept[rows]]))
            longest = [int(kept[row]) for rows in fullest[: LONGEST_STEPS * most] for row in rows]
            per_sequence = math.ceil(len(kept) / max(1, len(self._packed)))
        else:
            longest, per_sequence = train.longest(LONGEST_STEPS * most), 1
        longest.append(train.shortest())
        count = min(len(kept), ORDINARY_STEPS * most * per_sequence)
        ordinary = np.random.default_rng(self.recipe.train.seed).choice(kept, count, replace=False)
        split = max(SPLITS[1:], key=lambda name: int(self.splits[name].lengths.max(initial=0)))
        evaluated = self.splits[split].longest(2 * self.recipe.train.per_device_eval_batch_size - 1)
        evaluated.append(self.splits[split].shortest())
        return ProbeSpec(
            home=str(home.path),
            recipe=self.recipe.model_dump(),
            dataset=self.dataset.name,
            longest=longest,
            ordinary=[int(number) for number in ordinary],
            evaluation_split=split,
            evaluation=evaluated,
            batches=batches,
        )


def prepared(home: Home, recipe: Recipe) -> Dataset | None:
    """The dataset of the recipe if it is there already, as the recipe wants it; else None.

    Its source is not read: for a file that changed since, this is the dataset of before.
    """
    from engine.data.dataset import open_dataset
    from engine.data.sources import dataset_name

    try:
        dataset = open_dataset(home, dataset_name(recipe.data))
        made_by = _data_sections(_recipe_of(dataset))
    except (UserError, ValueError, OSError):
        return None
    return dataset if made_by == _data_sections(recipe) else None


def _recipe_of(dataset: Dataset) -> Recipe:
    from engine.recipe import read_recipe

    return read_recipe(dataset.file("recipe"))


def _data_sections(recipe: Recipe) -> tuple[object, ...]:
    """What decides which rows a dataset has; a source by its absolute path."""
    data, source = recipe.data, Path(recipe.data.source).expanduser()
    if not data.source.startswith("builtin:") and source.exists():
        data = data.model_copy(update={"source": str(source.absolute())})
    return data.model_copy(update={"name": ""}), recipe.clean, recipe.split


def resolve(
    home: Home,
    recipe: Recipe,
    dataset: Dataset,
    *,
    sample: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Resolved:
    """Count what the recipe makes of a prepared dataset.

    ``sample``: of a split that was never counted, look at the first so many rows only (1,000 take
    0.2 s); 0: at all. ``progress(split, done, rows)``. Raises :class:`UserError` where nothing
    would be left to train on, :class:`engine.data.progress.Cancelled` when ``cancelled()``.
    """
    formatter = Formatter.of(recipe)
    splits = {}
    for name in SPLITS:
        if not dataset.count(name):
            raise UserError(
                f"split.{name}: no row of {dataset.name} fell to {name}: "
                f"{dataset.report.rows_kept:,} clean rows are too few for this share"
            )

        def tell(done: int, rows: int, name: str = name) -> None:
            if progress:
                progress(name, done, rows)

        splits[name] = count_split(
            home,
            dataset,
            formatter,
            recipe,
            name,
            sample=sample,
            progress=tell,
            cancelled=cancelled,
        )
        if not splits[name].lengths.any():
            raise UserError(
                f"train.max_length: the prompts alone fill {recipe.train.max_length} tokens in "
                f"every row of {name}, so there is nothing to train on; make it larger"
            )
    return Resolved(recipe, dataset, formatter, splits)
