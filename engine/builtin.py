"""What ``builtin:`` names in a recipe stand for, and what stands for a name that nobody knows."""

from pathlib import Path

from engine.errors import UserError

__all__ = ["BUILTIN_BASE", "BUILTIN_CATALOGUE", "UNKNOWN", "model_path"]

BUILTIN_CATALOGUE = "builtin:catalogue"
"""The seeded generator of product rows (``engine.demo.catalogue``), as a data source."""

BUILTIN_BASE = "builtin:base"
"""The tiny Llama that ships with tunebench (``engine/demo/base``), as a model."""

UNKNOWN = "(not known)"
"""The model, or the data, of an imported run whose source names none: repeating it fails by name,
instead of training the built-in ones."""


def model_path(name: str) -> str:
    """The folder or hub id behind ``model.model_name_or_path``: built-in names become folders."""
    if name == BUILTIN_BASE:
        return str(Path(__file__).parent / "demo" / "base")
    if name.startswith("builtin:"):
        raise UserError(f"model.model_name_or_path: no built-in {name!r}; there is {BUILTIN_BASE}")
    return name
