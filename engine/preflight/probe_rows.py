"""The rows that a probe trains and evaluates, as the trainer takes them."""

from typing import Any

from engine.data.dataset import open_dataset
from engine.data.tokens import Formatter
from engine.home import Home
from engine.preflight.spec import ACCUMULATED, AGAIN_STEPS, LONGEST_STEPS, ORDINARY_STEPS, ProbeSpec
from engine.recipe import Recipe
from engine.train.rows import encode
from engine.train.samples import Sampling, sample_prompts

__all__ = ["ProbeRows"]


class ProbeRows:
    """Chosen rows of a prepared dataset, tokenised; the prompts of a run's samples."""

    def __init__(self, home: Home, recipe: Recipe, spec: ProbeSpec) -> None:
        self._dataset = open_dataset(home, spec.dataset)
        self._recipe = recipe
        self._formatter = Formatter.of(recipe)
        self.fingerprint = self._dataset.fingerprint
        self.ends = frozenset(self._formatter.stop_ids)
        """Tokens that end a text or a turn."""
        validation = self._dataset.split("validation")
        self.sampling = Sampling(
            sample_prompts(recipe, self._formatter, validation, self._dataset.shape),
            sorted(self.ends),
            self._formatter.pad_id,
        )
        packing = recipe.train.packing
        self._longest = self._rows("train", spec.longest, packing)
        self._ordinary = self._rows("train", spec.ordinary, packing)
        self.evaluation = self._rows(spec.evaluation_split, spec.evaluation, False)

    def _rows(self, split: str, numbers: list[int], packing: bool) -> Any:
        return encode(
            self._dataset.split(split).take(numbers),
            self._formatter,
            completion_only_loss=self._recipe.train.completion_only_loss,
            shape=self._dataset.shape,
            longest_first=not packing,
            packing=packing,
        ).dataset

    def for_steps(self, batch: int, accumulation: int) -> Any:
        """The longest rows for the first steps, then ordinary ones; repeated where too few.

        From the second step on every batch of the longest ends with the shortest row: it has the
        same size, but only with padding does attention need a mask, and copies of keys and values.
        """
        from datasets import concatenate_datasets

        step = batch * min(accumulation, ACCUMULATED)
        count = max(1, len(self._longest) - 1)  # the last one is the shortest row
        steps = LONGEST_STEPS + AGAIN_STEPS
        first = [number % count for number in range(step * steps)]
        if batch > 1:
            padded = (step // batch) * (steps - 1)
            first[step + batch - 1 :: batch] = [len(self._longest) - 1] * padded
        rest = [number % len(self._ordinary) for number in range(step * ORDINARY_STEPS)]
        return concatenate_datasets([self._longest.select(first), self._ordinary.select(rest)])
