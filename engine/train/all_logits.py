"""Whether the loss is computed over all logits of a batch at a time: from the recipe, no torch."""

from importlib import metadata

from packaging.version import Version

from engine.jobs.ranks import is_sharded
from engine.recipe import Recipe

__all__ = ["takes_all_logits"]

WHOLE_GROUPS = Version("2.13")
"""From this torch on, sharded weights are collected also where not every module of their group
runs. TRL's chunked loss passes the head by; the batch after a checkpoint then found shards."""


def takes_all_logits(recipe: Recipe) -> bool:
    """Where TRL's chunked loss cannot be: it reads the head's base weight, and keeps no logits."""
    lora = recipe.lora
    trained = (*lora.modules_to_save, *lora.target_modules)
    head_trained = lora.enabled and (bool(recipe.model.add_tokens) or "lm_head" in trained)
    return (
        head_trained
        or recipe.train.label_smoothing_factor > 0
        or (is_sharded(recipe) and not _has_whole_groups())
    )


def _has_whole_groups() -> bool:
    try:
        return Version(metadata.version("torch")) >= WHOLE_GROUPS
    except metadata.PackageNotFoundError:
        return True
