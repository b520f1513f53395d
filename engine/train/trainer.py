"""TRL's SFTTrainer, made to journal every step's own loss and to survive being stopped or killed.

Imported by worker processes only, and after unsloth where unsloth is used (it patches TRL).
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from engine.jobs.context import RunContext, Stopped
from engine.jobs.ranks import is_sharded
from engine.train.arguments import training_arguments
from engine.train.backend import Loaded
from engine.train.fused.flat import FlatCollator
from engine.train.journaling import Journaling, reads_late
from engine.train.memory import MemoryReader
from engine.train.packed import PackedCollator
from engine.train.ranks import Ranks
from engine.train.rows import row_lengths
from engine.train.sampler import GroupedByLength
from engine.train.samples import Sampling
from engine.train.together import EVALUATE, MEMORY, SAMPLE, SAVE, STOP, wishes
from engine.train.trackers import Trackers
from engine.train.watchdog import Watchdog

__all__ = ["RunTrainer"]

MEMORY_SECONDS = 2.0


class _TrainingDone(Exception):
    """The checkpoint resumed from was the last one: nothing is left to train."""


class RunTrainer(Journaling):
    """Trains one attempt of a run.

    Every optimiser step becomes one ``metrics`` line with its own loss, whatever else happens.
    Checkpoints appear under their name only when whole. A requested stop ends in :class:`Stopped`
    after a checkpoint.
    """

    control: Any
    data_collator: Any

    def __init__(
        self,
        context: RunContext,
        loaded: Loaded,
        train_dataset: Any,
        eval_dataset: Any,
        sampling: Sampling,
        fingerprint: str,
        on_start: Callable[["RunTrainer"], None],
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.sharded = is_sharded(context.recipe)
        self.context = context
        self.memory = MemoryReader(loaded.device)
        self.on_start = on_start
        self.sampling = sampling
        self.fingerprint = fingerprint
        self.evaluation_asked = self.sample_asked = False
        self.for_generation = loaded.for_generation
        self.flat = loaded.flat
        self.slower_because = loaded.slower_because
        self.late = reads_late(context.recipe, loaded, sharded=self.sharded)
        self._step_began = self._memory_told = time.perf_counter()
        super().__init__(
            model=loaded.model,
            args=training_arguments(context, loaded),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=loaded.tokenizer,
        )
        if loaded.flat:
            self.data_collator = FlatCollator(self.data_collator.pad_token_id)
        elif context.recipe.train.packing:
            # Set here: given as an argument, TRL would leave out what it sets up beside its own.
            self.data_collator = PackedCollator(
                pad_token_id=self.data_collator.pad_token_id,
                pad_to_multiple_of=self.data_collator.pad_to_multiple_of,
            )
        # TRL casts QLoRA adapters to bfloat16 here, a resume loads them as float32: the two runs
        # would differ by 5e-3. Float32 in both.
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.remove_callback(PrinterCallback)
        self.add_callback(_Follow(self))
        self.add_callback(Watchdog())
        train = context.recipe.train
        self.trackers: Trackers | None = None
        if train.report_to and self.ranks.first:
            self.trackers = Trackers(train.report_to, context.home, context.folder, self._warn)
            self.add_callback(self.trackers)
        if train.early_stopping_patience:
            self.add_callback(
                EarlyStoppingCallback(train.early_stopping_patience, train.early_stopping_threshold)
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = row_lengths(train_dataset or self.train_dataset).tolist()
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedByLength(lengths, size * self.args.world_size, self.args.seed)

    # ---- one step ---------------------------------------------------------------------------

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, *args: Any, learning_rate: Any = None, **kwargs: Any
    ) -> None:
        self.control.should_log = False  # Transformers would wait for the GPU at every step
        if self.state.global_step > self._sent:
            self._send(grad_norm, learning_rate)
        control = self.control
        looks = control.should_evaluate or control.should_save or control.should_training_stop
        asked = self.evaluation_asked or self.sample_asked
        if looks or asked or not self.late:
            self._journal_pending()
        super()._maybe_log_save_evaluate(
            tr_loss, grad_norm, *args, learning_rate=learning_rate, **kwargs
        )
        if self.evaluation_asked:
            # Asked for from outside: shown, but it decides nothing, so that the run's course
            # (best checkpoint, early stopping) does not depend on who looked at it when.
            self.evaluation_asked = False
            self._given_up_means_stop(
                lambda: self.measure(self.eval_dataset, "validation", "asked")
            )
        if self.sample_asked:
            self.sample_asked = False
            self._given_up_means_stop(lambda: self.sample("asked"))
        if looks or asked:
            self._step_began = time.perf_counter()

    # ---- the whole --------------------------------------------------------------------------

    def fit(self, resume_from: Path | None) -> None:
        """Train to the end; leaves the best weights in the model where the recipe says so."""
        try:
            self.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        except _TrainingDone:
            if self.args.load_best_model_at_end:
                self._load_best_model()
        except Exception:
            with contextlib.suppress(Exception):  # the step before was made, whatever came then
                self._journal_pending()
            raise

    def begin(self) -> None:
        """Runs before the first step of this attempt, everything loaded."""
        self._sent = self.state.global_step
        if self.stop_agreed():
            raise Stopped
        if self.measure_first and not self.state.global_step:
            self.measure_first()
        if self.state.global_step:
            self.follow_recipe()
        self.on_start(self)
        self.differ()
        saved = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        done = self.state.global_step > 0 and (
            saved.get("should_training_stop", False)
            # A child's checkpoint says nothing of an end: it was its parent's.
            or self.state.global_step >= self.state.max_steps
        )
        if self.state.global_step and saved.get("should_evaluate"):
            # The last attempt was stopped before or in this step's evaluation.
            if self._determine_best_metric(self._evaluate(None, None), None):
                self.state.best_model_checkpoint = str(self._checkpoint(self.state.global_step))
            done = done or self.control.should_training_stop
        if done:
            raise _TrainingDone
        self._step_began = time.perf_counter()


class _Follow(TrainerCallback):
    """Looks after every step whether somebody outside wants something."""

    def __init__(self, trainer: RunTrainer) -> None:
        self.trainer = trainer
        self.stopping = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.begin()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.before_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        trainer = self.trainer
        actions = {request.action for request in trainer.context.take_controls()}
        wanted = trainer.exchange(
            wishes(
                save="save" in actions,
                evaluate="evaluate" in actions,
                sample="sample" in actions,
                stop=trainer.context.stop_requested(),
                memory=time.perf_counter() - trainer._memory_told >= MEMORY_SECONDS,
            )
        )
        if wanted & SAVE:
            control.should_save = True
        if wanted & EVALUATE:
            trainer.evaluation_asked = True
        if wanted & SAMPLE:
            trainer.sample_asked = True
        if wanted & STOP:
            self.stopping = control.should_save = True
        if wanted & MEMORY:
            trainer._memory_told = time.perf_counter()
            trainer.tell_memory()
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopping:
            raise Stopped
