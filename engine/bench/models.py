"""The model that the bench trains: the recipe's where it is here, else a shape's random weights."""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.home import Home
from engine.model_files import find_file
from engine.preflight.shape import read_shape
from engine.recipe import Recipe

__all__ = ["DEFAULT_SHAPES", "BenchModel", "find_model"]

DEFAULT_SHAPES = {"cuda": "3b", "cpu": "tiny"}


@dataclass(frozen=True)
class BenchModel:
    """Which model, and where it lies or is to be built."""

    folder: Path
    shape: str | None
    """One of :data:`engine.bench.shapes.SHAPES`; None: the recipe's own model."""
    words: str
    recipe: Recipe
    """The recipe with this model."""

    @property
    def is_there(self) -> bool:
        return (self.folder / "config.json").is_file()

    def parameters(self) -> int | None:
        """How many the model has; None where its files do not tell."""
        try:
            return read_shape(self.recipe).parameters
        except UserError:
            return None


def find_model(scratch: Home, recipe: Recipe, shape: str | None, device: str) -> BenchModel:
    """The recipe's own model where it is on this machine and no ``shape`` is asked for."""
    name = recipe.model.model_name_or_path
    own = None if shape else _here(recipe)
    if own is not None:
        return BenchModel(own, None, name, _with_model(recipe, own))
    words = ""
    if shape is None:
        shape = DEFAULT_SHAPES[device]
        words = f"{name} is not on this machine: "
    folder = scratch.path / "models" / shape
    words += f"random weights in the shape of Llama 3.2, {shape}"
    recipe = _with_model(recipe, folder)
    if recipe.format.template == "chat":
        # Its tokenizer has no chat template.
        section = recipe.format.model_copy(
            update={"template": "alpaca", "chat_template": "", "system": ""}
        )
        recipe = recipe.model_copy(update={"format": section})
    return BenchModel(folder, shape, words, recipe)


def _here(recipe: Recipe) -> Path | None:
    name, revision = recipe.model.model_name_or_path, recipe.model.revision
    config = find_file(name, "config.json", revision)
    weights = find_file(name, "model.safetensors", revision)
    weights = weights or find_file(name, "model.safetensors.index.json", revision)
    tokenizer = find_file(name, "tokenizer.json", revision)
    return config.parent if config and weights and tokenizer else None


def _with_model(recipe: Recipe, folder: Path) -> Recipe:
    """By its folder: hub ids may be swapped for others, or looked up in the network."""
    update = {"model_name_or_path": str(folder), "revision": ""}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=update)})
