"""What runs differ in: recipe, data, versions, machine; each difference with every run's value."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.history.recipe_values import RecipeValues, recipe_values
from engine.history.row import RunRow
from engine.history.store import Store

__all__ = ["GROUPS", "Difference", "Differences", "differ"]

GROUPS = ("model", "lora", "data", "train", "generation", "versions", "machine")
_OF_SECTION = {
    "model": "model",
    "lora": "lora",
    "data": "data",
    "clean": "data",
    "split": "data",
    "format": "data",
    "train": "train",
    "evaluate": "train",
    "generate": "generation",
}
_DATA = ("dataset", "fingerprint", "train_rows", "validation_rows", "test_rows")
_MACHINE = ("gpu", "device", "dtype", "optim", "num_processes", "backend")


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all of the runs."""

    key: str
    """``section.key`` of the recipe; a field of :class:`RunRow`; ``versions.PACKAGE``;
    ``cleaning`` (the rules that made the dataset)."""
    group: str
    """One of :data:`GROUPS`."""
    values: tuple[Any, ...]
    """Of each run; None: not known, or (a version) not installed."""

    @property
    def of_recipe(self) -> bool:
        return "." in self.key and self.group not in ("versions", "machine")


@dataclass(frozen=True)
class Differences:
    """Everything that differs, by group, in the recipe's order."""

    runs: tuple[RunRow, ...]
    found: tuple[Difference, ...]
    settings: tuple[RecipeValues, ...]
    """The recipes that were compared."""
    of_some: dict[str, tuple[Any, ...]]
    """Recipe keys that are known of some of the runs only: whether they differ is not known."""

    @property
    def problems(self) -> dict[str, str]:
        """Run's id -> why its recipe cannot be read."""
        pairs = zip(self.runs, self.settings, strict=True)
        return {run.id: settings.problem for run, settings in pairs if settings.problem}

    def groups(self) -> dict[str, list[Difference]]:
        """The differences of each group that has some."""
        made: dict[str, list[Difference]] = {name: [] for name in GROUPS}
        for one in self.found:
            made[one.group].append(one)
        return {name: its for name, its in made.items() if its}

    @property
    def words(self) -> list[str]:
        """What could not be compared, a sentence each."""
        names = {run.id: run.name for run in self.runs}
        told = [
            f"{names[id]}: its recipe is not compared ({problem})"
            for id, problem in self.problems.items()
        ]
        if self.of_some:
            count = len(self.of_some)
            keys = f"{count:,} settings are" if count > 1 else f"{next(iter(self.of_some))} is"
            told.append(f"{keys} known of some of the runs only, and not compared")
        return told


def differ(store: Store, runs: Sequence[RunRow]) -> Differences:
    """What differs between ``runs``. Of a run without a readable recipe the rest is compared."""
    known = recipe_values(store, [run.id for run in runs])
    settings = tuple(known[run.id] for run in runs)
    recipe, of_some = _of_recipes([one for one in settings if not one.problem], settings)
    found = [
        *recipe,
        *_of_columns(runs, _DATA, "data"),
        *_cleaning(store, runs, recipe),
        *_of_versions(runs),
        *_of_columns(runs, ("git_commit",), "versions"),
        *_of_columns(runs, _MACHINE, "machine"),
    ]
    found.sort(key=lambda one: GROUPS.index(one.group))
    return Differences(tuple(runs), tuple(found), settings, of_some)


def _of_recipes(
    readable: Sequence[RecipeValues], settings: Sequence[RecipeValues]
) -> tuple[list[Difference], dict[str, tuple[Any, ...]]]:
    found, of_some = [], {}
    for key in dict.fromkeys(key for one in readable for key in one.values):
        group = _OF_SECTION.get(key.partition(".")[0])
        if group is None:
            continue
        there = [one.values[key] for one in readable if key in one.values]
        values = tuple(one.values.get(key) for one in settings)
        if any(value != there[0] for value in there):
            found.append(Difference(key, group, values))
        elif len(there) < len(readable):
            of_some[key] = values
    return found, of_some


def _of_columns(runs: Sequence[RunRow], names: Sequence[str], group: str) -> list[Difference]:
    """What is known of two runs at least, and is not the same."""
    made = []
    for name in names:
        values = tuple(getattr(run, name) for run in runs)
        if len({value for value in values if value is not None}) > 1:
            made.append(Difference(name, group, values))
    return made


def _of_versions(runs: Sequence[RunRow]) -> list[Difference]:
    versions = [_versions(run) for run in runs]
    known = [one for one in versions if one]
    made = []
    for package in dict.fromkeys(package for one in known for package in one):
        if len({one.get(package) for one in known}) > 1:
            values = tuple(one.get(package) for one in versions)
            made.append(Difference(f"versions.{package}", "versions", values))
    return made


def _versions(run: RunRow) -> Mapping[str, Any]:
    try:
        found = json.loads(run.versions) if run.versions else {}
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _cleaning(
    store: Store, runs: Sequence[RunRow], recipe: Sequence[Difference]
) -> list[Difference]:
    """The rules that made the datasets, where the recipes do not tell of them already."""
    prints = {run.fingerprint for run in runs if run.fingerprint}
    if len(prints) < 2 or any(one.key.startswith("clean.") for one in recipe):
        return []
    marks = ", ".join("?" * len(prints))
    sql = f"SELECT fingerprint, clean FROM datasets WHERE fingerprint IN ({marks})"
    rules = {fingerprint: _rules(text) for fingerprint, text in store.query(sql, [*prints])}
    values = tuple(rules.get(run.fingerprint or "") for run in runs)
    if len({value for value in values if value is not None}) < 2:
        return []
    return [Difference("cleaning", "data", values)]


def _rules(text: Any) -> str | None:
    """The rules that were on, in order, each with its options."""
    try:
        clean = json.loads(text)
        rules = clean["rules"]
        parts = [
            f"{rule} {json.dumps(clean[rule])}" if clean.get(rule) else str(rule) for rule in rules
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return ", ".join(parts) or "none"
