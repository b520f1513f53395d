"""After an out-of-memory: the one next recipe that is likely to run, with the least change.

Pure: from the recipe that failed and the figures of its ``error`` event.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.recipe import Recipe
from engine.words import bytes_words

__all__ = ["Suggestion", "settings_words", "suggest"]

SLACK = 1.05
"""Memory is given out in blocks, and later parts of a step ask for a little more."""
MARGIN = 1.1
"""The estimate is within 15 % of what was measured, mostly within 3 %."""
SHORTEST = 8
FEWEST_NEW_TOKENS = 16
LARGE_BYTES = 1 << 30

TRAIN_BATCH = "train.per_device_train_batch_size"
EVAL_BATCH = "train.per_device_eval_batch_size"
ACCUMULATION = "train.gradient_accumulation_steps"


Peak = Callable[[Recipe], int]


@dataclass(frozen=True)
class Suggestion:
    words: str
    """One line."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Key of the recipe -> value. Empty: the same recipe again, once what the words say is done."""

    def as_event(self) -> dict[str, Any]:
        """As an ``error`` event of the journal carries it."""
        return {"words": self.words, "settings": self.settings}


def settings_words(settings: dict[str, Any]) -> str:
    """The settings as options of the command line: ``--set a=1 --set b=true``."""
    return " ".join(
        f"--set {key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.items()
    )


def suggest(recipe: Recipe, event: dict[str, Any], peak: Peak | None = None) -> Suggestion | None:
    """What to try next; None where nothing of the recipe would help.

    ``peak``: the estimated bytes of a recipe. What was in use when memory ran out says only what
    had been made until then: without an estimate a batch of 64 was halved four times (measured).
    """
    smaller = _smaller(recipe, event, peak)
    if not (others := _in_the_way(event)):
        return smaller
    wait = f"{others}: wait until it is gone and resume as it is"
    return (
        Suggestion(f"{wait}, or {smaller.words}", smaller.settings) if smaller else Suggestion(wait)
    )


def _in_the_way(event: dict[str, Any]) -> str:
    """Words for other processes on the GPU without which it would have been enough; else ""."""
    others, needed, free = (
        event.get(f"{name}_bytes") or 0 for name in ("others", "needed", "free")
    )
    if event.get("device") == "host" or others < LARGE_BYTES or needed - free > others:
        return ""
    named = [
        f"pid {one['pid']}{' ' + one['name'] if one.get('name') else ''}, "
        f"{bytes_words(one.get('bytes'))}"
        for one in (event.get("processes") or [])[:3]
    ]
    who = f" ({'; '.join(named)})" if named else ""
    return f"other work holds {bytes_words(others)} of this GPU{who}"


def _smaller(recipe: Recipe, event: dict[str, Any], peak: Peak | None) -> Suggestion | None:
    what = event.get("during")
    if event.get("device") == "host" and str(event.get("trains_on") or "cpu") != "cpu":
        return None  # the batch lies in the GPU's memory, not in the host's
    if what == "evaluation":
        return _evaluation(recipe, event, peak)
    if what == "generation":
        return _generation(recipe)
    if what == "training":
        return _training(recipe, event, peak)
    if what == "loading the model":
        return _four_bits(recipe) or Suggestion(
            "load it where more memory is free: another GPU, or a smaller model"
        )
    return None


def _shrink(event: dict[str, Any], most: int) -> int:
    """By how much a batch must be divided so that what is known would fit: 2, 4, 8, ... ``most``.

    Of what was in use when it failed, ``held_bytes`` (weights, gradients, optimiser) stays.
    Without figures: 2.
    """
    allocated = event.get("allocated_bytes") or event.get("used_bytes")
    needed, free = event.get("needed_bytes"), event.get("free_bytes")
    if allocated is None or needed is None or free is None:
        return min(2, most)
    room = allocated + free + (event.get("cached_bytes") or 0)
    held = min(event.get("held_bytes") or 0, allocated)
    parts = 2
    while parts < most and held + (allocated - held + needed) / parts * SLACK > room:
        parts *= 2
    return min(parts, most)


def _fits(
    recipe: Recipe, settings: dict[str, Any], event: dict[str, Any], peak: Peak | None
) -> bool:
    """Whether the estimate of the recipe with these settings lies within what was there."""
    names = ("used", "free")
    room = sum(event[f"{name}_bytes"] for name in names if event.get(f"{name}_bytes") is not None)
    if peak is None or event.get("device") == "host" or not room:
        return True
    return peak(recipe.with_values(settings)) * MARGIN <= room


def _held_is_too_much(event: dict[str, Any]) -> bool:
    """True when weights and optimiser alone leave less than 2 % of the GPU for a batch."""
    held, total = event.get("held_bytes"), event.get("total_bytes")
    return bool(held and total and held > 0.98 * (total - (event.get("others_bytes") or 0)))


def _training(recipe: Recipe, event: dict[str, Any], peak: Peak | None) -> Suggestion | None:
    train = recipe.train
    batch, steps = train.per_device_train_batch_size, train.gradient_accumulation_steps
    if _held_is_too_much(event) and (found := _four_bits(recipe)):
        return found
    if batch > 1:
        parts = _shrink(event, most=1 << 20)
        rows = batch * steps
        choices = [n for n in range(max(1, batch // parts), 0, -1) if rows % n == 0]
        variants = [{TRAIN_BATCH: n, ACCUMULATION: rows // n} for n in choices]
        fitting = [v for v in variants if _fits(recipe, v, event, peak)]
        settings: dict[str, Any] = fitting[0] if fitting else variants[-1]
        smaller = settings[TRAIN_BATCH]
        if batch == 2 * smaller:
            how = "halve the batch and double accumulation"
        else:
            how = "make the batch smaller and accumulate more"
        words = f"{how}: {smaller} x {rows // smaller} rows a step instead of {batch} x {steps}"
        if (parts > batch or not fitting) and not train.gradient_checkpointing:
            settings["train.gradient_checkpointing"] = True
            words += ", with gradient checkpointing"
        return Suggestion(words, settings)
    if not train.gradient_checkpointing:
        return Suggestion(
            "switch gradient checkpointing on: activations are computed twice instead of kept",
            {"train.gradient_checkpointing": True},
        )
    return _shorter(recipe) or _four_bits(recipe)


def _shorter(recipe: Recipe) -> Suggestion | None:
    length = recipe.train.max_length
    if length <= SHORTEST:
        return None
    shorter = max(SHORTEST, length // 2)
    return Suggestion(
        f"cut examples at {shorter:,} tokens instead of {length:,}: longer rows lose their end",
        {"train.max_length": shorter},
    )


def _four_bits(recipe: Recipe) -> Suggestion | None:
    if recipe.model.load_in_4bit or not recipe.lora.enabled:
        return None
    return Suggestion(
        "hold the base weights in 4 bits: about a quarter of their memory",
        {"model.load_in_4bit": True},
    )


def _evaluation(recipe: Recipe, event: dict[str, Any], peak: Peak | None) -> Suggestion | None:
    batch = recipe.train.per_device_eval_batch_size
    if batch == 1:
        return _four_bits(recipe) or _shorter(recipe)
    smaller = max(1, batch // _shrink(event, most=1 << 20))
    while smaller > 1 and not _fits(recipe, {EVAL_BATCH: smaller}, event, peak):
        smaller //= 2
    how = "halve the evaluation's batch" if batch // 2 == smaller else "evaluate fewer rows at once"
    return Suggestion(f"{how}: {smaller} rows instead of {batch}", {EVAL_BATCH: smaller})


def _generation(recipe: Recipe) -> Suggestion | None:
    evaluate = recipe.evaluate
    if evaluate.sample_max_new_tokens > FEWEST_NEW_TOKENS:
        shorter = max(FEWEST_NEW_TOKENS, evaluate.sample_max_new_tokens // 2)
        return Suggestion(
            f"generate samples of {shorter} new tokens instead of {evaluate.sample_max_new_tokens}",
            {"evaluate.sample_max_new_tokens": shorter},
        )
    if not evaluate.sample_prompts and not evaluate.sample_rows:
        return None
    return Suggestion(
        "generate no samples while it trains",
        {"evaluate.sample_prompts": [], "evaluate.sample_rows": 0},
    )
