"""The processes ("ranks") that train one attempt together: which ones, and how each of them ended.

They tell it by small files in ``runs/<id>/ranks/``. Nothing here imports torch.
"""

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.jobs import leases
from engine.jobs.folder import RunFolder
from engine.jobs.processes import start_ticks
from engine.recipe import Recipe

__all__ = ["STOP_SIGNAL", "RankFiles", "check_processes", "is_sharded", "trains_on_gpus"]

STOP_SIGNAL = signal.SIGUSR1
"""What the lead tells the first rank to stop with, once that has announced itself."""

BITSANDBYTES = ("8bit", "paged_", "_32bit", "ademamix", "lion_")
"""Parts of the names of optimisers that are bitsandbytes' own: they cannot take sharded weights."""


class RankFiles:
    """``runs/<id>/ranks/``: one attempt's; the next attempt begins it anew."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.ranks

    @property
    def store(self) -> Path:
        """Where the ranks find each other: a file, so that no port is opened for it."""
        return self.path / "store"

    @property
    def failures(self) -> Path:
        """``{rank: exit code}`` of what the launcher saw fail; below zero: the signal."""
        return self.path / "failures.json"

    def log(self, rank: int) -> Path:
        """What a rank but the first prints: the first one's lines, said once more."""
        return self.path / f"rank-{rank}.log"

    def begin(self) -> None:
        """Forget the last attempt's."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(mode=0o700, exist_ok=True)

    def announce(self, rank: int) -> None:
        """Called by the rank itself, before anything else."""
        pid = os.getpid()
        self._write(f"rank-{rank}.json", {"pid": pid, "start_ticks": start_ticks(pid)})

    def process(self, rank: int) -> tuple[int, int] | None:
        """(pid, start in clock ticks) of a rank that has announced itself."""
        found = read_json(self.path / f"rank-{rank}.json")
        return (found["pid"], found["start_ticks"]) if found else None

    def end(self, rank: int, fields: Mapping[str, Any]) -> None:
        """Called by the rank itself, last: ``state`` is finished, stopped or failed.

        Raises OSError when the disk is full.
        """
        self._write(f"end-{rank}.json", fields)

    def ended(self, rank: int) -> dict[str, Any] | None:
        """What :meth:`end` wrote."""
        return read_json(self.path / f"end-{rank}.json")

    def _write(self, name: str, fields: Mapping[str, Any]) -> None:
        temporary = self.path / f".{name}"
        temporary.write_text(json.dumps(fields, default=str), encoding="utf-8")
        os.rename(temporary, self.path / name)


def read_json(path: Path) -> dict[str, Any] | None:
    """A file of :class:`RankFiles`; None when it is not there."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_sharded(recipe: Recipe) -> bool:
    """Whether the weights are sharded over the processes (FSDP2), else each has all (DDP)."""
    train = recipe.train
    return train.num_processes > 1 and train.fsdp is not False and not recipe.lora.enabled


def trains_on_gpus(recipe: Recipe) -> bool:
    """Whether this machine will train the recipe on GPUs. Raises UsageError: not so many here."""
    model, count = recipe.model, recipe.train.num_processes
    return leases.wanted(model.device, count, leases.visible_here()) > 0 or model.device == "cuda"


def check_processes(recipe: Recipe) -> None:
    """Raise UserError where ``train.num_processes`` or ``train.fsdp`` ask for what cannot be."""
    train, count = recipe.train, recipe.train.num_processes
    if train.fsdp is True and count == 1:
        raise UserError(
            "train.fsdp: weights are sharded over several processes; set train.num_processes to "
            'the number of GPUs, or train.fsdp = "auto"'
        )
    if train.fsdp is True and recipe.lora.enabled:
        raise UserError(
            "train.fsdp: sharding is for full fine-tuning; an adapter is small, so every process "
            'holds it whole (DDP). Set train.fsdp = "auto", or lora.enabled = false'
        )
    if count == 1:
        return
    if recipe.model.backend == "unsloth":
        raise UserError(
            "model.backend: unsloth trains in one process; set model.backend = "
            f'"transformers" (or "auto") for train.num_processes = {count}'
        )
    theirs = any(part in train.optim for part in BITSANDBYTES)
    if is_sharded(recipe) and theirs and train.optim != "adamw_torch_8bit":  # torchao's
        raise UserError(
            f"train.optim: {train.optim} cannot take weights that are sharded over processes; "
            'set train.optim = "adamw_torch_fused", or train.fsdp = false'
        )
    trains_on_gpus(recipe)
