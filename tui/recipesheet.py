"""A recipe as a form edits it: every key with its text, and what is wrong with it.

Nothing typed is lost: a text that makes no value stays a text, with pydantic's words beside it.
"""

import tomllib
import types
import typing
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from engine.recipe import Recipe

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["Key", "RecipeSheet", "keys_of_recipes"]

FIRST = ("model", "lora", "train", "evaluate", "format", "generate", "data", "split", "clean")
"""The sections in the order of an expert's interest."""
NOT_EDITED = frozenset({"version", "name"})


@dataclass(frozen=True)
class Key:
    """One key of the recipe: where it is, and what may stand there."""

    name: str
    """``section.key``, as ``--set`` takes it."""
    description: str
    choices: tuple[str, ...]
    """Its only values, as their texts; empty: anything of its type."""
    is_text: bool
    """Its text is the value as it is; else it is TOML."""
    default: str

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def label(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def is_switch(self) -> bool:
        return self.choices == ("true", "false")

    def matches(self, words: str) -> bool:
        """Whether all ``words`` occur in its name or description, in any case."""
        place = f"{self.name} {self.description}".lower()
        return all(word in place for word in words.lower().split())


def keys_of_recipes() -> tuple[Key, ...]:
    """Every key there is, section by section."""
    found: dict[str, list[Key]] = {section: [] for section in FIRST}
    for key in _keys(Recipe, ""):
        found.setdefault(key.name.partition(".")[0], []).append(key)
    return tuple(key for keys in found.values() for key in keys)


def _keys(model: type[BaseModel], above: str) -> list[Key]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _keys(kind, f"{above}{name}.")
        elif above or name not in NOT_EDITED:
            found.append(_key(f"{above}{name}", field))
    return found


def _key(name: str, field: "FieldInfo") -> Key:
    kind = field.annotation
    choices = _choices(kind)
    is_text = kind is str
    default = "" if field.is_required() else _text(field.default, is_text)
    return Key(name, field.description or "", choices, is_text, default)


def _choices(kind: Any) -> tuple[str, ...]:
    """The texts of all values of a type that has only a few; else nothing."""
    if kind is bool:
        return ("true", "false")
    if typing.get_origin(kind) is typing.Literal:
        return tuple(str(value) for value in typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        parts = [_choices(part) for part in typing.get_args(kind)]
        return tuple(value for part in parts for value in part) if all(parts) else ()
    return ()


def _text(value: Any, is_text: bool) -> str:
    """A value as the form shows it; :func:`_value` is the way back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, str) and (not is_text or (value.isprintable() and value[:1] != '"')):
        return value
    return _toml(value)


def _toml(value: Any) -> str:
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    return str(tomlkit.item(value).as_string())


def _value(key: Key, text: str) -> Any:
    if key.is_text:
        return _toml_or_text(text) if text[:1] == '"' else text
    return _toml_or_text(text.strip())


def _toml_or_text(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


class RecipeSheet:
    """The texts of all keys over the recipe that was read (``base``).

    ``name``: what its run is to be called, if not as the recipe; ``untold``: the keys that only
    have their defaults because the import of the recipe's run did not tell them.
    """

    def __init__(self, base: Recipe, name: str = "", untold: Collection[str] = ()) -> None:
        self.base = base
        self.name = self.proposed = name or base.name
        self.keys = {key.name: key for key in keys_of_recipes()}
        self.untold = frozenset(
            key for key in self.keys if key in untold or key.rpartition(".")[0] in untold
        )
        tree = base.model_dump()
        self._own = {name: _text(_at(tree, name), key.is_text) for name, key in self.keys.items()}
        self._edited: dict[str, str] = {}
        self.recipe: Recipe | None = base
        """As edited; None while anything in it is wrong."""
        self.wrong: dict[str, str] = {}
        """Key -> what is wrong with its text."""
        self.crosswise = ""
        """What does not fit together, when every single value is fine."""

    def text(self, key: str) -> str:
        return self._edited.get(key, self._own[key])

    def own(self, key: str) -> str:
        """The text of the recipe that was read."""
        return self._own[key]

    def is_changed(self, key: str) -> bool:
        return key in self._edited

    def is_untold(self, key: str) -> bool:
        """Nobody knows what it was: neither the import told it nor the user."""
        return key in self.untold and key not in self._edited

    def put(self, key: str, text: str) -> bool:
        """Set a key's text; False: it was that already. What is wrong is known at once."""
        if text == self.text(key):
            return False
        if text == self._own[key]:
            del self._edited[key]
        else:
            self._edited[key] = text
        self.check()
        return True

    def rename(self, name: str) -> None:
        self.name = name
        self.check()

    def turn(self, key: str, by: int) -> bool:
        """The choice after (or before) this one; False where there are none."""
        choices = self.keys[key].choices
        if not choices:
            return False
        now = self.text(key)
        at = choices.index(now) + by if now in choices else 0
        return self.put(key, choices[at % len(choices)])

    def changes(self) -> list[tuple[str, str, str]]:
        """(key, text in the recipe, text now) of what was edited."""
        return [
            (key, self._own[key], self._edited[key]) for key in self.keys if key in self._edited
        ]

    def check(self) -> None:
        """Find out what is wrong; about 1 ms."""
        tree = self.base.model_dump()
        tree["name"] = self.base.name if self.name == self.proposed else self.name
        for name, text in self._edited.items():
            *sections, last = name.split(".")
            place = tree
            for section in sections:
                place = place[section]
            place[last] = _value(self.keys[name], text)
        self.wrong, self.crosswise, self.recipe = {}, "", None
        try:
            self.recipe = Recipe.model_validate(tree)
        except ValidationError as failure:
            for error in failure.errors(include_url=False):
                self._note(error["loc"], error["msg"].removeprefix("Value error, "))

    def _note(self, place: tuple[Any, ...], words: str) -> None:
        path = [str(part) for part in place]
        for end in range(len(path), 0, -1):
            name = ".".join(path[:end])
            if name in self.keys or name == "name":
                choices = self.keys[name].choices if name in self.keys else ()
                self.wrong.setdefault(name, f"one of {', '.join(choices)}" if choices else words)
                return
        self.crosswise = self.crosswise or words


def _at(tree: dict[str, Any], name: str) -> Any:
    value: Any = tree
    for part in name.split("."):
        value = value[part]
    return value
