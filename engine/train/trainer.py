"""TRL's SFTTrainer, made to journal every step's own loss and to survive being stopped or killed.

Imported by worker processes only, and after unsloth where unsloth is used (it patches TRL).
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from trl import SFTTrainer

from engine.errors import UserError
from engine.jobs import checkpoints
from engine.jobs.context import RunContext, Stopped
from engine.train.arguments import training_arguments
from engine.train.backend import Loaded
from engine.train.loss import SplitLoss, split_loss
from engine.train.memory import MemoryReader
from engine.train.packed import TOKENS, PackedCollator
from engine.train.saving import load_weights, save_weights, trained_bytes, write_whole

__all__ = ["EvaluationGivenUp", "RunTrainer"]

MEMORY_SECONDS = 2.0
SPARE_BYTES = 1 << 20
"""What a checkpoint holds beside weights and optimiser state: random state, names and the like."""


class EvaluationGivenUp(Exception):
    """A stop was requested while an evaluation ran."""


class _TrainingDone(Exception):
    """The checkpoint resumed from was the last one: nothing is left to train."""


class RunTrainer(SFTTrainer):
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
        on_start: Callable[["RunTrainer"], None],
    ) -> None:
        self.context = context
        self.memory = MemoryReader(loaded.device)
        self.on_start = on_start
        self.evaluation_asked = False
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
        if context.recipe.train.packing:
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
        train = context.recipe.train
        if train.early_stopping_patience:
            self.add_callback(
                EarlyStoppingCallback(train.early_stopping_patience, train.early_stopping_threshold)
            )

    # ---- one step ---------------------------------------------------------------------------

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        packed = inputs.pop(TOKENS, None)
        tokens = (inputs["attention_mask"] if packed is None else packed).sum()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._step_loss = self._step_loss + loss.detach()
        self._step_tokens = self._step_tokens + tokens
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting them walks over every parameter at every step

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Journals a step. Nothing is kept in ``state.log_history``: checkpoints stay small."""
        seen = getattr(self, "_metrics", {}).get("train", {})
        accuracy = seen.get("mean_token_accuracy") or []
        if "loss" in logs and "grad_norm" in logs:
            loss, tokens = float(self._step_loss), int(self._step_tokens)
            seconds = time.perf_counter() - self._step_began
            used, peak = self.memory.own()
            self.context.journal.append(
                "metrics",
                step=self.state.global_step,
                epoch=self.state.epoch,
                loss=loss,
                learning_rate=float(logs["learning_rate"]),
                grad_norm=float(logs["grad_norm"]),
                step_seconds=seconds,
                tokens=tokens,
                tokens_per_second=tokens / max(seconds, 1e-9),
                mean_token_accuracy=sum(accuracy) / len(accuracy) if accuracy else None,
                memory_bytes=used,
                peak_memory_bytes=peak,
            )
            self._step_loss, self._step_tokens = 0.0, 0
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
        self._step_began = time.perf_counter()

    # ---- evaluation -------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The validation loss, journaled. Early stopping and best-checkpoint tracking read it."""
        measured = self.measure(self.eval_dataset, "validation", "during")
        metrics = {f"{metric_key_prefix}_loss": measured.mean}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

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
        device = self.accelerator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            loader = self.get_eval_dataloader(dataset)

            def look(number: int) -> None:
                if self.context.stop_requested():
                    raise EvaluationGivenUp
                if progress:
                    progress(number, len(loader))

            measured = split_loss(model, loader, self.accelerator.autocast, look)
        model.train(was_training)
        self.context.journal.append(
            "evaluation",
            step=self.state.global_step,
            split=split,
            which=which,
            loss=measured.mean,
            rows=len(dataset),
            tokens=measured.tokens,
            seconds=time.perf_counter() - began,
            mean_token_accuracy=measured.mean_token_accuracy,
        )
        if not math.isfinite(measured.mean):
            raise self._diverged(measured.mean, split)
        return measured

    def _diverged(self, loss: float, split: str) -> UserError:
        """Weights that give no finite loss never recover: no hour and no checkpoint is spent."""
        recipe, step = self.context.recipe, self.state.global_step
        if step == 0:
            return UserError(
                f"model.model_name_or_path: the {split} loss is {loss} before any training; the "
                f"weights are damaged, or model.dtype = {recipe.model.dtype!r} is too narrow for "
                "them"
            )
        return UserError(
            f"train.learning_rate: the {split} loss is {loss} at step {step}, training has "
            f"diverged; start a run with less than {recipe.train.learning_rate:g}"
        )

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return self._given_up_means_stop(lambda: super(RunTrainer, self)._evaluate(*args, **kwargs))

    def _given_up_means_stop(self, evaluate: Callable[[], Any]) -> Any:
        """A stop during an evaluation: save at this step, with the evaluation still marked due."""
        try:
            if self.context.stop_requested():
                raise EvaluationGivenUp
            return evaluate()
        except EvaluationGivenUp:
            if not checkpoints.is_whole(self._checkpoint(self.state.global_step)):
                self._save_checkpoint(self.model)
            raise Stopped from None

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if best and self.args.load_best_model_at_end:
            self.control.should_save = True  # the best weights can only be loaded if they are kept
        return best

    # ---- checkpoints ------------------------------------------------------------------------

    def _checkpoint(self, step: int) -> Path:
        return self.context.folder.checkpoints / f"step-{step}"

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        # No pickled arguments, and no tokenizer of 17 MB at every checkpoint.
        save_weights(self.model, Path(output_dir or self.args.output_dir))

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        began = time.perf_counter()
        step = self.state.global_step
        final = self._checkpoint(step)
        best = self.state.best_global_step
        if best and (best == step or self._checkpoint(best).is_dir()):
            self.state.best_model_checkpoint = str(self._checkpoint(best))
        weight = trained_bytes(self.model, self.optimizer)
        size = write_whole(
            final.parent / f".tmp-{step}-{os.getpid()}",
            self._write_checkpoint,
            lambda temporary: checkpoints.publish(temporary, final, step=step),
            needed=weight + SPARE_BYTES,
            what=f"the checkpoint of step {step}",
        )
        self.context.journal.append(
            "checkpoint",
            step=step,
            path=str(final.relative_to(self.context.folder.path)),
            bytes=size,
            seconds=time.perf_counter() - began,
            best=best == step,
        )
        checkpoints.rotate(
            self.context.folder,
            self.args.save_total_limit,
            self._checkpoint(best) if best else None,
        )

    def _write_checkpoint(self, folder: Path) -> None:
        self.save_model(str(folder), _internal_call=True)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        for part in [*self.callback_handler.callbacks, self.control]:
            if (name := type(part).__name__) in self.state.stateful_callbacks:
                self.state.stateful_callbacks[name] = part.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest validation loss, if it was kept."""
        best = self.state.best_global_step
        return self._checkpoint(best) if best and self._checkpoint(best).is_dir() else None

    def _load_best_model(self) -> None:
        best = self.state.best_global_step
        if found := self.best_checkpoint():
            load_weights(self.model, found)
        elif best and best != self.state.global_step:
            self.context.journal.append(
                "warning",
                message=f"the checkpoint of step {best}, the best one, is gone: the result has the "
                f"weights of the last step, {self.state.global_step}",
            )

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
        if self.context.stop_requested():
            raise Stopped
        self.on_start(self)
        saved = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        done = saved.get("should_training_stop", False) if self.state.global_step else False
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

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        trainer = self.trainer
        for request in trainer.context.take_controls():
            if request.action == "save":
                control.should_save = True
            elif request.action == "evaluate":
                trainer.evaluation_asked = True
        if trainer.context.stop_requested():
            self.stopping = control.should_save = True
        if time.perf_counter() - trainer._memory_told >= MEMORY_SECONDS:
            trainer._memory_told = time.perf_counter()
            trainer.context.journal.append("memory", **trainer.memory.whole())
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopping:
            raise Stopped
