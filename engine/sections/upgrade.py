"""Recipes of earlier schema versions, as the present one says it: no run of the past is lost."""

from typing import Any

__all__ = ["from_version_1"]

_RULES = {"html": True, "control": True, "whitespace": True, "lowercase": False}


def from_version_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had a fixed order of rules, each with a switch of its own under ``clean``."""
    clean = dict(tree.get("clean") or {})
    form = clean.get("unicode", "NFC")
    on = {name: bool(clean.get(name, usual)) for name, usual in _RULES.items()}
    on |= {"unicode": form != "none", "empty": bool(clean.get("drop_empty", True))}
    by = clean.get("drop_duplicates", "completion")
    on["duplicates"] = by != "none"
    order = ("html", "unicode", "control", "whitespace", "lowercase", "empty", "duplicates")
    made: dict[str, Any] = {"rules": [name for name in order if on[name]]}
    if form != "none":
        made["unicode"] = {"form": form}
    if by != "none":
        made["duplicates"] = {"by": by}
    # These were the defaults; now columns are recognised where none are named.
    data = {"prompt_column": "title", "completion_column": "content", **(tree.get("data") or {})}
    return {**tree, "version": 2, "data": data, "clean": made}
