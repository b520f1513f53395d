"""Metrics as a table: columns side by side with intervals, and how they differ, in 80 cells."""

from collections.abc import Mapping
from typing import Any

from engine.evaluate.metrics import METRICS
from engine.text import clip

__all__ = ["table"]

WIDTH = 22
SIGNIFICANT = 0.05
_ON_100 = ("bleu", "chrf")


def table(
    metrics: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, str],
    differences: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """A line a metric: value and interval of each column, then the difference of each but the base.

    ``metrics`` and ``differences`` are those of :func:`engine.evaluate.metrics.compare`. A
    difference with p below 0.05 is called better or worse where the metric has a better side.
    """
    differences = differences or {}
    names = [name for name in next(iter(metrics.values())) if _is_metric(name)]
    known = {metric.name: metric for metric in METRICS}
    heads = [_cell(labels[column]) for column in metrics]
    several = len(differences) > 1
    heads += [_cell(f"{labels[c]} - base" if several else "difference") for c in differences]
    lines = [f" {'':<12}{''.join(heads)}".rstrip()]
    for name in names:
        digits = 2 if name in _ON_100 else 3
        cells = []
        for values in metrics.values():
            low, high = values[f"{name}_ci"]
            cells.append(f"{values[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        for column in differences:
            better = known[name].better if name in known else "higher"
            cells.append(_difference(differences[column][name], digits, better))
        label = known[name].label if name in known else name.replace("_", " ")
        lines.append(f" {label:<12}{''.join(map(_cell, cells))}")
    return lines


def _is_metric(name: str) -> bool:
    return not name.endswith(("rows", "_ci"))


def _cell(text: str) -> str:
    return f"{clip(text, WIDTH - 1):>{WIDTH}}"


def _difference(found: Mapping[str, Any], digits: int, better: str) -> str:
    value, p = found["difference"], found["p"]
    words = f"{value:+.{digits}f} p={p:.3f}"
    if p >= SIGNIFICANT:
        return words
    if not better:
        return f"{words} other"
    return f"{words} {'better' if (value > 0) == (better == 'higher') else 'worse'}"
