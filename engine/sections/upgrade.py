"""Recipes of earlier schema versions, as the present one says it: no run of the past is lost."""

from typing import Any

__all__ = ["from_version_1"]

_RULES = {"html": True, "control": True, "whitespace": True, "lowercase": False}
_SWITCHES = (*_RULES, "drop_empty")
_KEYS = (*_SWITCHES, "unicode", "drop_duplicates")


def from_version_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had a fixed order of rules, each with a switch of its own under ``clean``.

    Raises ValueError for what version 1 did not know: it would be lost without a word.
    """
    clean, data = tree.get("clean", {}), tree.get("data", {})
    if not (isinstance(clean, dict) and isinstance(data, dict)):
        return {**tree, "version": 2}  # which says what is wrong with it
    for name, value in clean.items():
        if name not in _KEYS:
            raise ValueError(f"clean.{name}: unknown key; version 1 has {', '.join(_KEYS)}")
        if name in _SWITCHES and not isinstance(value, bool):
            raise ValueError(f"clean.{name}: must be true or false, not {value!r}")
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
    data = {"prompt_column": "title", "completion_column": "content", **data}
    return {**tree, "version": 2, "data": data, "clean": made}
