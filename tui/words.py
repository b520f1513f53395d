"""How numbers, sizes and times are said: short, of one width as far as possible, never ``None``."""

import math
from typing import Any

from engine.words import NOTHING, bytes_words, duration, percent

__all__ = [
    "NOTHING",
    "bytes_words",
    "duration",
    "lately",
    "loss",
    "number",
    "of_bytes",
    "percent",
    "rate",
    "when",
]


def _finite(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def loss(value: Any) -> str:
    """A loss with three decimals; NaN and infinities by name."""
    found = _finite(value)
    if found is None:
        return NOTHING
    if not math.isfinite(found):
        return "NaN" if found != found else ("inf" if found > 0 else "-inf")
    return f"{found:.3f}" if abs(found) < 1000 else f"{found:.2e}"


def rate(value: Any) -> str:
    """A learning rate: 3e-4, 2.85e-3, 0."""
    found = _finite(value)
    if found is None:
        return NOTHING
    if not found or not math.isfinite(found):
        return f"{found:g}"
    power = math.floor(math.log10(abs(found)))
    return f"{found / 10.0**power:.2f}".rstrip("0").rstrip(".") + f"e{power}"


def number(value: Any, digits: int = 3) -> str:
    """Any number in few characters: 312, 12.3k, 0.82."""
    found = _finite(value)
    if found is None:
        return NOTHING
    if not math.isfinite(found):
        return "NaN" if found != found else ("inf" if found > 0 else "-inf")
    for power, suffix in ((12, "T"), (9, "G"), (6, "M"), (4, "k")):
        if abs(found) >= 10.0**power:
            scale = 1e3 if power == 4 else 10.0**power
            return f"{found / scale:.1f}{suffix}"
    if isinstance(value, int) or abs(found) >= 1000:
        return f"{found:.0f}"
    return f"{found:.{digits}g}"


def of_bytes(part: Any, whole: Any) -> str:
    """A part of a whole in the unit of the whole: 5.0/16.0 GiB."""
    words = bytes_words(whole)
    found = _finite(part)
    if found is None or words == NOTHING:
        return f"{bytes_words(part)} of {words}"
    size = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(words.split()[1])
    return f"{found / size:.{1 if '.' in words else 0}f}/{words}"


def when(then: Any, now: float) -> str:
    """How long ago: "42 s ago", "3 h ago", "5 d ago"."""
    found = _finite(then)
    if found is None:
        return NOTHING
    ago = max(0.0, now - found)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if ago >= size:
            return f"{int(ago // size)} {unit} ago"
    return f"{int(ago)} s ago"


def lately(then: float, now: float) -> str:
    """:func:`when` in words that seldom change: by the second up to five only, then by fives."""
    ago = max(0, int(now - then))
    return f"{ago // 5 * 5} s ago" if 5 <= ago < 60 else when(then, now)
