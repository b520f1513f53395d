"""Numbers as questions write them, with their units: ``16gib``, ``90min``, ``2026-11-30``."""

import datetime
import re

__all__ = ["number_of", "wanted_words"]

_SIZES = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZES |= {"kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40, "b": 1}
_TIMES = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MANY = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)", re.IGNORECASE)


def wanted_words(kind: str) -> str:
    """What has to be written for a field of this kind."""
    return {
        "bytes": "a size as 16gib",
        "seconds": "a time as 90min or 2h",
        "time": "a date as 2026-11-30",
    }.get(kind, "a number")


def number_of(kind: str, wanted: str) -> float | None:
    """The wanted value in the unit of a field of this kind; None: it is no number."""
    if kind == "time":
        try:
            return datetime.datetime.fromisoformat(wanted).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if wanted.lower() in ("nan", "inf", "infinity"):
        return float(wanted)
    match = _NUMBER.fullmatch(wanted)
    if match is None:
        return None
    units = {"bytes": _SIZES, "seconds": _TIMES}.get(kind, _MANY)
    unit = match[2].lower()
    if unit and unit not in units:
        return None
    return float(match[1].replace("_", "")) * (units[unit] if unit else 1)
