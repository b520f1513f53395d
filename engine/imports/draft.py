"""A recipe while it is made of another tool's: what was set, from which key, what was left out."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from engine.errors import UsageError
from engine.recipe import Recipe

__all__ = ["Alias", "Changed", "Draft", "Imported", "LeftOut", "same", "shown"]

HIDDEN = "(not shown)"
_SECRET = re.compile(
    r"(?:^|[_.])(?:api_key|access_key|secret|password|webhook_url|tracking_uri)"
    r"|(?:hf|hub|wandb|auth|ms|om)_token$"
)


class Changed(NamedTuple):
    """A value that is another one here, means something else, or was the other tool's default."""

    key: str
    """Path in the other tool's file; the tool's name in parentheses for what has no key there."""
    to: str
    """``section.key = value`` of tunebench."""
    why: str


class LeftOut(NamedTuple):
    """A key without counterpart."""

    key: str
    value: Any
    why: str
    """What it would have done, or what does it here."""


@dataclass(frozen=True)
class Imported:
    """What came of an import."""

    kind: str
    tool: str
    source: str
    recipe: Recipe
    changed: tuple[Changed, ...]
    without_counterpart: tuple[LeftOut, ...]
    said: tuple[str, ...] = ()
    """Keys (``section.key``) that the file or the tool's defaults decide; tunebench's own defaults
    stand for all others."""


def same(value: Any) -> Any:
    return value


class Alias(NamedTuple):
    """How a key of another tool becomes one of tunebench."""

    to: str
    default: Any = None
    """The tool's own, where the key is left out; None: it has none, or another rule sees to it."""
    convert: Callable[[Any], Any] = same
    """Raises ValueError for what has no meaning here."""
    why: str = ""
    """Said whenever the key is there: its meaning is not quite the same."""


@dataclass
class Draft:
    """Takes keys out of ``tree`` (their whole paths -> values) and puts values into a recipe."""

    path: Path
    tool: str
    tree: Mapping[str, Any]
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the user sets in any case (``section.key`` -> value): need not be in the file."""
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    changed: list[Changed] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which is then dealt with; ``default`` when left out or empty."""
        self._taken.add(key)
        value = self.tree.get(key)
        return default if value is None else value

    def has(self, key: str) -> bool:
        return self.tree.get(key) is not None

    def convert(self, key: str, into: Callable[[Any], Any], default: Any) -> Any:
        """A value as ``into`` makes it. Raises :class:`UsageError` where that is not possible."""
        return self.converted(key, self.take(key, default), into)

    def converted(self, key: str, value: Any, into: Callable[[Any], Any]) -> Any:
        try:
            return into(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.wrong(key, str(error)) from None

    def number(self, key: str, default: float) -> float:
        """A number that rules reckon with. Raises :class:`UsageError` for anything else."""
        value = self.take(key, default)
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value)
            return int(number) if number == int(number) else number
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(key, f"must be a number, not {value!r}") from None

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, not {value!r}")
        return value

    def put(self, to: str, value: Any, key: str, why: str = "") -> None:
        """Set ``to``; with ``why`` it is told as changed."""
        section, _, name = to.partition(".")
        self.made.setdefault(section, {})[name] = value
        self.origin[to] = key
        if why:
            self.change(key, to, value, why)

    def change(self, key: str, to: str, value: Any, why: str) -> None:
        self.changed.append(Changed(key, f"{to} = {shown(value)}", why))

    def get(self, to: str) -> Any:
        """What was put, else tunebench's own default."""
        section, _, name = to.partition(".")
        made = self.made.get(section, {})
        return made[name] if name in made else ours(to)

    def carry(self, key: str, to: str, default: Any) -> None:
        """The other tool's default of a key that is left out; told where ours is another one."""
        self.put(to, default, key, self.default_words if default != ours(to) else "")

    @property
    def default_words(self) -> str:
        return f"default of {self.tool}"

    def alias(self, key: str, rule: Alias) -> None:
        value = self.take(key)
        if value is None:
            if rule.default is not None:
                self.carry(key, rule.to, rule.default)
            return
        new = self.converted(key, value, rule.convert)
        why = rule.why
        if not why and rule.convert is not same and (new != value or type(new) is not type(value)):
            why = f"was {shown(value)}"
        self.put(rule.to, new, key, why)

    def aliases(self, table: Mapping[str, Alias]) -> None:
        """All of a table; keys of adapters have no effect where every weight is trained."""
        adapters = self.get("lora.enabled")
        for key, rule in table.items():
            if adapters or not rule.to.startswith("lora."):
                self.alias(key, rule)
            elif self.has(key):
                self.leave(key, "without effect: every weight is trained")

    def leave(self, key: str, why: str, value: Any = None) -> None:
        """Say that a key has no counterpart; ``value``: where it is not the tree's own."""
        self._taken.add(key)
        value = self.tree.get(key) if value is None else value
        self.left_out.append(LeftOut(key, HIDDEN if secret(key) else _public(value), why))

    def leave_rest(self, words: Mapping[str, str]) -> None:
        """Every key that no rule took; ``words`` by key, by ``beginning*``, or by nothing."""
        for key, value in self.tree.items():
            if key not in self._taken and value is not None:
                why = words.get(key) or next(
                    (
                        text
                        for name, text in words.items()
                        if name.endswith("*") and key.startswith(name[:-1])
                    ),
                    f"not known: no key of {self.tool} that this import knows",
                )
                self.leave(key, why)

    def wrong(self, key: str, words: str) -> UsageError:
        return UsageError(f"{self.path}: {key}: {words}")

    def recipe(self, name: str, description: str) -> Recipe:
        """Raises :class:`UsageError` that names the file and the other tool's key."""
        tree = {"name": name, "description": description, **self.made}
        try:
            return Recipe.model_validate(tree)
        except ValidationError as failure:
            error = failure.errors()[0]
            to = ".".join(str(part) for part in error["loc"][:2])
            message = error["msg"].removeprefix("Value error, ")
            given = "" if isinstance(error["input"], dict) else f" (given: {shown(error['input'])})"
            key = self.origin.get(to)
            if to == "name":
                raise UsageError(f"--name {name}: {message}") from None
            where = f"{self.path}: {key} -> {to}" if key else f"{self.path}: {to}"
            raise UsageError(f"{where}: {message}{given}") from None


def ours(to: str) -> Any:
    """The default of one of tunebench's keys."""
    section, _, name = to.partition(".")
    default = getattr(Recipe.model_fields[section].default, name)
    return default


def secret(key: str) -> bool:
    """Whether a key's value must not be written anywhere."""
    return bool(_SECRET.search(key))


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            str(key): HIDDEN if secret(str(key)) else _public(inner) for key, inner in value.items()
        }
    return [_public(inner) for inner in value] if isinstance(value, list) else value


def shown(value: Any) -> str:
    """A value for people, as TOML writes it."""
    if value is None:
        return "(nothing)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {shown(inner)}' for key, inner in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)
