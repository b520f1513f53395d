"""The trainer of runs, made to go over chosen rows in their order and to keep nothing."""

import time
from collections.abc import Callable
from typing import Any

from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

from engine.jobs.context import RunContext
from engine.preflight.spec import AGAIN_STEPS, LONGEST_STEPS
from engine.train.saving import trained_bytes
from engine.train.trainer import RunTrainer

__all__ = ["ProbeTrainer"]


class ProbeTrainer(RunTrainer):
    """Trains the given rows one after the other; a checkpoint is weighed, not written."""

    checkpoint_bytes = 0
    ends: frozenset[int] = frozenset()
    ends_masked: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(_Timed(self))

    def prepare(
        self, seconds: float, on_evaluation: Callable[[], None], on_ordinary: Callable[[], None]
    ) -> None:
        """``on_evaluation`` is called when the first evaluation is due, ``on_ordinary`` after the
        longest rows; ``seconds`` later training ends."""
        self.ordinary_seconds = seconds
        self.on_evaluation: Callable[[], None] | None = on_evaluation
        self.on_ordinary = on_ordinary
        self.look_at_labels()

    def begin_again(self, context: RunContext, rows: Any) -> None:
        """The next :meth:`fit` trains other rows, in batches of another size."""
        train = context.recipe.train
        self.context = context
        self.train_dataset = rows
        self.args.per_device_train_batch_size = train.per_device_train_batch_size
        self.args.gradient_accumulation_steps = train.gradient_accumulation_steps
        self.accelerator.gradient_accumulation_steps = train.gradient_accumulation_steps
        self._train_batch_size = self.args.train_batch_size
        self.optimizer = self.lr_scheduler = None
        self._step_loss, self._step_tokens = 0.0, 0

    def look_at_labels(self) -> None:
        """Count the rows' trained ends of text that are not trained in a batch of them."""
        rows = [self.train_dataset[place] for place in range(min(64, len(self.train_dataset)))]
        trained = sum(label in self.ends for row in rows for label in row["labels"])
        labels = self.data_collator([dict(row) for row in rows])["labels"]
        left = sum(label in self.ends for row in labels.tolist() for label in row)
        self.ends_masked = trained - left

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset or self.train_dataset)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        if self.on_evaluation is not None:  # once is enough
            evaluate, self.on_evaluation = self.on_evaluation, None
            evaluate()
        return {"eval_loss": 0.0}

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return False

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        self.checkpoint_bytes = trained_bytes(self.model, self.optimizer)


class _Timed(TrainerCallback):
    def __init__(self, trainer: ProbeTrainer) -> None:
        self.trainer = trainer
        self.began = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step == LONGEST_STEPS + AGAIN_STEPS:
            self.trainer.on_ordinary()
            self.began = time.monotonic()
        elif (
            state.global_step > LONGEST_STEPS + AGAIN_STEPS + 1
            and time.monotonic() - self.began > self.trainer.ordinary_seconds
        ):
            control.should_training_stop = control.should_save = True
        return control
