"""The one typed description of an experiment: TOML in, checked, TOML out.

Field names are those of Transformers, TRL and PEFT wherever they have one. Every field says its
unit and default; unknown keys are refused with the nearest known one.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from engine.errors import UsageError
from engine.sections import Section
from engine.sections.data import (
    ROW_RULES,
    SET_RULES,
    TEXT_RULES,
    CleanSection,
    DataSection,
    FormatSection,
    SplitSection,
)
from engine.sections.model import LoraSection, ModelSection
from engine.sections.training import EvaluateSection, GenerateSection, TrainSection
from engine.sections.upgrade import from_version_1

__all__ = [
    "CleanSection",
    "DataSection",
    "EvaluateSection",
    "FormatSection",
    "GenerateSection",
    "LoraSection",
    "ModelSection",
    "Recipe",
    "SplitSection",
    "TrainSection",
    "builtin_recipes",
    "load_recipe",
    "read_recipe",
]


class Recipe(Section):
    """A whole experiment. Frozen; change one with :meth:`with_settings`."""

    version: Literal[2] = Field(2, description="schema version of the recipe")
    name: str = Field(pattern=r"^[\w.-]+$", max_length=64, description="short name; names the runs")
    description: str = Field("", description="one sentence for the list of recipes")
    data: DataSection = DataSection()
    clean: CleanSection = CleanSection()
    split: SplitSection = SplitSection()
    format: FormatSection = FormatSection()
    model: ModelSection = ModelSection()
    lora: LoraSection = LoraSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    generate: GenerateSection = GenerateSection()

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, tree: Any) -> Any:
        return from_version_1(tree) if isinstance(tree, dict) and tree.get("version") == 1 else tree

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.model.load_in_4bit and not self.lora.enabled:
            raise ValueError(
                "model.load_in_4bit: weights held in 4 bits cannot be trained themselves; "
                "set lora.enabled = true, or model.load_in_4bit = false"
            )
        return self

    def with_settings(self, settings: Sequence[str]) -> "Recipe":
        """A copy with ``section.key=value`` settings (TOML values; bare words are strings)."""
        tree = self.model_dump()
        for setting in settings:
            key, equals, value = setting.partition("=")
            if not equals:
                raise UsageError(f"--set {setting}: write it as section.key=value")
            _put(tree, key.strip(), _toml_value(value.strip()), f"--set {setting}")
        return _validate(tree, "--set")

    def with_values(self, values: Mapping[str, Any]) -> "Recipe":
        """A copy with these values, by ``section.key``."""
        tree = self.model_dump()
        for key, value in values.items():
            _put(tree, key, value, key)
        return _validate(tree, "recipe")

    @classmethod
    def key_names(cls) -> tuple[str, ...]:
        """Every key that recipes can have, as :meth:`flat` calls them."""
        found: list[str] = []
        for section, field in cls.model_fields.items():
            inner = getattr(field.annotation, "model_fields", None)
            found += [section] if inner is None else [f"{section}.{key}" for key in inner]
        return tuple(found)

    def flat(self) -> dict[str, Any]:
        """Every key as ``section.key`` with its value, in order."""
        found: dict[str, Any] = {}
        for section, value in self.model_dump().items():
            if isinstance(value, dict):
                found |= {f"{section}.{key}": inner for key, inner in value.items()}
            else:
                found[section] = value
        return found

    def changes(self, other: "Recipe") -> list[tuple[str, Any, Any]]:
        """(key, value here, value in ``other``) where they differ, but for name and description."""
        here, there = self.flat(), other.flat()
        keys = (key for key in here if key not in ("name", "description"))
        return [(key, here[key], there[key]) for key in keys if here[key] != there[key]]

    def to_toml(self) -> str:
        """The recipe with every value, defaults too, as TOML."""
        import tomlkit

        return tomlkit.dumps(self.model_dump())


def builtin_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that ship with tunebench."""
    folder = Path(__file__).parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """A built-in recipe by name, or one from a TOML file, with ``--set`` settings on top.

    Raises :class:`UsageError` naming the file and the key.
    """
    path = builtin_recipes().get(name) or Path(name)
    return read_recipe(path, name).with_settings(settings)


def read_recipe(path: Path, name: str = "") -> Recipe:
    """The recipe of a TOML file; ``name``: what the user called it, for messages.

    Raises :class:`UsageError` naming the file and the key.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = f", and no built-in one ({', '.join(builtin_recipes())})" if name else ""
        raise UsageError(f"{name or path}: no such recipe file{known}") from None
    except IsADirectoryError:
        raise UsageError(f"{name or path}: is a directory, not a recipe file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: not valid TOML: lists nested too deep to be read") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL byte, or what no file name can hold
        raise UsageError(f"{name!r}: not a file name") from None
    tree.setdefault("name", path.stem)
    return _validate(tree, str(path))


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *sections, field = key.split(".")
    for section in sections:
        inner = tree.get(section)
        if not isinstance(inner, dict):
            raise UsageError(f"{where}: unknown key {section!r}{_did_you_mean(section, tree)}")
        tree = inner
    if field not in tree:
        raise UsageError(f"{where}: unknown key {key!r}{_did_you_mean(field, tree)}")
    tree[field] = value


def _did_you_mean(key: str, known: Mapping[str, Any]) -> str:
    if "rules" in known and key in (*TEXT_RULES, *ROW_RULES, *SET_RULES):
        return f"; {key} is a rule: name it in clean.rules, or leave it out there"
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _validate(tree: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as failure:
        error = failure.errors()[0]
        path = [str(part) for part in error["loc"]]
        key = ".".join(path)
        if error["type"] == "extra_forbidden":
            known: Any = Recipe
            for part in path[:-1]:
                known = known.model_fields[part].annotation
            hint = _did_you_mean(path[-1], known.model_fields)
            raise UsageError(f"{where}: unknown key {key!r}{hint}") from None
        message = error["msg"].removeprefix("Value error, ")
        given = "" if isinstance(error["input"], dict) else f" (given: {error['input']!r})"
        named = f"{key}: {message}" if key else message
        raise UsageError(f"{where}: {named}{given}") from None
