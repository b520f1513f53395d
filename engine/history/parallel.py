"""A sweep seen by its parameters: the best of each value, and a parameter against a metric."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.history.compare import MEASURES, Yardstick, best_of, is_number, measure, value_of
from engine.history.queries import sweep_values
from engine.history.row import RunRow

__all__ = ["ByValue", "Point", "by_value", "metrics_of", "parameters_of", "points", "sorted_values"]


@dataclass(frozen=True)
class ByValue:
    """What the runs with one value of a parameter came to."""

    value: Any
    runs: int
    measured: int
    """Of them have the metric, as a finite number."""
    best: float | None
    median: float | None
    best_run: RunRow | None
    leads: bool
    """No other value has a better best one."""


@dataclass(frozen=True)
class Point:
    """One run: its value of the parameter and of the metric."""

    run: RunRow
    value: Any
    y: float


def parameters_of(runs: Sequence[RunRow]) -> list[str]:
    """The recipe's keys that the sweep is about."""
    return list(dict.fromkeys(key for run in runs for key in sweep_values(run)))


def metrics_of(runs: Sequence[RunRow]) -> list[str]:
    """Names of the numeric measures that some of the runs have, the losses first."""
    found = [
        one.name
        for one in MEASURES
        if one.kind != "text" and any(is_number(value_of(run, one.name)) for run in runs)
    ]
    first = ("best_eval_loss", "test_loss", "train_loss")
    rest = [name for name in found if name not in first]
    return [*(name for name in first if name in found), *(n for n in rest if _varies(runs, n))]


def _varies(runs: Sequence[RunRow], name: str) -> bool:
    return len({value_of(run, name) for run in runs}) > 1


def points(runs: Sequence[RunRow], key: str, metric: str) -> list[Point]:
    """The runs that have both, in their order."""
    made = []
    for run in runs:
        values, y = sweep_values(run), value_of(run, metric)
        if key in values and is_number(y):
            made.append(Point(run, values[key], float(y)))
    return made


def by_value(
    runs: Sequence[RunRow], key: str, metric: str, judged: Yardstick | None = None
) -> list[ByValue]:
    """For each value of ``key``, in ascending order: how many runs, the best and the median of a
    metric. Of a metric that is better in neither direction the lowest counts as best; no value
    leads where ``judged`` says that the losses are not comparable."""
    found = points(runs, key, metric)
    pick = max if measure(metric).better == "higher" else min
    groups: dict[str, tuple[Any, int]] = {}
    for run in runs:
        values: Mapping[str, Any] = sweep_values(run)
        if key in values:
            value = values[key]
            groups[repr(value)] = value, groups.get(repr(value), (value, 0))[1] + 1
    made = []
    for value in sorted_values([value for value, _ in groups.values()]):
        its = [point for point in found if repr(point.value) == repr(value)]
        best = pick(its, key=lambda point: point.y, default=None)
        median = statistics.median(point.y for point in its) if its else None
        made.append((value, groups[repr(value)][1], len(its), best, median))
    leading = best_of(metric, [best.y if best else None for *_, best, _ in made], judged)
    return [
        ByValue(
            *(value, count, measured, best.y if best else None, median),
            best.run if best else None,
            place in leading,
        )
        for place, (value, count, measured, best, median) in enumerate(made)
    ]


def sorted_values(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, then everything else by how it reads."""
    return sorted(
        values,
        key=lambda value: (0, value, "") if is_number(value) else (1, 0, str(value)),
    )
