"""``recipes``: list the built-in ones, print one, import another tool's."""

import argparse
import json
import os
from pathlib import Path

from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.recipe import builtin_recipes, load_recipe

__all__ = ["import_", "recipes"]


def recipes(args: argparse.Namespace, out: Output) -> int:
    """List the built-in recipes, or print one whole, with every default, as TOML."""
    if args.name:
        recipe = load_recipe(args.name)
        out.line(recipe.to_toml().rstrip())
        out.document(recipe.model_dump())
        return 0
    found = [(name, load_recipe(name), path) for name, path in builtin_recipes().items()]
    width = max(len(name) for name, _, _ in found)
    for name, recipe, _ in found:
        out.line(f"{name:<{width}}  {recipe.description}")
    out.document(
        [
            {"name": name, "description": recipe.description, "path": str(path)}
            for name, recipe, path in found
        ]
    )
    return 0


def import_(args: argparse.Namespace, out: Output) -> int:
    """Make a recipe of another tool's file: on stdout or in ``--out``; notes on stderr."""
    from engine.imports import import_recipe, to_toml
    from engine.imports.written import line

    imported = import_recipe(Path(args.file), args.kind or "", args.as_name or "", args.settings)
    text = to_toml(imported)
    if args.out:
        _write(Path(args.out), text, args.force)
        out.line(f"{args.out}: written")
    else:
        out.line(text.rstrip())
    out.document(
        {
            "kind": imported.kind,
            "recipe": imported.recipe.model_dump(),
            "changed": [change._asdict() for change in imported.changed],
            "without_counterpart": [left._asdict() for left in imported.without_counterpart],
        }
    )
    if out.as_json:
        return 0
    out.note(f"{args.file}: recognised as a recipe of {imported.tool}")
    if imported.changed:
        out.note(f"{len(imported.changed)} with another value or meaning here:")
        for key, to, why in imported.changed:
            out.note(f"  {line(key, to, why)}")
    if imported.without_counterpart:
        out.note(f"{len(imported.without_counterpart)} without counterpart, left out:")
        for key, value, why in imported.without_counterpart:
            words = json.dumps(value, default=str, ensure_ascii=False)
            out.note(f"  {line(key, words, why)}")
    return 0


def _write(path: Path, text: str, force: bool) -> None:
    if force:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"--out {path}: is there already; --force writes over it") from None
    except ValueError:  # a NUL byte
        raise UsageError(f"--out {str(path)!r}: not a file name") from None
