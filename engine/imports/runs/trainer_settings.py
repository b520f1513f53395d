"""The settings of a trainer's output folder, from every file of it that tells some."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.builtin import UNKNOWN
from engine.errors import UserError
from engine.imports.importing import KINDS, recipe_of, recognise
from engine.imports.reading import read_json, read_mapping
from engine.imports.runs import trainer_log
from engine.imports.runs.model_card import Card, read_card
from engine.imports.runs.places import Place
from engine.imports.runs.settings import adapter, arguments, checked
from engine.imports.runs.values import number
from engine.imports.written import line

__all__ = ["Known", "read_settings"]

ARGUMENTS = ("training_args.json", "train_args.json", "args.json", "sft_args.json")
"""As scripts write ``args.to_json_string()``; ``training_args.bin`` is a pickle and stays shut."""
MOST_RECIPES = 20


@dataclass
class Known:
    tool: str = "Transformers"
    settings: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def read_settings(
    place: Place,
    checkpoints: dict[int, str],
    header: dict[str, Any],
    args: dict[str, Any],
    recipe: Path | None,
) -> Known:
    """What is known; later files of this order win: recipe, card, arguments, state, adapter.

    ``header``: of the trainer's state; ``args``: those that TensorBoard's files hold. Raises
    :class:`UserError` for a ``recipe`` that cannot be read; files of the folder that cannot be are
    as if they were not there.
    """
    known = Known()
    folders = ["", *reversed(checkpoints.values())]
    card = Card()
    for below in folders[:2]:
        if (text := place.text(f"{below}/README.md")) is not None:
            card = read_card(text, place.path / below / "README.md")
            break
    found = _recipe(place, known, card, recipe)
    found |= card.settings
    for tree in (args, *(_json(place, name) for name in ARGUMENTS)):
        found |= arguments(tree)
    found |= _of_state(header, found)
    if "model.model_name_or_path" not in found:
        found |= arguments({"_name_or_path": _json(place, "config.json").get("_name_or_path")})
    configs = (_json(place, f"{below}/adapter_config.json") for below in folders)
    config = next((tree for tree in configs if tree), {})
    found |= adapter(config)
    if not config and _is_whole_model(place, folders):
        found["lora.enabled"] = False
        found.setdefault("model.load_in_4bit", False)
    known.settings, remarks = checked(found)
    known.remarks += remarks
    known.tool = _tool(place, card, known.tool)
    if card.versions:
        known.facts["versions"] = dict(list(card.versions.items())[:20])
    return known


def _recipe(place: Place, known: Known, card: Card, given: Path | None) -> dict[str, Any]:
    """The values of the recipe that the run was trained by, where one is there."""
    trees: list[tuple[Path, dict[str, Any]]] = []
    if given is not None:
        tree = read_mapping(given)
        recognise(tree, given)
        trees.append((given, tree))
    names = [name for name in place.names() if name.lower().endswith((".yaml", ".yml"))]
    for name in names[:MOST_RECIPES]:
        if (path := place.file(name)) is not None:
            try:
                trees.append((path, read_mapping(path)))
            except UserError as error:
                known.notes.append(f"{name}: not read ({error})")
    if card.axolotl:
        trees.append((place.path / "README.md", card.axolotl))
    for path, tree in trees:
        try:
            kind = recognise(tree, path)
        except UserError:
            continue
        known.tool = KINDS[kind].NAME
        return _values(path, tree, kind, known)
    return {}


def _values(path: Path, tree: dict[str, Any], kind: str, known: Known) -> dict[str, Any]:
    """All that the tool's own rules make of a recipe; where they refuse it, what its names say."""
    error: UserError | None = None
    for settings in ([], [f"data.source={UNKNOWN}"]):
        try:
            made = recipe_of(tree, path, kind, "imported", settings)
        except UserError as refused:
            error = error or refused
            continue
        for key, to, why in made.changed:
            known.remarks.append(line(key, to, why))
        flat = made.recipe.flat()
        said = {key: flat[key] for key in made.said if key in flat}
        if settings:
            known.notes.append(f"{path.name}: {error}")
        return said
    known.notes.append(f"{path.name}: read in part only ({error})")
    return arguments(tree)


def _json(place: Place, name: str) -> dict[str, Any]:
    path = place.file(name)
    if path is None:
        return {}
    try:
        tree = read_json(path)
    except UserError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _of_state(header: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """``max_steps`` is there for runs by epochs too: it decided where the epochs were not done."""
    tree = {
        "per_device_train_batch_size": header.get("train_batch_size"),
        "eval_steps": header.get("eval_steps"),
        "save_steps": header.get("save_steps"),
    }
    epochs, done = number(header.get("num_train_epochs")), number(header.get("epoch"))
    steps, last = header.get("max_steps"), header.get("global_step")
    if epochs is not None and done is not None and steps == last and done < 0.99 * epochs:
        tree["max_steps"] = steps
    elif epochs is not None and 0 < epochs < 10**6:
        tree["num_train_epochs"] = epochs
    found = arguments(tree)
    if {"train.max_steps", "train.num_train_epochs"} <= known.keys():  # whole, and not rounded up
        found.pop("train.num_train_epochs", None)
    if header.get("best_model_checkpoint") is None:
        found["train.load_best_model_at_end"] = False
    return found


def _is_whole_model(place: Place, folders: list[str]) -> bool:
    return any(
        place.file(f"{below}/{name}")
        for below in folders
        for name in ("model.safetensors", "model.safetensors.index.json")
    )


def _tool(place: Place, card: Card, tool: str) -> str:
    if tool != "Transformers":
        return tool
    if place.file(trainer_log.NAME) or "llama-factory" in card.tags:
        return KINDS["llama-factory"].NAME
    if "axolotl" in card.tags or card.axolotl:
        return KINDS["axolotl"].NAME
    return "TRL" if "trl" in card.tags or "trl" in card.versions else tool
