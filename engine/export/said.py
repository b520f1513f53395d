"""How reports say values: losses, times, sizes, settings."""

import json
from collections.abc import Mapping
from typing import Any

from engine.words import NOTHING, bytes_words, duration

__all__ = ["losses", "percent", "setting", "value_words"]

_BYTES = ("peak_memory_bytes", "memory_bytes", "estimated_peak_bytes")
_LOSSES = ("train_loss", "best_eval_loss", "test_loss_before", "test_loss", "loss", "eval_loss")


def losses(value: Any) -> str:
    """Four digits; what is no number is said as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING if value is None else str(value)
    return f"{value:.4f}"


def percent(part: Any, whole: Any) -> str:
    """As 0.38 %; nothing where there is nothing to divide."""
    return f"{100 * part / whole:.2f} %" if part and whole else NOTHING


def setting(value: Any) -> str:
    """A recipe's value as TOML would have it, near enough to read."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def value_words(name: str, value: Any) -> str:
    """A column of the table ``runs``, for people."""
    if value is None:
        return NOTHING
    if name in _LOSSES:
        return losses(value)
    if name in _BYTES:
        return bytes_words(value)
    if name == "seconds":
        return duration(value)
    if name == "tokens_per_second" and isinstance(value, int | float):
        return f"{value:,.0f}"
    if name == "step_seconds" and isinstance(value, int | float):
        return f"{value:.3f} s"
    if isinstance(value, bool | Mapping | list):
        return setting(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
