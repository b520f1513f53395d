"""What a backend is (it loads a recipe's model ready to train), and which one to take."""

import importlib.util
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.errors import UserError
from engine.recipe import Recipe

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
    """``cuda:0`` or ``cpu``, by ``model.device``. Imports torch."""
    import torch

    wanted = recipe.model.device
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda:0"
    if wanted == "cuda":
        raise UserError(
            'model.device: "cuda" asked for, but torch sees no CUDA GPU; '
            '"tunebench doctor" says why, model.device = "auto" takes the CPU'
        )
    return "cpu"


def choose_backend(recipe: Recipe) -> Backend:
    """The backend of ``model.backend``; ``auto`` is unsloth where it is installed and can run."""
    wanted = recipe.model.backend
    installed = importlib.util.find_spec("unsloth") is not None
    if recipe.train.packing and wanted == "unsloth":
        raise UserError(
            "train.packing: rows are packed with the transformers backend only; set "
            'model.backend = "transformers" (or "auto"), or train.packing = false'
        )
    if wanted == "unsloth" and not installed:
        raise UserError(
            "model.backend: unsloth is not installed; pip install '.[gpu]', "
            'or set model.backend = "transformers"'
        )
    if wanted == "unsloth" or (wanted == "auto" and installed):
        fits = choose_device(recipe) != "cpu"
        cannot = recipe.lora.use_dora or recipe.train.packing
        if fits and (wanted == "unsloth" or not cannot):
            from engine.train.unsloth_backend import UnslothBackend

            return UnslothBackend()
        if wanted == "unsloth" and not fits:
            raise UserError(
                "model.backend: unsloth needs a CUDA GPU and torch sees none here; "
                'set model.backend = "transformers" (or "auto")'
            )
    from engine.train.transformers_backend import TransformersBackend

    return TransformersBackend()
