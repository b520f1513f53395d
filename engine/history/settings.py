"""The recipes of runs, flat, as the history has them: read from ``runs.db``, else from the folder.

Reading 10,000 recipes takes a minute, their column 50 ms.
"""

import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import UserError
from engine.history.store import Store
from engine.jobs.folder import RunFolder

__all__ = ["Settings", "flattened", "settings_of"]

LABELS = ("name", "description", "version")
"""What a recipe says of itself: no setting."""


@dataclass(frozen=True)
class Settings:
    """A run's recipe."""

    values: dict[str, Any] = field(default_factory=dict)
    """``section.key`` -> value; options of a table one level deeper (``clean.length.max``)."""
    problem: str = ""
    """Why the recipe cannot be read: then nothing is known."""


def settings_of(store: Store, ids: Collection[str]) -> dict[str, Settings]:
    """Run's id -> its recipe, for every one of ``ids``. A recipe that cannot be read says why."""
    marks = ", ".join("?" * len(ids))
    known: dict[str, Any] = {}
    if has_column(store):
        known = dict(store.query(f"SELECT id, settings FROM runs WHERE id IN ({marks})", [*ids]))
    return {id: _parsed(known.get(id)) or _read(store, id) for id in ids}


def has_column(store: Store) -> bool:
    """TEMPORARY, until m009 is on main."""
    return any(row[1] == "settings" for row in store.query("PRAGMA table_info(runs)"))


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


def _parsed(text: Any) -> Settings | None:
    if not isinstance(text, str):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return Settings(flattened(found)) if isinstance(found, dict) and found else None


def _read(store: Store, id: str) -> Settings:
    """From the run's folder, as far as there is a recipe that this program understands."""
    folder = RunFolder(store.home.runs / id)
    try:
        return Settings(flattened(folder.read_recipe().flat()))
    except UserError as error:
        problem = str(error)
    try:  # an older or a stranger's recipe: what it says is known all the same
        tree = tomllib.loads(folder.recipe_file.read_text("utf-8"))
    except (OSError, ValueError):
        return Settings(problem=problem)
    flat: dict[str, Any] = {}
    for section, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": inner for key, inner in value.items()}
    return Settings(flattened(flat), "" if flat else problem)
