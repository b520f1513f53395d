"""What a step came to, journaled; on a GPU when the next step is under way already."""

import math
import time
from collections.abc import Callable
from typing import Any

from engine.recipe import Recipe
from engine.train.backend import Loaded
from engine.train.pending import Pending
from engine.train.rows import TOKENS
from engine.train.steering import Steering

__all__ = ["Journaling", "reads_late"]


def reads_late(recipe: Recipe, loaded: Loaded, *, sharded: bool) -> bool:
    """Whether a step's numbers are read when the next one is under way.

    Reading them waits for the GPU, which then waits for the next step to be launched: 5 % of a step
    of 0.12 s. Not where something must know them at once.
    """
    train = recipe.train
    return (
        loaded.device.startswith("cuda")
        and loaded.dtype != "float16"
        and not sharded
        and train.loss_watchdog != "lower_rate"
        and not train.report_to
    )


class Journaling(Steering):
    """One ``metrics`` line a step. A subclass sets ``flat``, ``late``, ``slower_because``."""

    flat: bool
    late: bool
    slower_because: Callable[[], str]
    """See :class:`engine.train.backend.Loaded`."""
    _pending: Pending | None = None
    _sent = 0
    """The last step whose numbers were set under way."""
    _step_loss: Any = 0.0
    _step_tokens: Any = 0
    _step_began = 0.0

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
        # Each process's gradients are averaged, and the count is of all processes' tokens.
        loss = outputs.loss * self.ranks.count if num_items_in_batch is not None else outputs.loss
        return (loss, outputs) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting them walks over every parameter at every step

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Nothing is kept in ``state.log_history``: steps are journaled, checkpoints stay small."""

    def _send(self, grad_norm: Any, learning_rate: Any) -> None:
        """Have this step's numbers brought from the GPU; journal those of the step before."""
        self._sent = self.state.global_step
        kept = getattr(self, "_metrics", {})  # TRL's; a patched trainer may be without
        seen = kept.get("train", {}).get("mean_token_accuracy") or []
        accuracy = sum(seen) / len(seen) if seen else math.nan
        for values in kept.values():
            values.clear()
        pending = Pending.send(
            # Sharded weights have a sharded norm.
            [
                self.step.loss,
                self.step.tokens,
                grad_norm if self.late else float(grad_norm),
                accuracy,
            ],
            self.accelerator.device,
            number=self.state.global_step,
            epoch=float(self.state.epoch or 0.0),
            learning_rate=float(
                self._get_learning_rate() if learning_rate is None else learning_rate
            ),
            memory=self.step.memory,
            peak=self.step.peak,
        )
        self._step_loss, self._step_tokens = 0.0, 0
        self._journal_pending()
        self._pending = pending

    def _journal_pending(self) -> None:
        """Write the ``metrics`` line of the step whose numbers are on their way, if any."""
        step, self._pending = self._pending, None
        if step is None:
            return
        loss, tokens, grad_norm, accuracy = step.read()
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        self.context.journal.append(
            "metrics",
            step=step.number,
            epoch=step.epoch,
            loss=loss,
            learning_rate=step.learning_rate,
            grad_norm=grad_norm,
            step_seconds=seconds,
            tokens=int(tokens),
            tokens_per_second=int(tokens) / max(seconds, 1e-9),
            mean_token_accuracy=None if math.isnan(accuracy) else accuracy,
            memory_bytes=step.memory,
            peak_memory_bytes=step.peak,
        )
        rate, norm = step.learning_rate, grad_norm
        self._track({"loss": loss, "learning_rate": rate, "grad_norm": norm})
        self._watch(loss, grad_norm)
        if why := self.slower_because():
            self.slower_because = str
            self._warn(f"training is slower than it could be: {why}")
