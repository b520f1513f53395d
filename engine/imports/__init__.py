"""Recipes of Unsloth Studio, LLaMA-Factory and Axolotl become recipes of tunebench.

An imported recipe must train as it did there: what the other tool does by default and tunebench
does not is carried over, what cannot be carried over is said, key by key.
"""

from engine.imports.draft import Changed, Imported, LeftOut
from engine.imports.importing import KINDS, import_recipe
from engine.imports.written import to_toml

__all__ = ["KINDS", "Changed", "Imported", "LeftOut", "import_recipe", "to_toml"]
