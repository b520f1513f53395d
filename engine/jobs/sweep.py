"""Sweeps: one recipe, several values of some keys, and a run for each combination.

Everything is checked before anything is made, and all runs are made or none.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import UsageError
from engine.home import Home
from engine.jobs import leases
from engine.jobs.create import LONGEST_NAME, Plan, create_queued
from engine.jobs.folder import RunFolder

if TYPE_CHECKING:
    from engine.recipe import Recipe

__all__ = ["Point", "Sweep", "create", "parse"]

SHORT = {
    "learning_rate": "lr",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "modules",
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accum",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_length": "len",
    "weight_decay": "wd",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "sched",
    "model_name_or_path": "model",
    "neftune_noise_alpha": "neftune",
    "label_smoothing_factor": "smooth",
}
"""What a key is called in the name of a run; others by their last word."""
DATA_SECTIONS = ("data", "clean", "split")


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    recipe: "Recipe"
    values: dict[str, Any]
    """Key -> the recipe's value, for the keys that the sweep is about."""


@dataclass(frozen=True)
class Sweep:
    """A group of runs to be made."""

    name: str
    points: tuple[Point, ...]


def parse(
    recipe: "Recipe",
    options: Sequence[str],
    name: str | None = None,
    settings: Sequence[str] = (),
) -> Sweep:
    """The sweep of ``KEY=VALUE,VALUE,...`` options: all combinations, the last key fastest.

    ``settings`` are the KEY=VALUE that the recipe was changed by. Raises UsageError, naming key and
    value.
    """
    axes = _axes(options, settings)
    short = _short(list(axes))
    points: list[Point] = []
    taken: set[str] = set()
    for texts in itertools.product(*axes.values()):
        chosen = dict(zip(axes, texts, strict=True))
        made = _recipe(recipe, chosen)
        values = {key: _value(made, key) for key in axes}
        if any(values == point.values for point in points):
            given = " ".join(f"{key}={text}" for key, text in chosen.items())
            raise UsageError(f"--sweep {given}: the same value twice")
        words = [f"{short[key]}{_plain(text)}" for key, text in chosen.items()]
        points.append(
            Point(_unique(name or recipe.name, words, len(points) + 1, taken), made, values)
        )
    return Sweep(name or f"{recipe.name[: LONGEST_NAME - 10]}-sweep", tuple(points))


def _axes(options: Sequence[str], settings: Sequence[str]) -> dict[str, list[str]]:
    fixed = {setting.partition("=")[0].strip() for setting in settings}
    axes: dict[str, list[str]] = {}
    for option in options:
        key, equals, text = option.partition("=")
        key = key.strip()
        if not equals or "." not in key:
            raise UsageError(f"--sweep {option}: write it as section.key=value,value,...")
        if key in axes or key in fixed:
            raise UsageError(f"--sweep {option}: {key} is set twice")
        axes[key] = values = _split(text)
        if not all(values):
            raise UsageError(f"--sweep {option}: an empty value; write a value between commas")
    return axes


def _split(text: str) -> list[str]:
    """The parts between commas, but for those in brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if character == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _recipe(recipe: "Recipe", chosen: dict[str, str]) -> "Recipe":
    words = [f"{key}={text}" for key, text in chosen.items()]
    try:
        made = recipe.with_settings(words)
    except UsageError as error:
        message = str(error).removeprefix("--set").lstrip(": ")
        for word in words:
            message = message.removeprefix(f"{word}: ")
        raise UsageError(f"--sweep {' '.join(words)}: {message}") from None
    about = [key for key in chosen if key.split(".")[0] in DATA_SECTIONS and key != "data.name"]
    if not about or "data.name" in chosen:
        return made
    # Datasets that differ and have one name would replace each other, run by run.
    from engine.data.sources import dataset_name

    parts = [f"{key.split('.')[-1]}{_plain(chosen[key])}" for key in about]
    own = "-".join([dataset_name(made.data), *parts])
    return made.with_settings([f"data.name={own!r}"])


def _value(recipe: "Recipe", key: str) -> Any:
    value: Any = recipe.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


def _short(keys: list[str]) -> dict[str, str]:
    """Each key's short name; those that would be the same keep their section."""
    short = {key: SHORT.get(key.split(".")[-1], key.split(".")[-1]) for key in keys}
    twice = {word for word in short.values() if list(short.values()).count(word) > 1}
    return {
        key: key.replace(".", "-") if word in twice else word.replace("_", "-")
        for key, word in short.items()
    }


def _plain(text: str) -> str:
    """A value as it may stand in a name: of a path only its last part."""
    text = text.strip("\"'").rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9.]+", "_" if "[" in text else "-", text).strip("-_")


def _unique(base: str, words: list[str], number: int, taken: set[str]) -> str:
    name = "-".join([base, *words])
    if len(name) > LONGEST_NAME:
        name = f"{base[: LONGEST_NAME - 6]}-{number}"
    while name in taken:
        name = f"{name[: LONGEST_NAME - 6]}-{number}"
        number += 1
    taken.add(name)
    return name


def create(home: Home, sweep: Sweep, exact: bool) -> tuple[str, list[RunFolder]]:
    """Make all runs and put them in the queue; returns the sweep's name with their folders.

    ``exact``: the names are asked for and must be free; else they are numbered. Raises UsageError
    when a run wants more GPUs than there are, and UserError; no run is made then.
    """
    visible = leases.visible_here()
    plans = []
    for point in sweep.points:
        try:
            processes = point.recipe.train.num_processes
            gpus = leases.wanted(point.recipe.model.device, processes, visible)
        except UsageError as error:
            raise UsageError(f"{point.name}: {error}") from None
        plans.append(Plan(point.recipe, gpus, point.name, point.values))
    name, folders = create_queued(home, plans, visible, sweep.name, exact)
    return name or sweep.name, folders
