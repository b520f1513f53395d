"""What the trainer measures: losses of whole splits, and answers to fixed prompts."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from engine.errors import Diverged, UserError
from engine.generate.models import Base
from engine.jobs import checkpoints
from engine.jobs.context import Stopped
from engine.train.keeping import Keeping
from engine.train.loss import SplitLoss, split_loss
from engine.train.samples import Sampling, generate
from engine.train.trackers import Trackers

__all__ = ["EvaluationGivenUp", "Measuring"]


class EvaluationGivenUp(Exception):
    """A stop was requested while an evaluation ran."""


class Measuring(Keeping):
    """Evaluates and samples. A subclass sets ``sampling``, ``trackers`` and ``for_generation``."""

    sampling: Sampling
    trackers: Trackers | None
    for_generation: Callable[[Any], Callable[[], None]] | None
    """See :class:`engine.train.backend.Loaded`."""
    _last_validation_loss = math.inf

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The validation loss, journaled. Early stopping and best-checkpoint tracking read it."""
        measured = self.measure(self.eval_dataset, "validation", "during")
        self.sample("during")
        metrics = {f"{metric_key_prefix}_loss": measured.mean}
        self._track(dict(metrics))
        self.stop_at_loss(measured.mean)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def stop_at_loss(self, loss: float) -> None:
        self._last_validation_loss = loss
        if loss <= self.context.recipe.train.stop_at_loss:
            self.control.should_training_stop = True

    def why_done(self) -> str:
        """Why no more steps were made."""
        target = self.context.recipe.train.stop_at_loss
        if self.state.global_step >= self.state.max_steps:
            return "all steps done"
        if target and self._last_validation_loss <= target:
            return f"validation loss {self._last_validation_loss:.4f} reached stop_at_loss"
        return "early stopping"

    def sample(self, which: str) -> None:
        """Answer the fixed prompts with the weights as they are; one ``sample`` event a prompt.

        Raises :class:`EvaluationGivenUp` on a stop.
        """
        if not self.sampling.prompts:
            return
        began = time.perf_counter()
        texts = [""] * len(self.sampling.prompts)
        if self.ranks.first or self.sharded:  # shards answer together, or not at all
            texts = generate(
                self.model,
                self.sampling,
                self.processing_class,
                max_new_tokens=self.context.recipe.evaluate.sample_max_new_tokens,
                autocast=self.accelerator.autocast,
                base=self._borrowed,
                for_generation=self.for_generation,
                cancelled=self.stop_agreed if self.sharded else self.context.stop_requested,
            )
        if self.stop_agreed():
            raise EvaluationGivenUp
        for prompt, text in zip(self.sampling.prompts, texts, strict=True):
            self.context.journal.append(
                "sample",
                step=self.state.global_step,
                which=which,
                prompt=prompt.text,
                text=text,
                reference=prompt.reference,
                seconds=time.perf_counter() - began,
            )

    @functools.cached_property
    def _borrowed(self) -> Base | None:
        """The model as slots take it. Kept: whether they fit it is tried once.

        None for what they cannot know: layers whose weights are elsewhere, or another library's.
        """
        if self.sharded or self.for_generation:
            return None
        model = self.model
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        device = str(self.accelerator.device)
        return Base(bare, self.processing_class, device, borrowed=True)

    def measure(
        self,
        dataset: Any,
        split: str,
        which: str,
        progress: Callable[[int, int], None] | None = None,
    ) -> SplitLoss:
        """Loss over all trained tokens of a dataset (a token-weighted mean), journaled.

        Leaves every random generator as it was: a run that is evaluated more often, or resumed
        before an evaluation, trains on the same. Raises :class:`EvaluationGivenUp` on a stop.
        """
        began = time.perf_counter()
        model, was_training = self.model, self.model.training
        model.eval()
        self._settle_weights()
        device = self.accelerator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            loader = self.get_eval_dataloader(dataset)

            def look(number: int) -> None:
                if self.stop_agreed():
                    raise EvaluationGivenUp
                if progress:
                    progress(number, len(loader))

            measured = split_loss(model, loader, self.accelerator.autocast, look, self.ranks)
        model.train(was_training)
        self.journal_loss(measured, dataset, split, which, time.perf_counter() - began)
        if not math.isfinite(measured.mean):
            raise self._diverged(
                f"the {split} loss is {measured.mean} at step {self.state.global_step}",
                measured.mean,
            )
        return measured

    def journal_loss(
        self,
        measured: SplitLoss,
        dataset: Any,
        split: str,
        which: str,
        seconds: float,
        **more: Any,
    ) -> None:
        self.context.journal.append(
            "evaluation",
            step=self.state.global_step,
            split=split,
            which=which,
            loss=measured.mean,
            rows=len(dataset),
            tokens=measured.tokens,
            seconds=seconds,
            mean_token_accuracy=measured.mean_token_accuracy,
            **more,
        )

    def _diverged(self, why: str, loss: float) -> UserError:
        """Weights that give no finite loss never recover: no hour and no checkpoint is spent."""
        recipe, step = self.context.recipe, self.state.global_step
        if step == 0:
            return UserError(
                f"model.model_name_or_path: {why}, before any training; the weights are damaged, "
                f"or model.dtype = {recipe.model.dtype!r} is too narrow for them"
            )
        rate = recipe.train.learning_rate / 2
        return Diverged(
            f"train.learning_rate: {why}: training has diverged; go on from the last checkpoint "
            f"with less than {recipe.train.learning_rate:g}",
            step=step,
            loss=loss,
            suggestion={
                "words": f"half the learning rate ({rate:g}), from the last checkpoint on",
                "settings": {"train.learning_rate": rate},
            },
        )

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return self._given_up_means_stop(lambda: super(Measuring, self)._evaluate(*args, **kwargs))

    def _given_up_means_stop(self, evaluate: Callable[[], Any]) -> Any:
        """A stop during an evaluation: save at this step, with the evaluation still marked due."""
        try:
            if self.stop_agreed():
                raise EvaluationGivenUp
            return evaluate()
        except EvaluationGivenUp:
            if not self.ranks.agree(checkpoints.is_whole(self._checkpoint(self.state.global_step))):
                self._save_checkpoint(self.model)
            raise Stopped from None

    def _track(self, logs: dict[str, Any]) -> None:
        if self.trackers:
            logs["epoch"] = self.state.epoch
            self.trackers.tell("on_log", self.args, self.state, self.control, logs=logs)
