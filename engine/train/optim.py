"""Which optimiser ``train.optim = "auto"`` stands for: for runs, and to estimate them. No torch."""

from engine.jobs.ranks import is_sharded
from engine.recipe import Recipe

__all__ = ["resolve_optim"]


def resolve_optim(recipe: Recipe, device: str) -> str:
    """``train.optim``; auto: plain AdamW for adapters (all of them in one launch on a GPU), on a
    CPU, and for sharded weights; else 8-bit AdamW, whose state is a quarter."""
    optim = recipe.train.optim
    if optim != "auto":
        return optim
    if device == "cpu" or is_sharded(recipe):
        return "adamw_torch"
    return "adamw_torch_fused" if recipe.lora.enabled else "adamw_8bit"
