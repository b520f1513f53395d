"""An imported recipe as TOML, with where it came from and what was left out as comments."""

import json

import tomlkit

from engine.imports.draft import Imported
from engine.text import clip

__all__ = ["line", "to_toml"]

_WIDTH = 200
"""Cells of a comment's line: a value from outside, such as a template, may be a page long."""


def line(key: str, what: str, why: str) -> str:
    """One key for people: on one line, whatever its value holds."""
    return clip(f"{key}: {what}{': ' if what and why else ''}{why}", _WIDTH)


def to_toml(imported: Imported) -> str:
    """Every value, defaults too, below comments on the import."""
    document = tomlkit.document()

    def comment(text: str) -> None:
        document.add(tomlkit.comment(clip(text, _WIDTH)))

    comment(f"Imported from {imported.tool}: {imported.source}")
    if imported.changed:
        comment("Another value or meaning here:")
        for key, to, why in imported.changed:
            comment(f"  {line(key, to, why)}")
    if imported.without_counterpart:
        comment("Left out:")
        for key, value, why in imported.without_counterpart:
            comment(f"  {line(key, json.dumps(value, default=str, ensure_ascii=False), why)}")
    document.add(tomlkit.nl())
    for name, value in imported.recipe.model_dump().items():
        document.add(name, tomlkit.item(value))
    return tomlkit.dumps(document)
