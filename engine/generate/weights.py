"""Weights held in 4 bits, and whether they are better held whole while answering."""

from typing import Any

import torch

from engine.generate.batching import MEMORY_SHARE, free_memory
from engine.words import bytes_words

__all__ = ["hold_whole"]


def hold_whole(model: Any, device: str, dtype: str) -> str:
    """Turn 4-bit weights back into ``dtype`` once, where half of the free memory is enough.

    They keep the values that 4 bits can hold, so the mathematics is the same; left as they are,
    every one of them is turned back for every token. Returns what was decided, in words; "" for a
    model without such weights.
    """
    if not getattr(model, "is_loaded_in_4bit", False):
        return ""
    wide: torch.dtype = getattr(torch, dtype)
    need = sum(
        module.in_features * module.out_features * wide.itemsize
        for module in model.modules()
        if type(module).__name__ == "Linear4bit"
    )
    free = free_memory(device)
    if need > MEMORY_SHARE * free:
        return (
            f"weights stay in 4 bits: in {dtype} they take {bytes_words(need)}, "
            f"{bytes_words(free)} are free"
        )
    model.dequantize(dtype=wide)
    model.is_loaded_in_4bit = False
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # what the packed ones took, 1.4 GB of 3 B parameters
    return f"4-bit weights are held in {dtype} ({bytes_words(need)}): the same values, faster"
