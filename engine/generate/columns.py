"""What answers in one column: a base model, a run's adapter on top of its base, or a server.

No torch.
"""

import contextlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.builtin import model_path
from engine.data.dataset import open_dataset
from engine.data.sources import dataset_name
from engine.errors import UserError
from engine.generate.address import Endpoint, endpoint_of, is_address
from engine.home import Home
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.jobs.launch import find_run
from engine.recipe import Recipe, read_recipe

__all__ = [
    "Column",
    "base_column",
    "checkpoint_column",
    "column_for",
    "loaded_recipe",
    "run_column",
]

BASE_ID = "base"


@dataclass(frozen=True)
class Column:
    """One model that answers prompts."""

    id: str
    """Unique among the columns of one client: a run's id (``ID@STEP`` for a checkpoint), ``base``,
    the model's name, or the address of a server."""
    label: str
    """For people; may come from outside."""
    model_name_or_path: str
    adapter: str | None
    """Folder of a PEFT adapter; None: the model as it is."""
    recipe: Recipe
    """How the model is loaded, how prompts are formatted, how answers are sampled by default."""
    endpoint: Endpoint | None = None
    """The server that answers; None: a model of ours does."""
    ref: str = ""
    """What :func:`column_for` makes the same column of, in this home; empty where nothing does."""

    @property
    def is_gguf(self) -> bool:
        """Whether llama.cpp answers, from a file of its own kind."""
        return self.endpoint is None and self.model_name_or_path.lower().endswith(".gguf")

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "model_name_or_path": self.model_name_or_path,
            "adapter": self.adapter,
            "recipe": self.recipe.model_dump(),
            "ref": self.ref,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Column":
        return cls(**{**value, "recipe": Recipe.model_validate(value["recipe"])})


def column_for(home: Home, ref: str) -> Column:
    """The column that ``ref`` names.

    ``RUN`` (id, name or unique beginning), ``RUN@best``, ``RUN@last`` or ``RUN@STEP`` (a whole
    checkpoint of it), ``RUN@base`` (its base, prompted as it is), a model's folder or hub id, a
    GGUF file, or a server: ``URL#MODEL``, with ``key=NAME`` behind it where the variable NAME holds
    a key. Raises :class:`UserError` for anything else, and for a run that has saved nothing yet.
    """
    if is_address(ref):
        return _endpoint_column(endpoint_of(ref))
    if ref.lower().endswith(".gguf"):
        return _gguf_column(ref)
    run, _, which = ref.rpartition("@")
    if run and (which in ("base", "best", "last") or which.isdigit()) and not Path(ref).is_dir():
        named = find_run(home, run)
        return _base_of(named) if which == "base" else checkpoint_column(named, which)
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
    weights, label = folder.adapter, _name(folder)
    if not any(weights.glob("*.safetensors")):
        latest = checkpoints.latest_whole(folder)
        if latest is None:
            _refuse_imported(folder, label)
            raise UserError(
                f"run {label} has saved nothing yet: no adapter, no checkpoint; let it train, "
                f"or go on with it: tunebench resume {label}"
            )
        weights, label = latest, f"{label} (step {checkpoints.step_of(latest)})"
    return _saved(folder, folder.id, label, weights)


def _refuse_imported(folder: RunFolder, name: str) -> None:
    """The weights of a run that another program made stay where they are."""
    if (imported := folder.imported()) is not None:
        where = imported.get("weights")
        words = f"they lie in {where}: name that folder" if where else "nobody says where they lie"
        raise UserError(f"run {name} was imported without its weights; {words}")


def checkpoint_column(folder: RunFolder, which: str) -> Column:
    """A whole checkpoint of a run: ``best`` by its journal, ``last``, or the one of a step."""
    name = _name(folder)
    steps = {checkpoints.step_of(path): path for path in checkpoints.whole(folder, content=True)}
    if not steps:
        _refuse_imported(folder, name)
        raise UserError(f"run {name} has no whole checkpoint")
    if which == "best":
        step = _best_step(folder)
        if step is None:
            raise UserError(
                f"run {name} has no best checkpoint: its journal has no validation loss of one; "
                f"take {name}@last or {name}@STEP"
            )
    else:
        step = max(steps) if which == "last" else int(which)
    if step not in steps:
        what = f"the best one, of step {step:,}, is" if which == "best" else f"step {step:,} is"
        raise UserError(
            f"run {name}: {what} not among its whole checkpoints: "
            f"{', '.join(f'{one:,}' for one in steps)}"
        )
    words = f"step {step:,}" if which.isdigit() else f"{which}, step {step:,}"
    return _saved(folder, f"{folder.id}@{step}", f"{name} ({words})", steps[step])


def _best_step(folder: RunFolder) -> int | None:
    """Of the last checkpoint that the journal calls the best; else the one with the lowest loss."""
    called: int | None = None
    losses: dict[int, float] = {}
    saved: set[int] = set()
    for event in read_all(folder.journal):
        if event["type"] == "checkpoint":
            saved.add(event["step"])
            called = event["step"] if event.get("best") else called
        elif event["type"] == "evaluation" and event.get("split") == "validation":
            loss = event.get("loss")
            if isinstance(loss, int | float):
                losses[event["step"]] = loss
    if called is not None:
        return called
    return min((step for step in saved if step in losses), key=lambda s: losses[s], default=None)


def _name(folder: RunFolder) -> str:
    return str(folder.read_identity().get("name", folder.id))


def _as_trained(folder: RunFolder) -> Recipe:
    """The run's recipe, without the instruction where its rows were conversations.

    These are trained as they are; the instruction goes before prompts of other shapes only.
    """
    recipe = folder.read_recipe()
    shape = ""
    with contextlib.suppress(UserError):  # the dataset may be gone by now
        home = Home(folder.path.parent.parent)
        shape = open_dataset(home, dataset_name(recipe.data)).shape
    if shape != "conversation" or not recipe.format.instruction:
        return recipe
    bare = recipe.format.model_copy(update={"instruction": ""})
    return recipe.model_copy(update={"format": bare})


def _saved(folder: RunFolder, id: str, label: str, weights: Path) -> Column:
    recipe = _as_trained(folder)
    if (weights / "adapter_config.json").is_file():
        base = recipe.model.model_name_or_path
        return Column(id, label, base, str(weights), recipe, ref=id)
    # Full fine-tuning saves a whole model; checkpoints of it hold no tokenizer.
    return Column(id, label, str(weights), None, recipe, ref=id)


def _base_of(folder: RunFolder) -> Column:
    """As :func:`base_column`, also of a run that has saved nothing yet."""
    recipe = _as_trained(folder)
    base = recipe.model.model_name_or_path
    ref = f"{folder.id}@base"  # its id too: bases of two runs may be prompted differently
    return Column(ref, base, base, None, recipe, ref=ref)


def base_column(column: Column) -> Column:
    """The base of a run's column, prompted in the same format."""
    base = column.recipe.model.model_name_or_path
    run = column.ref.partition("@")[0]
    of_a_run = run and not set(run) & set("/:")  # else a folder, a hub id, a built-in name
    ref = f"{run}@base" if of_a_run else base
    return Column(BASE_ID, base, base, None, column.recipe, ref=ref)


def loaded_recipe(column: Column) -> Recipe:
    """The column's recipe with its own model: a fully tuned run answers from its own folder."""
    recipe = column.recipe
    if column.model_name_or_path == recipe.model.model_name_or_path:
        return recipe
    model = recipe.model.model_copy(
        update={"model_name_or_path": column.model_name_or_path, "revision": ""}
    )
    return recipe.model_copy(update={"model": model})


def _bare_recipe(name: str, template: str) -> Recipe:
    """Of a model that no run of ours made: nothing stands before the prompt."""
    return Recipe.model_validate(
        {
            "name": "model",
            "model": {"model_name_or_path": name},
            "format": {"template": template, "instruction": ""},
        }
    )


def _endpoint_column(endpoint: Endpoint) -> Column:
    label = f"{endpoint.model} at {endpoint.host}"
    recipe = _bare_recipe(endpoint.model, "chat")
    name = f"{endpoint.url}#{endpoint.model}"
    return Column(name, label, endpoint.model, None, recipe, endpoint, str(endpoint))


def _gguf_column(ref: str) -> Column:
    path = Path(ref).expanduser().absolute()
    if not path.is_file():
        raise UserError(f"{ref}: there is no such file")
    if importlib.util.find_spec("llama_cpp") is None:
        raise UserError(
            f"{ref}: a GGUF file is answered by llama.cpp, which is not installed here: "
            "pip install llama-cpp-python; or start its server (llama-server -m FILE) and name its "
            "address: http://localhost:8080/v1#MODEL"
        )
    name = str(path)
    return Column(name, path.name, name, None, _bare_recipe(name, "chat"), ref=name)


def _model_column(name: str, folder: Path | None) -> Column:
    """A model on its own: its chat template where it has one, else the instruction layout."""
    template = "chat" if folder and _has_chat_template(folder) else "alpaca"
    recipe = _bare_recipe(name, template)
    if folder and (folder / "adapter_config.json").is_file():
        recipe_file = folder.parent / "recipe.toml"
        if recipe_file.is_file():
            recipe = read_recipe(recipe_file)
            base = recipe.model.model_name_or_path
            return Column(name, name, base, str(folder), recipe, ref=name)
        raise UserError(f"{name}: is an adapter, not a model; name the run that it belongs to")
    return Column(name, name, name, None, recipe, ref=name)


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and '"chat_template"' in file.read_text("utf-8", "replace")
