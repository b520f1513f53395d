"""Recognises whose recipe a file is, and makes it tunebench's."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.imports import axolotl, llama_factory, studio
from engine.imports.draft import Draft, Imported
from engine.imports.reading import read_mapping
from engine.recipe import Recipe

__all__ = ["KINDS", "import_recipe", "recipe_of", "recognise"]

KINDS = {"studio": studio, "llama-factory": llama_factory, "axolotl": axolotl}
"""Word of ``--from`` -> its module: NAME, MARKS, ALIASES and ``build``."""
_ENOUGH = 2


def import_recipe(
    path: Path, kind: str = "", name: str = "", settings: Sequence[str] = ()
) -> Imported:
    """The recipe of another tool's file, checked as any recipe is.

    ``kind``: one of :data:`KINDS`; empty: recognised by its keys. ``name``: the recipe's; empty:
    the file's. ``settings``: ``section.key=value`` on top, also for what the file does not say.
    Raises :class:`UsageError` that names the file and the key.
    """
    return recipe_of(read_mapping(path), path, kind, name, settings)


def recipe_of(
    tree: Mapping[str, Any],
    path: Path,
    kind: str = "",
    name: str = "",
    settings: Sequence[str] = (),
) -> Imported:
    """:func:`import_recipe` of what was read already; ``path``: where it stood."""
    kind = kind or recognise(tree, path)
    tool = KINDS[kind].NAME
    given = dict(_setting(setting) for setting in settings)
    draft = Draft(path, tool, studio.flat(tree) if kind == "studio" else tree, given)
    KINDS[kind].build(draft)
    made = draft.recipe(name or _name(path), f"Imported from {tool}: {path.name}")
    recipe = made.with_settings(settings) if settings else made
    said = tuple(dict.fromkeys((*draft.origin, *given)))
    changed, left = tuple(draft.changed), tuple(draft.left_out)
    return Imported(kind, tool, path.name, recipe, changed, left, said)


def _setting(setting: str) -> tuple[str, str]:
    key, _, value = setting.partition("=")
    return key.strip(), value


def recognise(tree: Mapping[str, Any], path: Path) -> str:
    """The word of the tool that a file is of. Raises :class:`UsageError` when that is not clear."""
    found: dict[str, list[str]] = {}
    for kind, module in KINDS.items():
        marks = [key for key in module.MARKS if tree.get(key) is not None]
        if kind == "studio":
            marks = [key for key in marks if isinstance(tree[key], dict)]
        if len(marks) >= _ENOUGH:
            found[kind] = marks
    if len(found) == 1:
        return next(iter(found))
    if found:
        said = "; ".join(f"{kind} by {', '.join(marks[:4])}" for kind, marks in found.items())
        raise UsageError(f"{path}: could be of several tools ({said}): say which with --from")
    looked = "; ".join(f"{kind}: {', '.join(module.MARKS[:6])}" for kind, module in KINDS.items())
    raise UsageError(
        f"{path}: not recognised: at least two keys of one tool were looked for ({looked}); say "
        "which tool it is of with --from"
    )


def _name(path: Path) -> str:
    longest = next(
        each.max_length for each in Recipe.model_fields["name"].metadata
        if hasattr(each, "max_length")
    )  # fmt: skip
    return re.sub(r"[^\w.-]+", "-", path.stem).strip("-")[:longest] or "imported"
