"""TRL's SFTTrainer, made to journal every step's own loss and to survive being stopped or killed.

Imported by worker processes only, and after unsloth where unsloth is used (it patches TRL).
"""

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
from engine.train.memory import MemoryReader
from engine.train.packed import PackedCollator
from engine.train.ranks import Ranks
from engine.train.rows import TOKENS
from engine.train.sampler import GroupedByLength
from engine.train.samples import Sampling
from engine.train.steering import Steering
from engine.train.together import EVALUATE, MEMORY, SAMPLE, SAVE, STOP, wishes
from engine.train.trackers import Trackers
from engine.train.watchdog import Watchdog

__all__ = ["RunTrainer"]

MEMORY_SECONDS = 2.0


class _TrainingDone(Exception):
    """The checkpoint resumed from was the last one: nothing is left to train."""


class RunTrainer(Steering):
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
        self._step_loss: Any = 0.0
        self._step_tokens: Any = 0
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
        lengths = list(map(len, (train_dataset or self.train_dataset)["input_ids"]))
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedByLength(lengths, size * self.args.world_size, self.args.seed)

    # ---- one step ---------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        packed = inputs.pop(TOKENS, None)
        tokens = (inputs["attention_mask"] if packed is None else packed).sum()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._step_loss = self._step_loss + loss.detach()
        self._step_tokens = self._step_tokens + tokens
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        if not self.flat:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # TRL asks the GPU four times a step for numbers that nobody needs before the step's end.
        outputs = model(**inputs, use_cache=False, num_items_in_batch=num_items_in_batch)
        accuracy = outputs.num_correct_tokens / max(1, len(inputs["loss_targets"]))
        self._metrics["train"]["mean_token_accuracy"].append(accuracy)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting them walks over every parameter at every step

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Journals a step. Nothing is kept in ``state.log_history``: checkpoints stay small."""
        seen = getattr(self, "_metrics", {}).get("train", {})
        accuracy = seen.get("mean_token_accuracy") or []
        if "loss" in logs and "grad_norm" in logs:
            seconds, step = time.perf_counter() - self._step_began, self.step
            self.context.journal.append(
                "metrics",
                step=self.state.global_step,
                epoch=self.state.epoch,
                loss=step.loss,
                learning_rate=float(logs["learning_rate"]),
                grad_norm=float(logs["grad_norm"]),
                step_seconds=seconds,
                tokens=step.tokens,
                tokens_per_second=step.tokens / max(seconds, 1e-9),
                mean_token_accuracy=float(sum(accuracy) / len(accuracy)) if accuracy else None,
                memory_bytes=step.memory,
                peak_memory_bytes=step.peak,
            )
            self._step_loss, self._step_tokens = 0.0, 0
            self._track({"loss": step.loss, **{k: logs[k] for k in ("learning_rate", "grad_norm")}})
            self._watch(step.loss, float(logs["grad_norm"]))
            if why := self.slower_because():
                self.slower_because = str
                self._warn(f"training is slower than it could be: {why}")
        for values in getattr(self, "_metrics", {}).values():
            values.clear()

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
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
        self._step_began = time.perf_counter()

    # ---- the whole --------------------------------------------------------------------------

    def fit(self, resume_from: Path | None) -> None:
        """Train to the end; leaves the best weights in the model where the recipe says so."""
        try:
            self.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        except _TrainingDone:
            if self.args.load_best_model_at_end:
                self._load_best_model()

    def begin(self) -> None:
        """Runs before the first step of this attempt, everything loaded."""
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
