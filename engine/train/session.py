"""One attempt of one run, from the recipe to the saved adapter, every phase named in the journal.

Nothing heavy is imported before the journal says so: importing torch and friends takes 10 s here
and half a minute with unsloth.
"""

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.data.sources import comes_from_hub
from engine.errors import UserError
from engine.jobs import checkpoints
from engine.jobs.check import check_model
from engine.jobs.context import RunContext, Stopped
from engine.jobs.journal import read_all
from engine.train.ahead import Ahead, read_ahead
from engine.train.backend import Backend, Loaded, choose_backend, choose_device
from engine.train.environment import set_environment
from engine.train.estimated import estimated_peak_bytes
from engine.train.facts import count_parameters, git_commit, gpu_name, versions
from engine.train.ranks import Ranks, join
from engine.train.rows import Encoded
from engine.train.samples import Sampling, sample_prompts
from engine.train.untrained import Untrained

__all__ = ["prepare_data", "run"]


def run(context: RunContext) -> dict[str, Any]:
    """Train ``context.recipe``; returns the fields of the run's ``finished`` state.

    Raises :class:`Stopped` after a requested stop, :class:`UserError` for what the user can put
    right, OSError when the disk is full, and whatever the libraries raise.
    """
    return _Session(context).run()


def prepare_data(context: RunContext) -> None:
    """Only what needs no torch: the model's folder looked at, the dataset made if need be."""
    _Session(context).prepare_data()


class _Session:
    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.recipe = context.recipe
        self.journal = context.journal
        self.ranks = Ranks()
        self._told = 0.0

    def prepare_data(self) -> Any:
        check_model(self.recipe)
        set_environment(
            self.context.home,
            self.recipe.model.model_name_or_path,
            hub_data=comes_from_hub(self.recipe.data),
            report_to=self.recipe.train.report_to,
        )
        if self.recipe.train.full_determinism:  # cuBLAS reads it when it is first used
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        dataset = self._prepare_data()
        self._check_same_data(dataset)
        return dataset

    def run(self) -> dict[str, Any]:
        dataset = self.prepare_data()
        read_ahead(self.recipe)
        with Ahead(self.context.home, self.recipe, dataset, self.context.stop_requested) as ahead:
            with self._phase("importing torch"):
                import torch  # noqa: F401
            ahead.check()
            backend = choose_backend(self.recipe)
            with self._phase(f"importing {backend.name}"):
                backend.import_libraries()
                _quiet()
            ahead.check()
            if self.context.ranks > 1:
                with self._phase(f"waiting for all {self.context.ranks} processes"):
                    self.ranks = join(self.context, choose_device(self.recipe))
            with self._phase("loading the model"):
                loaded = backend.load(self.recipe)
            with self._phase("tokenising") as more:
                splits = self._encoded(ahead)
                more["meanwhile_seconds"] = ahead.seconds
        formatter = ahead.formatter
        sampling = Sampling(
            sample_prompts(self.recipe, formatter, dataset.split("validation"), dataset.shape),
            sorted(formatter.stop_ids),
            formatter.pad_id,
        )
        result = self._train(backend, loaded, dataset, splits, sampling)
        self.ranks.leave()
        return result

    # ---- phases -----------------------------------------------------------------------------

    @contextmanager
    def _phase(self, words: str) -> Iterator[dict[str, Any]]:
        """Name a phase when it begins, and again with its seconds, and more, when it is done."""
        if self.context.stop_requested():
            raise Stopped
        self.context.phase(words)
        began = self._told = time.monotonic()
        more: dict[str, Any] = {}
        yield more
        if self.context.stop_requested():
            raise Stopped
        self.context.phase(words, seconds=time.monotonic() - began, **more)

    def _progress(self, words: str) -> None:
        """Say how far a phase has come, at most once a second."""
        if time.monotonic() - self._told >= 1.0:
            self._told = time.monotonic()
            self.context.phase(words)

    def _prepare_data(self) -> Any:
        from engine.data.prepare import Cancelled, prepare

        with self._phase("preparing data"), _stopping(Cancelled):
            return prepare(
                self.context.home,
                self.recipe,
                progress=lambda progress: self._progress(
                    f"preparing data: {progress.phase}, {progress.rows:,} rows, "
                    f"{progress.fraction:.0%}"
                ),
                cancelled=self.context.stop_requested,
            )

    def _check_same_data(self, dataset: Any) -> None:
        """A resumed run goes on in the middle of an epoch: over the very same rows, or not."""
        if self.context.resume_from is None:
            return
        manifest = checkpoints.read_manifest(self.context.resume_from) or {}
        trained = manifest.get("fingerprint") or self.context.folder.fingerprint()
        if trained and trained != dataset.fingerprint:
            raise UserError(
                f"data.source: {self.recipe.data.source} has other rows than this run was "
                f"begun with (dataset {trained}, now {dataset.fingerprint}); bring them back "
                "to resume, or train a new run"
            )

    def _encoded(self, ahead: Ahead) -> dict[str, Encoded]:
        splits = ahead.splits(self._progress)
        for name, encoded in splits.items():
            if encoded.left_out:
                self._warn(
                    f"{encoded.left_out:,} rows of {name} are left out: their prompt alone fills "
                    f"max_length = {self.recipe.train.max_length}, nothing of the completion is "
                    "left to train on"
                )
            if encoded.not_kept:
                self._warn(
                    f"the token ids of {name} are not kept ({encoded.not_kept}): the next start "
                    "makes them again"
                )
        return splits

    def _warn(self, message: str) -> None:
        self.journal.append("warning", message=message)

    # ---- training ---------------------------------------------------------------------------

    def _train(
        self,
        backend: Backend,
        loaded: Loaded,
        dataset: Any,
        splits: dict[str, Encoded],
        sampling: Sampling,
    ) -> dict[str, Any]:
        from engine.train.measuring import EvaluationGivenUp
        from engine.train.packed import check_rows_apart
        from engine.train.trainer import RunTrainer

        if self.recipe.train.packing and not loaded.flat:
            check_rows_apart(loaded.model)
        facts = self._facts(backend, loaded, dataset, splits)
        trainer = RunTrainer(
            self.context,
            loaded,
            train_dataset=splits["train"].dataset,
            eval_dataset=splits["validation"].dataset,
            sampling=sampling,
            fingerprint=dataset.fingerprint,
            on_start=lambda trainer: self.journal.append(
                "state",
                state="running",
                max_steps=trainer.state.max_steps,
                resume_step=trainer.state.global_step,
                # As the checkpoint has them: what came after it is undone.
                best_eval_loss=trainer.state.best_metric,
                best_step=trainer.state.best_global_step or None,
                **facts,
            ),
            ranks=self.ranks,
        )
        test = splits["test"].dataset
        untrained = Untrained(
            self.context.home,
            self.recipe,
            splits["test"].made.key,
            dtype=loaded.dtype,
            device=loaded.device,
            notes=loaded.notes,
        )
        try:
            if self.recipe.evaluate.before and not self._measured_before():
                if trainer.sharded:
                    trainer.measure_first = lambda: self._measure_before(trainer, test, untrained)
                else:
                    self._measure_before(trainer, test, untrained)
            trainer.fit(self.context.resume_from)
            self._say("test loss after training", trainer)
            trainer.measure(test, "test", "after")
        except EvaluationGivenUp:
            raise Stopped from None
        self._say("saving the adapter", trainer)
        self._save_adapter(trainer, loaded)
        return self._finished(trainer)

    def _measure_before(self, trainer: Any, test: Any, untrained: Untrained) -> None:
        known = untrained.known()
        if self.ranks.agree(known is not None):
            if known:
                trainer.journal_loss(known[0], test, "test", "before", 0.0, measured_by=known[1])
            return
        words = "test loss before training"
        with self._phase(words):
            measured = trainer.measure(test, "test", "before", self._counter(words))
        if self.ranks.first:
            untrained.keep(measured, self.context.folder.id)

    def _say(self, words: str, trainer: Any) -> None:
        """Name what comes after the last step; the step is repeated for whoever follows."""
        step = trainer.state.global_step
        self.journal.append("state", state="running", phase=words, resume_step=step)

    def _counter(self, words: str) -> Any:
        return lambda done, batches: self._progress(f"{words}: {done} of {batches} batches")

    def _measured_before(self) -> bool:
        """An earlier attempt may have measured the untrained model already."""
        seen = any(
            event["type"] == "evaluation" and event.get("which") == "before"
            for event in read_all(self.context.folder.journal)
        )
        return bool(self.ranks.agree(seen))

    def _facts(
        self, backend: Backend, loaded: Loaded, dataset: Any, splits: dict[str, Encoded]
    ) -> dict[str, Any]:
        from engine.train.optim import resolve_optim

        total, trainable = count_parameters(loaded.model)
        return {
            "total_parameters": total,
            "trainable_parameters": trainable,
            "train_rows": splits["train"].rows,
            "validation_rows": splits["validation"].rows,
            "test_rows": splits["test"].rows,
            "train_tokens": splits["train"].tokens,
            "train_sequences": splits["train"].sequences,
            "backend": backend.name,
            "device": loaded.device,
            "dtype": loaded.dtype,
            "optim": resolve_optim(self.recipe, loaded.device),
            "num_processes": self.ranks.count,
            "notes": loaded.notes,
            "versions": versions(),
            "gpu": gpu_name(loaded.device),
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "git_commit": git_commit(),
            "estimated_peak_bytes": estimated_peak_bytes(self.recipe, backend.name, loaded, splits),
        }

    def _save_adapter(self, trainer: Any, loaded: Loaded) -> None:
        from engine.train.saving import save_weights, trained_bytes, write_whole
        from engine.train.sharded import whole_weights

        folder = self.context.folder.adapter
        weights = whole_weights(trainer.model) if trainer.sharded else None
        if not self.ranks.first:
            return

        def write(temporary: Path) -> None:
            save_weights(trainer.model, temporary, weights)
            loaded.tokenizer.save_pretrained(str(temporary))

        write_whole(
            folder.with_name(".tmp-adapter"),
            write,
            lambda temporary: checkpoints.publish(temporary, folder),
            needed=trained_bytes(trainer.model, None),
            what="the adapter",
        )

    def _finished(self, trainer: Any) -> dict[str, Any]:
        state = trainer.state
        losses: dict[int, float] = {}  # of a repeated step the latest attempt's
        for event in read_all(self.context.folder.journal):
            if event["type"] == "metrics" and event["step"] <= state.global_step:
                loss = float(event["loss"])  # "NaN" is a text there
                if math.isfinite(loss):  # else the watchdog skipped the step
                    losses[event["step"]] = loss
                else:
                    losses.pop(event["step"], None)
        best = trainer.best_checkpoint()
        return {
            "steps": state.global_step,
            "train_loss": sum(losses.values()) / len(losses) if losses else None,
            "eval_loss": state.best_metric,
            "best_checkpoint": str(best.relative_to(self.context.folder.path)) if best else None,
            "adapter": str(self.context.folder.adapter.relative_to(self.context.folder.path)),
            "reason": trainer.why_done(),
        }


@contextmanager
def _stopping(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        raise Stopped from None


def _quiet() -> None:
    """Libraries' warnings go to the log only once a cause, progress bars nowhere."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
