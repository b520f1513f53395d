"""How times and sizes are said, on the screen and on a terminal alike."""

import math
import time
from typing import Any

__all__ = ["NOTHING", "bytes_words", "counted", "duration", "moment", "percent"]

NOTHING = "–"
"""Shown where there is no value yet."""


def duration(seconds: Any) -> str:
    """The two biggest parts of a time: 42 s, 3 min 05 s, 17 h 20 min, 2 d 3 h."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return NOTHING
    if not math.isfinite(seconds):
        return NOTHING
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute:02} min"
    if minutes:
        return f"{minutes} min {second:02} s"
    return f"{second} s"


def percent(done: float, whole: float) -> str:
    """A share of work: 100 % only when all of it is done, and never more, as of a trainer that
    made a step too many."""
    return f"{max(0, min(100, int(100 * done // whole)))} %"


def moment(seconds: float) -> str:
    """A time since 1970 on the local clock: 2025-11-30 17:04; nothing for 0 or one out of reach."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else NOTHING
    except (OverflowError, ValueError, OSError):
        return NOTHING


def counted(number: int, noun: str) -> str:
    """1 checkpoint, 2 checkpoints, 1,200 checkpoints: of a noun whose plural has an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def bytes_words(value: Any) -> str:
    """Bytes in binary units: 812 MiB, 27.6 GiB."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return NOTHING
    found = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(found) < 1000:
            return f"{found:.0f} {unit}" if unit != "GiB" else f"{found:.1f} {unit}"
        found /= 1024
    return f"{found:.1f} TiB"
