"""Metrics as a table: columns side by side with intervals, and how they differ, in 80 cells."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.evaluate.metrics import METRICS
from engine.text import clip

__all__ = ["label_of", "table", "value_words"]

WIDTH = 22
MOST_COLUMNS = 3
"""Beside each other: 79 cells."""
SIGNIFICANT = 0.05
_ON_100 = ("bleu", "chrf")
_LABELS = {metric.name: metric.label for metric in METRICS}


def table(
    metrics: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, str],
    differences: Mapping[str, Mapping[str, Any]] | None = None,
    better: Mapping[str, str] | None = None,
) -> list[str]:
    """A line a metric: value and interval of each column, then the difference of each but the base.

    ``metrics`` and ``differences`` are those of :func:`engine.evaluate.metrics.compare`, ``better``
    says which side of a metric is: higher, lower, or "". A difference with p below 0.05 is called
    better or worse by that. Differences that make the table too wide come below it.
    """
    values = [
        _Column(labels[column], {name: _value(its, name) for name in its if _is_metric(name)})
        for column, its in metrics.items()
    ]
    changes = [
        _Column(
            "difference" if len(differences or {}) == 1 else f"{labels[column]} - base",
            {name: _difference(its[name], name, (better or {}).get(name, "")) for name in its},
        )
        for column, its in (differences or {}).items()
    ]
    if len(values) + len(changes) <= MOST_COLUMNS:
        return _lines([*values, *changes])
    return [*_lines(values), "", *_lines(changes)]


class _Column(NamedTuple):
    head: str
    cells: dict[str, str]


def label_of(name: str) -> str:
    """What a metric is called."""
    return _LABELS.get(name, name.replace("_", " "))


def value_words(name: str, value: float, low: float, high: float) -> str:
    """A metric's value with its interval."""
    digits = _digits(name)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _lines(columns: list[_Column]) -> list[str]:
    lines = [f" {'':<12}{''.join(_cell(column.head) for column in columns)}"]
    for name in columns[0].cells:
        cells = "".join(_cell(column.cells[name]) for column in columns)
        lines.append(f" {label_of(name):<12}{cells}")
    return lines


def _value(values: Mapping[str, Any], name: str) -> str:
    return value_words(name, values[name], *values[f"{name}_ci"])


def _digits(name: str) -> int:
    return 2 if name in _ON_100 else 3


def _is_metric(name: str) -> bool:
    return not name.endswith(("rows", "_ci"))


def _cell(text: str) -> str:
    return f"{clip(text, WIDTH - 1):>{WIDTH}}"


def _difference(found: Mapping[str, Any], name: str, better: str) -> str:
    value, p = found["difference"], found["p"]
    words = f"{value:+.{_digits(name)}f} p={p:.3f}"
    if p >= SIGNIFICANT:
        return words
    if not better:
        return f"{words} other"
    return f"{words} {'better' if (value > 0) == (better == 'higher') else 'worse'}"
