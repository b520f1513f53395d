"""The recipes of runs as the history has them, for comparing them key by key."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import UserError
from engine.history import queries
from engine.history.store import Store
from engine.jobs.folder import RunFolder
from engine.sections.upgrade import from_version_1

__all__ = ["RecipeValues", "flattened", "recipe_values"]

LABELS = ("name", "description", "version")
"""What a recipe says of itself: no setting."""


@dataclass(frozen=True)
class RecipeValues:
    """A run's recipe."""

    values: dict[str, Any] = field(default_factory=dict)
    """``section.key`` -> value; options of a table one level deeper (``clean.length.max``)."""
    problem: str = ""
    """Why the recipe cannot be read: then nothing is known."""


def recipe_values(store: Store, ids: Collection[str]) -> dict[str, RecipeValues]:
    """Run's id -> its recipe, for every one of ``ids``. A recipe that cannot be read says why."""
    known = queries.settings_of(store, ids)
    return {
        id: RecipeValues(flattened(_present(known[id]))) if known.get(id) else _unread(store, id)
        for id in ids
    }


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a recipe says of itself, and with the options of tables as keys of their own."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in LABELS:
            continue
        if isinstance(value, dict) and value:
            found |= {f"{key}.{option}": inner for option, inner in value.items()}
        else:
            found[key] = value
    return found


def _present(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recipe of schema version 1 under the keys of the present one."""
    if values.get("version") != 1:
        return values
    tree: dict[str, Any] = {"data": {}, "clean": {}}
    rest = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section in tree and name:
            tree[section][name] = value
        else:
            rest[key] = value
    try:
        made = from_version_1(tree)
    except ValueError:
        return rest
    return rest | {
        f"{section}.{key}": value for section in tree for key, value in made[section].items()
    }


def _unread(store: Store, id: str) -> RecipeValues:
    """Of a run whose recipe the history does not have: why not."""
    try:
        RunFolder(store.home.runs / id).read_recipe()
    except UserError as error:
        return RecipeValues(problem=str(error))
    return RecipeValues(problem="the history has not read it yet")
