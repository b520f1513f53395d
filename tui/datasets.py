"""What the Data screen lists on its left: datasets, and the sources more can be made of.

Everything here may read the disk and is called in threads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.home import Home
from engine.recipe import Recipe, builtin_recipes, load_recipe

if TYPE_CHECKING:
    from engine.data.dataset import DatasetInfo

__all__ = ["Source", "datasets_of", "recipe_for", "recipe_of", "sources_of"]

RUNS_LOOKED_AT = 50


@dataclass(frozen=True)
class Source:
    """A place rows may come from: the source of a recipe."""

    recipe: str
    source: str
    path: Path | None
    """None for what is built in."""


def datasets_of(home: Home) -> "list[DatasetInfo]":
    """The cleaned datasets, newest first."""
    from engine.data.dataset import list_datasets

    return list_datasets(home)


def sources_of() -> list[Source]:
    """The sources of the built-in recipes, those that are there first."""
    found = []
    for name in builtin_recipes():
        data = load_recipe(name).data
        builtin = data.source.startswith("builtin:")
        found.append(Source(name, data.source, None if builtin else Path(data.source)))
    return sorted(found, key=lambda each: each.path is not None and not each.path.exists())


def recipe_for(home: Home, name: str) -> tuple[Recipe, str]:
    """The recipe whose model and format the previews use, and whose it is ("run demo-2").

    That of the newest run on this dataset, else a built-in one that names it, else the demo's: its
    model is always there.
    """
    from engine.data.sources import dataset_name
    from engine.jobs.folder import RunFolder

    for file in sorted(home.runs.glob("*/recipe.toml"), reverse=True)[:RUNS_LOOKED_AT]:
        try:
            folder = RunFolder(file.parent)
            recipe = folder.read_recipe()
            if dataset_name(recipe.data) == name:
                return recipe, f"run {folder.read_identity().get('name', folder.id)}"
        except (OSError, ValueError, UserError):
            continue
    for builtin in builtin_recipes():
        recipe = load_recipe(builtin)
        if recipe.data.name == name:
            return recipe, f"recipe {builtin}"
    return load_recipe("demo"), "recipe demo"


def recipe_of(manifest: dict[str, Any], base: Recipe) -> Recipe:
    """The recipe that a dataset was made by; what a manifest does not hold is that of ``base``.

    Raises :class:`UserError` when another version wrote it.
    """
    tree = base.model_dump()
    name = str(manifest["name"])
    tree["name"] = base.name if base.data.name == name else name[:64]
    tree |= {part: manifest[part] for part in ("data", "clean", "split") if part in manifest}
    tree["data"] = {**tree["data"], "name": name}
    if tree["data"].get("source") == "-":  # standard input was kept as a file
        tree["data"]["source"] = manifest["source"]["path"]
    try:
        return Recipe.model_validate(tree)
    except ValueError:
        raise UserError(f"{name}: was cleaned by another version; clean its source again") from None
