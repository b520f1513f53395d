"""A whole preflight without torch: resolved recipe, memory by arithmetic, disk, pace, warnings.

:func:`quick_look` is for a form that is filled in; :func:`look` for a dataset that is prepared;
:func:`measure` adds what a probe found.
"""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.preflight import warnings
from engine.preflight.finder import MARGIN, batch_choices
from engine.preflight.memory import MemoryEstimate, estimate, optimizer_bytes
from engine.preflight.pace import Pace, measured_pace, remembered_pace
from engine.preflight.place import Place, find_place
from engine.preflight.resolve import Resolved, prepared, resolve
from engine.preflight.shape import ModelShape, read_shape
from engine.preflight.warnings import PreflightWarning
from engine.recipe import Recipe

__all__ = ["Disk", "Preflight", "look", "measure", "quick_look", "run_probe"]

CONTEXT_BYTES = 600 << 20
"""What CUDA takes on a card for a process, besides what its allocator reserves."""
QUICK_ROWS = 1000


@dataclass(frozen=True)
class Disk:
    """Checkpoints of a run, in bytes."""

    checkpoint_bytes: int
    kept: int
    """Checkpoints that are there at a time: those kept, the best, and the one being written."""
    needed_bytes: int
    """With the result's own weights."""
    free_bytes: int


@dataclass
class Preflight:
    """Everything that is known before a run starts."""

    resolved: Resolved
    place: Place
    shape: ModelShape | None
    """None where the model is not on this machine yet."""
    estimate: MemoryEstimate | None
    disk: Disk | None
    pace: Pace | None
    warnings: list[PreflightWarning]
    probe: dict[str, Any] | None = None
    """What :mod:`engine.preflight.probe` measured: its facts and its attempts."""
    finder: dict[str, Any] | None = None
    """A batch-size search: ``best``, ``fastest`` (attempts) and ``settings`` for the recipe."""

    @property
    def attempt(self) -> dict[str, Any] | None:
        """The probe's attempt with the recipe's own batch, or what the search chose."""
        if self.finder is not None:
            best: dict[str, Any] | None = self.finder["best"]
            return best
        return self.probe["attempts"][0] if self.probe else None


def quick_look(home: Home, recipe: Recipe) -> Preflight | None:
    """As :func:`look`, from the first rows where the dataset was never counted: under a second.

    None where the dataset is not prepared: nothing is cleaned here. Raises :class:`UserError`.
    """
    dataset = prepared(home, recipe)
    if dataset is None:
        return None
    return look(home, resolve(home, recipe, dataset, sample=QUICK_ROWS))


def look(home: Home, resolved: Resolved) -> Preflight:
    """Everything but measuring. Raises :class:`UserError` for what cannot work at all."""
    recipe = resolved.recipe
    place = find_place(recipe, padding=resolved.lengths_differ)
    found = warnings.data_warnings(resolved)
    try:
        shape: ModelShape | None = read_shape(recipe)
    except UserError as error:
        shape = None
        found.append(PreflightWarning("model_size_unknown", str(error), "note"))
    memory = disk = None
    if shape is not None:
        memory = estimate(recipe, shape, place.setup, resolved.longest, resolved.longest_evaluated)
        trained = shape.trainable(recipe) * 4
        disk = _disk(home, resolved, trained + optimizer_bytes(recipe, shape, place.setup), trained)
        context = CONTEXT_BYTES if place.gpu else 0
        found += _present(
            warnings.context_too_long(recipe, shape.max_positions),
            warnings.module_missing(recipe, shape.matrices) if shape.stored_bytes else None,
            warnings.memory_too_small(
                memory.peak + context, place.free_bytes, place.total_bytes, measured=False
            ),
            _disk_warning(disk),
        )
    found += _present(warnings.gpu_shared(place.gpu))
    pace = remembered_pace(home, resolved, place.gpu.name if place.gpu else None)
    return Preflight(resolved, place, shape, memory, disk, pace, found)


def measure(home: Home, seen: Preflight, probe: dict[str, Any], search: bool) -> Preflight:
    """What the probe measured in place of what was estimated."""
    seen.probe = probe
    limit = probe["limit_bytes"]
    attempts = probe["attempts"]
    if search:
        fitting = [a for a in attempts if _fits(a, limit)]
        best = max(fitting, key=lambda a: a["per_device_train_batch_size"], default=None)
        fastest = max(fitting, key=lambda a: a["tokens_per_second"], default=None)
        keys = ("per_device_train_batch_size", "gradient_accumulation_steps")
        settings = {f"train.{key}": best[key] for key in keys} if best else {}
        seen.finder = {"best": best, "fastest": fastest, "settings": settings}
    attempt = seen.attempt
    seen.warnings = [
        w for w in seen.warnings if w.key not in ("memory_too_small", "disk_too_small")
    ]
    if attempt is None or "out_of_memory" in attempt:
        seen.warnings.append(_out_of_memory(attempt or attempts[-1], limit))
        seen.warnings += _present(_disk_warning(seen.disk) if seen.disk else None)
        return seen
    seen.pace = measured_pace(seen.resolved, attempt)
    trained = attempt["trained_bytes"]
    seen.disk = _disk(home, seen.resolved, attempt["checkpoint_bytes"], trained)
    seen.warnings += _present(
        warnings.memory_too_small(
            attempt["peak_bytes"], limit, probe["device_total_bytes"], measured=True
        ),
        _disk_warning(seen.disk),
        warnings.end_masked(attempt["ends_masked"]),
    )
    return seen


def run_probe(
    home: Home,
    resolved: Resolved,
    on_status: Callable[[str], None] | None = None,
    *,
    search: bool = False,
    limit_bytes: int | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Measure in a worker process; see :mod:`engine.preflight.probe`. Takes from 20 s on.

    ``search``: the batch sizes that leave the effective batch as it is, until the largest one that
    fits is found. Ctrl+C ends the worker, and so does ``cancelled()``. Raises :class:`UserError`
    with the worker's words.
    """
    from engine.generate.errand import run_errand

    train = resolved.recipe.train
    own = (train.per_device_train_batch_size, train.gradient_accumulation_steps)
    spec = resolved.probe_spec(home, batch_choices(*own) if search else [own])
    spec.search, spec.limit_bytes = search, limit_bytes
    with tempfile.TemporaryDirectory(prefix="tunebench-probe-") as folder:
        file = Path(folder) / "spec.json"
        spec.write(file)
        return run_errand("engine.preflight.probe", [str(file)], on_status, cancelled=cancelled)


def _fits(attempt: dict[str, Any], limit: int) -> bool:
    return "out_of_memory" not in attempt and attempt["peak_bytes"] <= (1 - MARGIN) * limit


def _out_of_memory(attempt: dict[str, Any], limit: int) -> PreflightWarning:
    size = attempt["per_device_train_batch_size"]
    if "out_of_memory" not in attempt:
        return PreflightWarning(
            "no_batch_fits", f"not even a batch of {size} fits with a margin", "error"
        )
    during = attempt["out_of_memory"]["during"] or "loading"
    return PreflightWarning(
        "out_of_memory",
        f"a batch of {size} runs out of memory during {during}; --find-batch-size finds one that "
        "fits, train.gradient_checkpointing = true takes less",
        "error",
    )


def _disk(home: Home, resolved: Resolved, each: int, result: int) -> Disk:
    train = resolved.recipe.train
    best = 1 if train.load_best_model_at_end else 0
    written = max(resolved.checkpoints, resolved.evaluations if best else 0)
    kept = min(train.save_total_limit + 1 + best, written)
    return Disk(each, kept, kept * each + result, _free_disk(home.runs))


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _disk_warning(disk: Disk) -> PreflightWarning | None:
    return warnings.disk_too_small(
        disk.needed_bytes, disk.free_bytes, disk.kept, disk.checkpoint_bytes
    )


def _present(*found: PreflightWarning | None) -> list[PreflightWarning]:
    return [warning for warning in found if warning]


def hours(seconds: float) -> float:
    """To three digits: nobody plans by more."""
    value = seconds / 3600
    if not value:
        return 0.0
    return round(value, 2 - math.floor(math.log10(value)))
