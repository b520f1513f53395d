"""The trainer's checkpoints: whole or not at all, the best one kept and loaded at the end."""

import os
import time
from pathlib import Path
from typing import Any

from engine.jobs import checkpoints
from engine.train.saving import save_weights, trained_bytes, write_whole
from engine.train.together import Together

__all__ = ["Keeping"]

SPARE_BYTES = 1 << 20
"""What a checkpoint holds beside weights and optimiser state: random state, names and the like."""


class Keeping(Together):
    """Writes and finds the checkpoints of a run. A subclass sets ``fingerprint``, the dataset's."""

    control: Any
    fingerprint: str

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

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if best and self.args.load_best_model_at_end:
            self.control.should_save = True  # the best weights can only be loaded if they are kept
        return best
