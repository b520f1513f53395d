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
from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from engine.errors import Diverged, UserError
from engine.jobs import checkpoints
from engine.jobs.context import RunContext, Stopped
from engine.jobs.ranks import is_sharded
from engine.train.arguments import training_arguments
from engine.train.backend import Loaded
from engine.train.loss import SplitLoss, split_loss
from engine.train.memory import MemoryReader
from engine.train.packed import TOKENS, PackedCollator
from engine.train.ranks import Ranks
from engine.train.sampler import GroupedByLength
from engine.train.samples import Sampling, generate
from engine.train.saving import save_weights, trained_bytes, write_whole
from engine.train.together import EVALUATE, MEMORY, SAMPLE, SAVE, STOP, Together, wishes
from engine.train.trackers import Trackers
from engine.train.watchdog import MOST_SKIPPED, Watchdog

__all__ = ["EvaluationGivenUp", "RunTrainer"]

MEMORY_SECONDS = 2.0
SPARE_BYTES = 1 << 20
"""What a checkpoint holds beside weights and optimiser state: random state, names and the like."""


class EvaluationGivenUp(Exception):
    """A stop was requested while an evaluation ran."""


class _TrainingDone(Exception):
    """The checkpoint resumed from was the last one: nothing is left to train."""


class RunTrainer(Together):
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
        self._for_generation = loaded.for_generation
        self._grad_norm: Any = None
        self._last_validation_loss = math.inf
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

    def _warn(self, message: str, **fields: Any) -> None:
        self.context.journal.append("warning", message=message, **fields)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = list(map(len, (train_dataset or self.train_dataset)["input_ids"]))
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedByLength(lengths, size * self.args.world_size, self.args.seed)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (TypeError, ValueError) as error:
            train = self.context.recipe.train
            raise UserError(
                f"train.lr_scheduler_kwargs: {train.lr_scheduler_kwargs} does not fit "
                f"lr_scheduler_type = {train.lr_scheduler_type!r}: {error}"
            ) from error

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

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        self._grad_norm = super()._get_grad_norm(*args, **kwargs)
        return self._grad_norm

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
                mean_token_accuracy=sum(accuracy) / len(accuracy) if accuracy else None,
                memory_bytes=step.memory,
                peak_memory_bytes=step.peak,
            )
            self._step_loss, self._step_tokens = 0.0, 0
            self._track({"loss": step.loss, **{k: logs[k] for k in ("learning_rate", "grad_norm")}})
            self._watch(step.loss, float(logs["grad_norm"]))
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

    def _track(self, logs: dict[str, Any]) -> None:
        if self.trackers:
            logs["epoch"] = self.state.epoch
            self.trackers.tell("on_log", self.args, self.state, self.control, logs=logs)

    # ---- the watchdog -----------------------------------------------------------------------

    @property
    def watchdog(self) -> Watchdog:
        """The one that counts: a resume puts one with the checkpoint's state in its place."""
        return next(cb for cb in self.callback_handler.callbacks if isinstance(cb, Watchdog))

    def before_step(self) -> None:
        """Skip a step whose loss or gradients are no numbers, where the recipe says so.

        Without gradients no optimiser changes anything. Only then: looking costs a wait for the
        GPU before the step.
        """
        if self.context.recipe.train.loss_watchdog == "lower_rate" and not (
            math.isfinite(self.ranks.sum([self._step_loss])[0])
            and (self.args.fp16 or math.isfinite(self._grad_norm))
        ):
            self.optimizer.zero_grad(set_to_none=True)

    def _watch(self, loss: float, grad_norm: float) -> None:
        train = self.context.recipe.train
        if train.loss_watchdog == "off":
            return
        why = self.watchdog.look(loss, train)
        # With float16 the loss scaler meets infinite gradients by itself.
        finite = math.isfinite(grad_norm) or self.args.fp16
        if not (why or finite):
            why = f"the gradients' norm is {grad_norm}"
        skipped = 0 if finite and math.isfinite(loss) else self.watchdog.skipped + 1
        self.watchdog.skipped = skipped
        if not why:
            return
        if skipped >= MOST_SKIPPED:
            words = f"{why} for {skipped} steps in a row, none of which counts"
            raise self._diverged(f"{words}, at step {self.state.global_step}", loss)
        if train.loss_watchdog == "stop":
            raise self._diverged(f"{why} at step {self.state.global_step}", loss)
        self.watchdog.factor *= train.loss_watchdog_factor
        self.follow_recipe()
        self._warn(
            f"{why}: the learning rate is multiplied by {train.loss_watchdog_factor:g} from step "
            f"{self.state.global_step + 1} on",
            step=self.state.global_step,
        )

    def follow_recipe(self) -> None:
        """Set what a checkpoint brought back to what the recipe says now.

        The rate (times what the watchdog made of it), the schedule from this step on, weight decay,
        patience, and when it evaluates and saves: a child run may have others than the run whose
        checkpoint it goes on from.
        """
        self.state.eval_steps, self.state.save_steps = self.args.eval_steps, self.args.save_steps
        recipe, groups = self.context.recipe.train, self.optimizer.param_groups
        rate = recipe.learning_rate * self.watchdog.factor
        scheduler = self.lr_scheduler
        for place, group in enumerate(groups):
            group["weight_decay"] = recipe.weight_decay if place == 0 else 0.0
            group["initial_lr"] = rate
        if isinstance(scheduler, LambdaLR):
            if hasattr(scheduler, "num_bad_epochs"):  # it was reduce_lr_on_plateau's state
                scheduler.last_epoch = self.state.global_step
            scheduler.base_lrs = [rate for _ in groups]
            shares = [share(scheduler.last_epoch) for share in scheduler.lr_lambdas]
            for group, share in zip(groups, shares, strict=True):
                _set_rate(group, rate * share)
            scheduler._last_lr = [rate * share for share in shares]  # what is reported
        elif self.watchdog.factor != 1.0:
            for group in groups:
                _set_rate(group, min(float(group["lr"]), rate))
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience = recipe.early_stopping_patience
                callback.early_stopping_threshold = recipe.early_stopping_threshold

    # ---- evaluation -------------------------------------------------------------------------

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
                for_generation=self._for_generation,
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
            raise self._diverged(
                f"the {split} loss is {measured.mean} at step {self.state.global_step}",
                measured.mean,
            )
        return measured

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
        return self._given_up_means_stop(lambda: super(RunTrainer, self)._evaluate(*args, **kwargs))

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
        weights = self.collected[0] if self.collected else None
        save_weights(self.model, Path(output_dir or self.args.output_dir), weights)

    def write_checkpoint(self) -> None:
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
            lambda temporary: checkpoints.publish(
                temporary, final, step=step, fingerprint=self.fingerprint
            ),
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

    def _settle_weights(self) -> None:
        """Schedule-free optimisers train on other weights than those they are to be judged by.

        The next training step takes the others up again by itself.
        """
        settle = getattr(getattr(self.optimizer, "optimizer", None), "eval", None)
        if callable(settle):
            settle()

    def _write_checkpoint(self, folder: Path) -> None:
        self._save(str(folder))
        self.save_optimizer(folder)
        self._save_scaler(str(folder))
        for part in [*self.callback_handler.callbacks, self.control]:
            if (name := type(part).__name__) in self.state.stateful_callbacks:
                self.state.stateful_callbacks[name] = part.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def best_checkpoint(self) -> Path | None:
        """The checkpoint with the lowest validation loss, if it is there and whole."""
        best = self.state.best_global_step
        found = self._checkpoint(best) if best else None
        return found if found and checkpoints.is_whole(found) else None

    def _load_best_model(self) -> None:
        best = self.state.best_global_step
        if found := self.best_checkpoint():
            self.put_weights(found)
        elif best and best != self.state.global_step:
            self.context.journal.append(
                "warning",
                message=f"the checkpoint of step {best}, the best one, is gone or damaged: the "
                f"result has the weights of the last step, {self.state.global_step}",
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


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], torch.Tensor):  # torchao's optimisers hold it so
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


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
