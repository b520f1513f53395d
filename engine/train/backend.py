"""What a backend is (it loads a recipe's model ready to train), and which one to take."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import UserError
from engine.jobs.check import unsloth_lacks
from engine.recipe import Recipe
from engine.train.fused.choice import read_config, why_plain
from engine.train.ranks import local_device

__all__ = ["Backend", "Loaded", "choose_backend", "choose_device"]


@dataclass
class Loaded:
    """A model on its device, trainable parameters chosen, and its tokenizer."""

    model: Any
    tokenizer: Any
    device: str
    """``cuda:0`` or ``cpu``."""
    dtype: str
    """What matrices are multiplied in: float32, bfloat16 or float16."""
    pad_to_multiple_of: int | None
    """Batches are padded to this: compiled kernels see few shapes. None: to the longest row."""
    loss_type: str
    """TRL's ``loss_type`` that fits this backend."""
    notes: list[str] = field(default_factory=list)
    """What the backend decided by itself, in words."""
    flat: bool = False
    """The model takes rows without padding: :class:`engine.train.fused.flat.FlatCollator`."""
    unpacked: bool = False
    """Weights in 4 bits are also held in 16."""
    slower_because: Callable[[], str] = str
    """Why training turned out slower than meant, once it runs; "" where it did not."""
    for_generation: Callable[[Any], Callable[[], None]] | None = None
    """Makes the model ready to answer prompts; returns what makes it ready to train again."""


class Backend(Protocol):
    """Loads models for training. Raises UserError naming the recipe key that asks too much."""

    name: str

    def import_libraries(self) -> None:
        """Import what takes seconds, so that the caller can name the phase."""
        ...

    def load(self, recipe: Recipe) -> Loaded:
        """The model with LoRA attached (or every weight trainable), seeded by ``train.seed``."""
        ...


def choose_device(recipe: Recipe) -> str:
    """This process's GPU (``cuda:0``, ``cuda:1``, ...) or ``cpu``, by ``model.device``."""
    import torch

    wanted = recipe.model.device
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return local_device()
    if wanted == "cuda":
        raise UserError(
            'model.device: "cuda" asked for, but torch sees no CUDA GPU; '
            '"tunebench doctor" says why, model.device = "auto" takes the CPU'
        )
    return "cpu"


def choose_backend(recipe: Recipe) -> Backend:
    """The backend of ``model.backend``; ``auto``: unsloth where the fused layers cannot and it can.

    Raises :class:`UserError` when unsloth is asked for and cannot.
    """
    wanted = recipe.model.backend
    installed = importlib.util.find_spec("unsloth") is not None
    lacks = unsloth_lacks(recipe)
    otherwise = 'set model.backend = "transformers" (or "auto")'
    if wanted == "unsloth":
        if lacks:
            raise UserError(f"{lacks}; {otherwise}, or leave it out")
        if not installed:
            raise UserError(
                "model.backend: unsloth is not installed; pip install '.[gpu]', "
                'or set model.backend = "transformers"'
            )
        if choose_device(recipe) == "cpu":
            raise UserError(
                f"model.backend: unsloth needs a CUDA GPU and torch sees none here; {otherwise}"
            )
    device = choose_device(recipe).partition(":")[0]
    if wanted == "unsloth" or (
        wanted == "auto"
        and installed
        and not lacks
        and device != "cpu"
        and recipe.model.kernels == "auto"
        and why_plain(recipe, read_config(recipe), device)
    ):
        from engine.train.unsloth_backend import UnslothBackend

        return UnslothBackend()
    from engine.train.transformers_backend import TransformersBackend

    return TransformersBackend()
