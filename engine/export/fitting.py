"""Values as a column's kind: a journal may hold anything, and a column holds one kind."""

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, get_args

from engine.history.row import RunRow

__all__ = ["FIT", "KINDS", "Kind", "fitted", "kind_of"]

Kind = Literal["text", "integer", "number", "flag", "texts", "json"]
"""``texts``: a list of texts; ``json``: whatever JSON can say."""
KINDS: dict[str, Kind] = {"int": "integer", "float": "number", "str": "text", "bool": "flag"}


def fitted(row: RunRow) -> RunRow:
    """A run whose fields have the types that they say they have; None where one does not fit."""
    values = {
        field.name: FIT[kind_of(field.type)](getattr(row, field.name)) for field in fields(row)
    }
    return RunRow(**{name: value for name, value in values.items() if value is not None})


def kind_of(type_: Any) -> Kind:
    """Of ``str``, ``float | None``, ..."""
    [first, *_] = get_args(type_) or (type_,)
    return KINDS[first.__name__]


def _integer(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return int(value) if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _number(value: Any) -> float | None:
    """With what a journal writes for what is not finite: NaN, Infinity, -Infinity."""
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        return None
    return float(value) if isinstance(value, int | float | str) else None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> list[str] | None:
    return [str(one) for one in value] if isinstance(value, list) else None


FIT: dict[Kind, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "flag": _flag,
    "texts": _texts,
    "json": lambda value: value,
}
"""Kind -> what makes a value fit: a journal may hold anything, and a column holds one kind."""
