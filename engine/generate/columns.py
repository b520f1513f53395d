"""What answers in one column: a base model, or a run's adapter on top of its base. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.builtin import model_path
from engine.errors import UserError
from engine.home import Home
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.launch import find_run
from engine.recipe import Recipe, read_recipe

__all__ = ["Column", "base_column", "column_for", "run_column"]

BASE_ID = "base"


@dataclass(frozen=True)
class Column:
    """One model that answers prompts."""

    id: str
    """Unique among the columns of one client: a run's id, ``base``, or the model's name."""
    label: str
    """For people; may come from outside."""
    model_name_or_path: str
    adapter: str | None
    """Folder of a PEFT adapter; None: the model as it is."""
    recipe: Recipe
    """How the model is loaded, how prompts are formatted, how answers are sampled by default."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "model_name_or_path": self.model_name_or_path,
            "adapter": self.adapter,
            "recipe": self.recipe.model_dump(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Column":
        return cls(**{**value, "recipe": Recipe.model_validate(value["recipe"])})


def column_for(home: Home, ref: str) -> Column:
    """The column of a run (id, name or unique beginning), or of a model (folder or hub id).

    Raises :class:`UserError` for neither, and for a run that has saved nothing yet.
    """
    try:
        return run_column(find_run(home, ref))
    except UserError as no_run:
        if ref.startswith("builtin:"):
            return _model_column(ref, Path(model_path(ref)))
        # Absolute: the worker that loads it may have been started in another folder.
        folder = Path(ref).expanduser().absolute()
        if folder.is_dir():
            return _model_column(str(folder), folder)
        if ref.count("/") == 1 and not ref.startswith((".", "/")):
            return _model_column(ref, None)
        if "no run" in str(no_run):
            raise UserError(
                f"{ref!r} is neither a run nor a model folder; 'tunebench runs' lists the runs"
            ) from None
        raise


def run_column(folder: RunFolder) -> Column:
    """The tuned model of a run: its result, else its last whole checkpoint."""
    recipe = folder.read_recipe()
    name = str(folder.read_identity().get("name", folder.id))
    weights, label = folder.adapter, name
    if not any(weights.glob("*.safetensors")):
        latest = checkpoints.latest_whole(folder)
        if latest is None:
            raise UserError(
                f"run {name} has saved nothing yet: no adapter, no checkpoint; let it train, "
                f"or go on with it: tunebench resume {name}"
            )
        weights, label = latest, f"{name} (step {checkpoints.step_of(latest)})"
    if (weights / "adapter_config.json").is_file():
        base = recipe.model.model_name_or_path
        return Column(folder.id, label, base, str(weights), recipe)
    # Full fine-tuning saves a whole model; checkpoints of it hold no tokenizer.
    return Column(folder.id, label, str(weights), None, recipe)


def base_column(column: Column) -> Column:
    """The base of a run's column, prompted in the same format."""
    base = column.recipe.model.model_name_or_path
    return Column(BASE_ID, base, base, None, column.recipe)


def _model_column(name: str, folder: Path | None) -> Column:
    """A model on its own: its chat template where it has one, else the instruction layout."""
    template = "chat" if folder and _has_chat_template(folder) else "alpaca"
    recipe = Recipe.model_validate(
        {
            "name": "model",
            "model": {"model_name_or_path": name},
            "format": {"template": template, "instruction": ""},
        }
    )
    if folder and (folder / "adapter_config.json").is_file():
        recipe_file = folder.parent / "recipe.toml"
        if recipe_file.is_file():
            recipe = read_recipe(recipe_file)
            base = recipe.model.model_name_or_path
            return Column(name, name, base, str(folder), recipe)
        raise UserError(f"{name}: is an adapter, not a model; name the run that it belongs to")
    return Column(name, name, name, None, recipe)


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and '"chat_template"' in file.read_text("utf-8", "replace")
