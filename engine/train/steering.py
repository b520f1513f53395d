"""What steers the learning rate: the recipe's schedule, the loss watchdog, a changed recipe."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import EarlyStoppingCallback

from engine.errors import UserError
from engine.train.measuring import Measuring
from engine.train.watchdog import MOST_SKIPPED, Watchdog

__all__ = ["Steering"]


class Steering(Measuring):
    """Keeps to the recipe's rates, or lowers them where the watchdog has to."""

    _grad_norm: Any = None

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        try:
            return super().create_scheduler(num_training_steps, optimizer)
        except (TypeError, ValueError) as error:
            train = self.context.recipe.train
            raise UserError(
                f"train.lr_scheduler_kwargs: {train.lr_scheduler_kwargs} does not fit "
                f"lr_scheduler_type = {train.lr_scheduler_type!r}: {error}"
            ) from error

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

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        self._grad_norm = super()._get_grad_norm(*args, **kwargs)
        return self._grad_norm

    def _warn(self, message: str, **fields: Any) -> None:
        self.context.journal.append("warning", message=message, **fields)


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], torch.Tensor):  # torchao's optimisers hold it so
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
