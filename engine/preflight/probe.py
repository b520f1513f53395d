"""What training really takes: a few steps of the very trainer on the longest rows. An errand.

``python -m engine.preflight.probe --answers FD SPEC.json``

Two steps on the longest rows of train, an evaluation of the longest rows of validation or test, the
run's sample prompts, another step, and some ordinary ones for the speed. Everything is written to a
scratch folder that is removed at the end; ``runs/`` is left alone.
"""

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.generate.errand import Answers, serve_errand
from engine.home import Home
from engine.jobs import ends
from engine.jobs.context import RunContext
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_all
from engine.preflight.finder import Search
from engine.preflight.peaks import Peaks
from engine.preflight.spec import AGAIN_STEPS, LONGEST_STEPS, ProbeSpec, probe_recipe
from engine.recipe import Recipe
from engine.train.environment import set_environment

__all__ = ["probe"]


def probe(arguments: list[str], answers: Answers) -> dict[str, Any]:
    """Measure as the spec file says; see :meth:`_Probe.run` for the result."""
    spec = ProbeSpec.read(Path(arguments[0]))
    scratch = Path(tempfile.mkdtemp(prefix="probe-", dir=Path(arguments[0]).parent))
    try:
        return _Probe(spec, scratch, answers.status).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Probe:
    def __init__(self, spec: ProbeSpec, scratch: Path, tell: Callable[[str], None]) -> None:
        self.spec = spec
        self.scratch = scratch
        self.tell = tell
        self.home = Home(Path(spec.home))
        self.recipe = Recipe.model_validate(spec.recipe)
        self.attempts: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Bytes and seconds: see the keys below; ``attempts`` has one item a batch size tried.

        Keys: backend, device, gpu, dtype, optim, versions, total_parameters,
        trainable_parameters, loaded_bytes, load_peak_bytes, limit_bytes, device_total_bytes,
        others_bytes, attempts.
        """
        recipe = self.recipe
        set_environment(self.home, recipe.model.model_name_or_path)
        if recipe.train.full_determinism:  # as for a run: cuBLAS reads it when it is first used
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.tell("importing torch")
        import torch  # noqa: F401

        from engine.preflight.probe_rows import ProbeRows
        from engine.train.backend import choose_backend
        from engine.train.facts import count_parameters, gpu_name, versions
        from engine.train.memory import MemoryReader
        from engine.train.optim import resolve_optim

        backend = choose_backend(recipe)
        self.tell(f"importing {backend.name}")
        backend.import_libraries()
        _quiet()
        before = _device_memory(recipe)
        self.tell("loading the model")
        loaded = backend.load(recipe)
        self.loaded = loaded
        self.memory = MemoryReader(loaded.device)
        self.peaks = Peaks(loaded.device)
        self.load_peak, _ = self.peaks.take()
        self.limit = self.spec.limit_bytes or before["free_bytes"]
        total, trainable = count_parameters(loaded.model)
        facts = {
            "backend": backend.name,
            "device": loaded.device,
            "gpu": gpu_name(loaded.device),
            "dtype": loaded.dtype,
            "optim": resolve_optim(recipe, loaded.device),
            "versions": versions(),
            "total_parameters": total,
            "trainable_parameters": trainable,
            "loaded_bytes": self.memory.own()[0],
            "load_peak_bytes": self.load_peak,
            "device_total_bytes": before["total_bytes"],
            "others_bytes": before["used_bytes"],
            "limit_bytes": self.limit,
        }
        self.tell("tokenising the longest rows")
        self.rows = ProbeRows(self.home, recipe, self.spec)
        self._attempts()
        return facts | {"attempts": self.attempts}

    # ---- measuring --------------------------------------------------------------------------

    def _attempts(self) -> None:
        spec = self.spec
        self.trainer: Any = None
        if not spec.search:
            for batch, accumulation in spec.batches:
                self.attempts.append(self._attempt(batch, accumulation))
            return
        search = Search([batch for batch, _ in spec.batches], self.limit)
        accumulations = dict(spec.batches)
        size: int | None = self.recipe.train.per_device_train_batch_size
        while size is not None:
            attempt = self._attempt(size, accumulations[size])
            self.attempts.append(attempt)
            size = search.next(size, attempt["peak_bytes"], "out_of_memory" in attempt)

    def _attempt(self, batch: int, accumulation: int) -> dict[str, Any]:
        """One batch size.

        Keys: per_device_train_batch_size and gradient_accumulation_steps (as asked for), phases
        (name -> peak bytes of the allocator and of its tensors), peak_bytes; then
        device_used_bytes (by everybody, after training), checkpoint_bytes, trained_bytes,
        ends_masked (trained ends of text that the collator's labels leave out), steps,
        step_seconds (of the whole optimiser step, on ordinary rows), longest_step_seconds,
        tokens_per_second, evaluation_row_seconds (of the longest rows), generation_seconds;
        or, instead of those, out_of_memory (during, message).
        """
        result: dict[str, Any] = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "phases": {},
        }
        self.phases: dict[str, dict[str, int]] = result["phases"]
        self.during = ""
        try:
            self._measure(batch, accumulation, result)
        except Exception as error:
            if ends.classify(error)[0] != "out_of_memory":
                raise
            result["out_of_memory"] = {"during": self.during, "message": _first_line(error)}
            self._phase_end()
            self.trainer = None  # it may hold half a step
        self._free()
        peaks = [phase["reserved_bytes"] for phase in self.phases.values()]
        result["peak_bytes"] = max(self.load_peak, *peaks) if peaks else self.load_peak
        return result

    def _measure(self, batch: int, accumulation: int, result: dict[str, Any]) -> None:
        from engine.train.saving import trained_bytes

        recipe = probe_recipe(self.recipe, batch, accumulation)
        name = f"batch-{batch}"
        folder = RunFolder(self.scratch / "runs" / name)
        folder.path.mkdir(parents=True)
        journal = Journal(folder.journal)
        context = RunContext(
            home=self.home,
            folder=folder,
            recipe=recipe,
            attempt=1,
            journal=journal,
            resume_from=None,
            stop_requested=lambda: False,
            take_controls=lambda: [],
        )
        words = f"batch {batch}"
        try:
            trainer = self._trainer(context, batch, accumulation)
            self._phase("evaluation", f"{words}: evaluating the longest rows")
            trainer.measure(self.rows.evaluation, "validation", "before")
            self._phase("training", f"{words}: training on the longest rows")
            trainer.fit(None)
            result["checkpoint_bytes"] = trainer.checkpoint_bytes
            result["device_used_bytes"] = self.memory.whole()["used_bytes"]
            result["trained_bytes"] = trained_bytes(trainer.model, None)
            result["ends_masked"] = trainer.ends_masked
            self._phase_end()
        finally:
            journal.close()
        events = list(read_all(folder.journal))
        steps = [event for event in events if event["type"] == "metrics"]
        result["steps"] = len(steps)
        ordinary = steps[LONGEST_STEPS + AGAIN_STEPS :] or steps[-1:]
        # The first ordinary step is the first of its shapes; compiled kernels settle by halves.
        settled = ordinary[len(ordinary) // 2 :]
        used = recipe.train.gradient_accumulation_steps
        seconds = statistics.median(event["step_seconds"] for event in settled)
        tokens = statistics.mean(event["tokens"] for event in settled)
        result["step_seconds"] = seconds * accumulation / used
        result["tokens_per_second"] = tokens / max(seconds, 1e-9)
        evaluated = [event for event in events if event["type"] == "evaluation"][-1]
        result["evaluation_row_seconds"] = evaluated["seconds"] / evaluated["rows"]
        answered = [event["seconds"] for event in events if event["type"] == "sample"]
        result["generation_seconds"] = max(answered, default=None)
        result["longest_step_seconds"] = [event["step_seconds"] for event in steps[:LONGEST_STEPS]]

    def _trainer(self, context: RunContext, batch: int, accumulation: int) -> Any:
        """A trainer of this batch size: a new one, or the one that is there, made to begin anew."""
        from engine.preflight.probe_trainer import ProbeTrainer

        rows = self.rows.for_steps(batch, accumulation)
        if self.trainer is None:
            self.trainer = ProbeTrainer(
                context,
                self.loaded,
                train_dataset=rows,
                eval_dataset=self.rows.evaluation,
                sampling=self.rows.sampling,
                fingerprint=self.rows.fingerprint,
                on_start=lambda trainer: None,
            )
        else:
            self.trainer.begin_again(context, rows)
        self.trainer.ends = self.rows.ends
        self.trainer.prepare(
            self.spec.timing_seconds,
            lambda: self._evaluate(batch),
            lambda: self._phase("speed", f"batch {batch}: timing ordinary steps"),
        )
        return self.trainer

    def _evaluate(self, batch: int) -> None:
        """In the middle of training, as in a run: what comes after finds memory in other pieces."""
        self._phase("evaluation", f"batch {batch}: evaluating while training")
        self.trainer.measure(self.rows.evaluation, "validation", "during")
        self._phase("generation", f"batch {batch}: answering")
        self.trainer.sample("during")
        self._phase("training", f"batch {batch}: training on the longest rows again")

    # ---- phases -----------------------------------------------------------------------------

    def _phase(self, name: str, words: str) -> None:
        self._phase_end()
        self.during = name
        self.tell(words)

    def _phase_end(self) -> None:
        """Note the peaks since the last phase; of a phase that comes twice the higher ones."""
        reserved, allocated = self.peaks.take()
        if self.during:
            found = self.phases.setdefault(self.during, {"reserved_bytes": 0, "allocated_bytes": 0})
            found["reserved_bytes"] = max(found["reserved_bytes"], reserved)
            found["allocated_bytes"] = max(found["allocated_bytes"], allocated)
        self.during = ""

    def _free(self) -> None:
        """Between two batch sizes: gradients and what the allocator keeps go, the model stays."""
        for parameter in self.loaded.model.parameters():
            parameter.grad = None
        if self.trainer is not None:
            self.trainer.optimizer = None
        self.peaks.free()


def _device_memory(recipe: Recipe) -> dict[str, int]:
    """Total, free and used bytes of the device before anything of ours is on it."""
    import torch

    from engine.train.backend import choose_device

    device = choose_device(recipe)
    if device == "cpu":
        import psutil

        host = psutil.virtual_memory()
        own = psutil.Process().memory_info().rss
        return {
            "total_bytes": host.total,
            "free_bytes": host.available + own,
            "used_bytes": host.total - host.available - own,
        }
    free, total = torch.cuda.mem_get_info(device)  # makes the context, which counts as used
    return {"total_bytes": total, "free_bytes": free, "used_bytes": total - free}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _quiet() -> None:
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()


if __name__ == "__main__":
    sys.exit(serve_errand(probe))
