"""Round values for axes, and labels for them that are short and differ."""

import itertools
import math
from collections.abc import Sequence

__all__ = ["log_labels", "log_ticks", "nice_step", "nice_ticks", "tick_labels"]


def nice_step(span: float, count: float) -> float:
    """The 1-2-5 step that cuts ``span`` into at most ``count`` pieces."""
    raw = span / max(1.0, count)
    if not (raw > 0 and math.isfinite(raw)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        if power * factor >= raw * (1 - 1e-9):
            return power * factor
    return power * 10


def nice_ticks(low: float, high: float, count: float) -> list[float]:
    """Round values inside [low, high], at most about ``count`` of them."""
    step = nice_step(high - low, count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, min(last, first + 64) + 1)]


def log_ticks(low: float, high: float, count: float) -> list[float]:
    """Decades inside [low, high] > 0, with 2 and 5 between them when there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= count:
            break
    if len(ticks) < 2:
        ticks = [tick for tick in nice_ticks(low, high, count) if tick > 0] or ticks
    return ticks[:: max(1, math.ceil(len(ticks) / max(1.0, count)))]


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Short labels that differ: 1.5k, 1796, 2.31, 3e-4, never more digits than the step needs."""
    if not ticks:
        return []
    biggest = max(abs(tick) for tick in ticks)
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=biggest) or 1.0
    if biggest >= 1000:
        power = min(4, int(math.log10(biggest * 1.0000001)) // 3)
        scale, suffix = 1000.0**power, " kMGT"[power]
        digits = max(0, -math.floor(math.log10(step / scale) + 1e-9))
        short = [f"{t / scale:.{digits}f}{suffix}" if abs(t) > 1e-12 else "0" for t in ticks]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        whole = [f"{t:.{digits}f}" for t in ticks]
        return whole if len(max(whole, key=len)) < len(max(short, key=len)) else short
    if 0 < biggest < 1e-2:
        power = math.floor(math.log10(biggest) + 1e-9)
        digits = max(0, power - math.floor(math.log10(step) + 1e-9))
        return [f"{t / 10.0**power:.{digits}f}e{power}" if abs(t) > 1e-15 else "0" for t in ticks]
    digits = min(12, max(0, -math.floor(math.log10(step) + 1e-9)))
    return [f"{t:.{digits}f}" for t in ticks]


def log_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of a logarithmic axis: each as short as it can be alone, where they differ then."""
    alone = [tick_labels([tick])[0] for tick in ticks]
    return alone if len(set(alone)) == len(alone) else tick_labels(ticks)
