"""What identifies a dataset: source, layout, rules, split and versions."""

import hashlib
import json
import unicodedata
from dataclasses import asdict
from typing import TYPE_CHECKING

from engine.data.rules import rule_versions
from engine.recipe import Recipe

if TYPE_CHECKING:
    from engine.data.sources import Look

__all__ = ["RULES_VERSION", "fingerprint"]

RULES_VERSION = 3
"""Raise it when our own rules or the split give other rows than before."""


def fingerprint(source_sha256: str, look: "Look", recipe: Recipe) -> str:
    """Identifies a dataset by content; 16 hex digits.

    Neither the source's place nor the dataset's name counts, nor the place of a file with a rule
    (its content does), and of the rules only those that are on.
    """
    clean = recipe.clean
    options = clean.model_dump()
    del options["python"]["file"]
    described = {
        "source": source_sha256,
        "layout": asdict(look.layout),
        "files": [(file.format, file.encoding, file.delimiter) for file in look.files],
        "rules": [(name, options.get(name)) for name in clean.rules],
        "versions": {
            "rules": RULES_VERSION,
            "unicode": unicodedata.unidata_version,
            **rule_versions(clean, recipe.model.model_name_or_path),
        },
        "split": recipe.split.model_dump(),
    }
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
