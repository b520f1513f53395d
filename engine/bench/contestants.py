"""Who takes part: ways to run the recipe with tunebench, and its rivals, as data.

A contestant is a kind and settings on top of the bench's recipe. Rivals keep to the recipe too
(rank, batch, length, rate), but for what their documentation shows otherwise.
"""

import importlib.util
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import UsageError, UserError
from engine.jobs.check import unsloth_lacks
from engine.recipe import Recipe

__all__ = [
    "CONTESTANTS",
    "Contestant",
    "Entrant",
    "LeftOut",
    "bench_recipe",
    "choose",
    "planned_steps",
    "select",
]

Kind = Literal["tunebench", "unsloth", "trl", "bare"]


@dataclass(frozen=True)
class Contestant:
    id: str
    """What ``--only`` calls it."""
    label: str
    """At most 22 cells; ``{bits}`` stands for 16-bit, or 32-bit on a CPU."""
    kind: Kind
    settings: tuple[str, ...] = ()
    """``--set`` on the bench's recipe."""
    quick: bool = False
    """Takes part with ``--quick``."""


CHECKPOINTING = "train.gradient_checkpointing=true"

CONTESTANTS = (
    Contestant("tunebench", "tunebench", "tunebench", (), quick=True),
    # lora_dropout=0 as its documentation shows: any other value leaves its fast path.
    Contestant(
        "unsloth",
        "unsloth 4-bit",
        "unsloth",
        ("model.load_in_4bit=true", "lora.lora_dropout=0"),
        quick=True,
    ),
    Contestant("trl-4bit", "trl 4-bit", "trl", ("model.load_in_4bit=true",), quick=True),
    Contestant("bare", "bare loop {bits}", "bare", ("model.load_in_4bit=false",), quick=True),
    Contestant("trl-16bit", "trl {bits}", "trl", ("model.load_in_4bit=false",), quick=True),
    Contestant("tunebench-4bit", "tunebench 4-bit", "tunebench", ("model.load_in_4bit=true",)),
    Contestant("tunebench-16bit", "tunebench {bits}", "tunebench", ("model.load_in_4bit=false",)),
    Contestant(
        "tunebench-packed",
        "tunebench 4-bit packed",
        "tunebench",
        ("model.load_in_4bit=true", "model.unpack_4bit=false"),
    ),
    Contestant(
        "tunebench-plain",
        "tunebench plain layers",
        "tunebench",
        ("model.backend=transformers", "model.kernels=plain"),
    ),
    Contestant("tunebench-unsloth", "tunebench unsloth", "tunebench", ("model.backend=unsloth",)),
    Contestant(
        "unsloth-checkpointing",
        "unsloth checkpointing",
        "unsloth",
        ("model.load_in_4bit=true", "lora.lora_dropout=0", CHECKPOINTING),
    ),
    Contestant("trl-checkpointing", "trl checkpointing", "trl", (CHECKPOINTING,)),
)
"""The most important first. Both libraries' defaults have gradient checkpointing; without, they are
faster, so each takes part both ways."""


@dataclass(frozen=True)
class Entrant:
    """A contestant that can take part here, and its recipe (data apart)."""

    contestant: Contestant
    recipe: Recipe
    label: str


@dataclass(frozen=True)
class LeftOut:
    id: str
    why: str


def bench_recipe(recipe: Recipe, steps: int) -> tuple[Recipe, list[str]]:
    """The recipe with ``steps`` steps and nothing beside training; and what was switched off."""
    train = recipe.train
    notes = []
    if train.packing:
        notes.append("train.packing is off here: rivals are compared on the same rows, one by one")
    if train.num_processes > 1:
        notes.append(f"train.num_processes: one process here, not {train.num_processes}")
    tree = recipe.model_dump()
    tree["train"] |= {
        "max_steps": steps,
        "eval_steps": 10**6,
        "save_steps": 10**6,
        "load_best_model_at_end": False,
        "early_stopping_patience": 0,
        "stop_at_loss": 0.0,
        "num_processes": 1,
        "packing": False,
        "report_to": [],
    }
    tree["evaluate"] |= {"validation_rows": 64, "test_rows": 64, "before": False}
    tree["evaluate"] |= {"sample_prompts": [], "sample_rows": 0}
    return Recipe.model_validate(tree), notes


def planned_steps(recipe: Recipe, least: int) -> int:
    """Optimiser steps of the experiment itself, as far as its recipe tells, or ``least``.

    Unsloth chooses its kind of batches by the length of the run.
    """
    train, split = recipe.train, recipe.split
    if train.max_steps > 0:
        return max(train.max_steps, least)
    if not split.by_count:
        return least
    batch = train.per_device_train_batch_size * train.gradient_accumulation_steps
    return max(math.ceil(split.train / batch * train.num_train_epochs), least)


def select(only: str) -> tuple[Contestant, ...]:
    """Those that ``--only`` names, in their own order; all of them for "".

    Raises :class:`UsageError`.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {contestant.id: contestant for contestant in CONTESTANTS}
    for name in names:
        if name not in known:
            raise UsageError(f"--only {name}: no such contestant; there are: {', '.join(known)}")
    return tuple(c for c in CONTESTANTS if not names or c.id in names)


def choose(
    contestants: Sequence[Contestant], recipe: Recipe, device: str
) -> tuple[list[Entrant], list[LeftOut]]:
    """Who can take part on ``device`` (cuda or cpu), and who cannot and why."""
    entrants: list[Entrant] = []
    left_out: list[LeftOut] = []
    seen: dict[Any, str] = {}
    bits = "32-bit" if device == "cpu" or recipe.model.dtype == "float32" else "16-bit"
    for contestant in contestants:
        try:
            own = recipe.with_settings(contestant.settings)
            why = _why_not(contestant, own, device, _installed())
        except UserError as error:
            own, why = recipe, str(error).removeprefix("--set: ")
        key = (contestant.kind, own.to_toml())
        if not why and key in seen:
            why = f"the same as {seen[key]}"
        if why:
            left_out.append(LeftOut(contestant.id, why))
        else:
            seen[key] = contestant.id
            entrants.append(Entrant(contestant, own, contestant.label.format(bits=bits)))
    return entrants, left_out


def _installed() -> set[str]:
    return {name for name in ("unsloth", "bitsandbytes") if importlib.util.find_spec(name)}


def _why_not(contestant: Contestant, recipe: Recipe, device: str, installed: Container[str]) -> str:
    if recipe.model.load_in_4bit and "bitsandbytes" not in installed:
        return "bitsandbytes is not installed"
    if contestant.kind == "unsloth" or recipe.model.backend == "unsloth":
        if device == "cpu":
            return "unsloth needs a CUDA GPU"
        if "unsloth" not in installed:
            return "unsloth is not installed: pip install '.[gpu]'"
        if lacks := unsloth_lacks(recipe):
            return lacks
    if device == "cpu" and recipe.model.kernels == "plain":
        return "a CPU has the plain layers anyway"
    if device == "cpu" and recipe.model.unpack_4bit is False:
        return "only the fused layers hold weights unpacked, and they are for CUDA GPUs"
    if contestant.kind != "tunebench":
        train = recipe.train
        for key, there in (
            ("model.add_tokens", recipe.model.add_tokens),
            ("train.neftune_noise_alpha", train.neftune_noise_alpha),
            ("train.label_smoothing_factor", train.label_smoothing_factor),
        ):
            if there:
                return f"{key}: rivals are run without it"
    return ""
