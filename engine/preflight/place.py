"""Where a recipe would be trained from here: backend, device, card. Read without torch."""

import importlib.util
import os
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Literal

from engine.errors import UserError
from engine.jobs.check import NO_HALF_ON_CPU, unsloth_lacks
from engine.preflight.memory import Setup, fits_unpacked
from engine.preflight.shape import read_shape
from engine.recipe import Recipe
from engine.system.gpu import Gpu, GpuState, read_gpus
from engine.train.fused.choice import read_config, why_plain

__all__ = ["Place", "find_place"]


RECORDING = "each batch shape is recorded once (0.3 s, paid back by 10 batches)"
"""Measured on an H200 with the 3B shape: 0.112 s a step instead of 0.141."""


@dataclass(frozen=True)
class Place:
    """What ``auto`` comes to, and the memory that is there. Bytes."""

    setup: Setup
    gpu: Gpu | None
    total_bytes: int
    free_bytes: int
    """Of the card, or of the host where the CPU trains."""
    layers: str = ""
    """How the layers are computed, and why not faster; in words."""

    @property
    def name(self) -> str:
        return self.gpu.name if self.gpu else "the CPU"


def find_place(recipe: Recipe, gpus: GpuState | None = None, *, padding: bool = True) -> Place:
    """As the worker will choose. ``padding``: whether batches have rows of several lengths.

    Raises :class:`UserError` where the recipe asks for a device or backend that is not there.
    """
    gpu = _card(gpus if gpus is not None else read_gpus(), recipe)
    unsloth = importlib.util.find_spec("unsloth") is not None
    wanted, lacks = recipe.model.backend, unsloth_lacks(recipe)
    if wanted == "unsloth" and lacks:
        raise UserError(f'{lacks}; set model.backend = "transformers", or leave it out')
    if wanted == "unsloth" and not (unsloth and gpu):
        why = "no CUDA GPU is seen here" if unsloth else "it is not installed"
        raise UserError(
            f'model.backend: unsloth cannot be used ({why}); set model.backend = "transformers"'
        )
    plain = why_plain(recipe, read_config(recipe), "cuda" if gpu else "cpu")
    taken = wanted == "unsloth" or (
        wanted == "auto"
        and recipe.model.kernels == "auto"
        and unsloth
        and gpu is not None
        and not lacks
        and bool(plain)
    )
    dtype = recipe.model.dtype
    if dtype == "auto":
        dtype = _auto_dtype(gpu) if gpu else "float32"
    if dtype == "float16" and not gpu:
        raise UserError(NO_HALF_ON_CPU)
    setup = Setup(
        backend="unsloth" if taken else "transformers",
        device="cuda" if gpu else "cpu",
        dtype=dtype,
        padding=padding and not recipe.train.packing,
        fused=not taken and not plain,
    )
    if gpu is not None:
        total = gpu.memory_total or 0
        free = gpu.memory_free if gpu.memory_free is not None else total
        setup = _unpacking(recipe, setup, free)
        return Place(setup, gpu, total, free, how_layers(setup, plain))
    import psutil

    host = psutil.virtual_memory()
    return Place(setup, None, host.total, host.available, how_layers(setup, plain))


def _auto_dtype(gpu: Gpu) -> Literal["bfloat16", "float16"]:
    """As the worker decides: bfloat16, but float16 on cards that only emulate it (a T4, a V100)."""
    return "float16" if gpu.capability and gpu.capability < (8, 0) else "bfloat16"


def how_layers(setup: Setup, plain: str) -> str:
    """How the layers are computed, in words; ``plain``: why not by the fused ones."""
    if setup.fused:
        unpacked = ", 4-bit weights also held unpacked" if setup.unpacked else ""
        recorded = f"; {RECORDING}" if setup.device == "cuda" else ""
        return f"fused, rows without padding{unpacked}{recorded}"
    if setup.backend == "unsloth":
        return f"unsloth's, rows padded to max_length (not fused: {plain})"
    words = "Transformers', rows padded to the longest of a batch"
    return words if setup.device == "cpu" else f"{words} (not fused: {plain})"


def _unpacking(recipe: Recipe, setup: Setup, free: int) -> Setup:
    """As the worker decides: see ``model.unpack_4bit``."""
    if not (setup.fused and recipe.model.load_in_4bit):
        return setup
    wanted = recipe.model.unpack_4bit
    if wanted == "auto":
        try:
            wanted = fits_unpacked(recipe, read_shape(recipe), setup, free)
        except UserError:
            wanted = False
    return replace(setup, unpacked=wanted)


def _card(state: GpuState, recipe: Recipe) -> Gpu | None:
    """The card that torch calls cuda:0, or None for the CPU."""
    wanted = recipe.model.device
    if wanted == "cpu":
        return None
    cards = _visible(list(state))
    if cards and _torch_has_cuda():
        return cards[0]
    if wanted == "cuda":
        raise UserError(
            'model.device: "cuda" asked for, but there is none here '
            f"({(state.reason or 'torch sees no GPU').rstrip('.')}); "
            '"tunebench doctor" says why, model.device = "auto" takes the CPU'
        )
    return None


def _visible(gpus: list[Gpu]) -> list[Gpu]:
    """What ``CUDA_VISIBLE_DEVICES`` leaves, in its order: indices or beginnings of UUIDs."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus
    found = []
    for name in filter(None, (part.strip() for part in chosen.split(","))):
        matching = [g for g in gpus if str(g.index) == name or g.uuid.startswith(name)]
        if not matching:
            break  # as CUDA does: what comes after a wrong one is not seen
        found.append(matching[0])
    return found


def _torch_has_cuda() -> bool:
    """Whether the torch that is installed was built for CUDA, by its version."""
    try:
        return "+cpu" not in metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False
