"""What other runs of the history show about one change of a setting, and about chance.

A pair of runs is evidence about a key when they differ in that key alone: the same rows (data's
fingerprint), the same recipe otherwise. Recipes are compared as the texts that ``runs.db`` has of
them, cut where the keys in question stand: parsing 10,000 takes half a second, this 0.15 s.
"""

import json
import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from engine.history.row import RunRow
from engine.history.store import Store

__all__ = ["SEED", "Evidence", "Evidences", "SeedSpread", "is_setting"]

SEED = "train.seed"
_FROM, _TO = '"format.', '"evaluate.sample_'
"""Where, in a recipe's text, the settings stand that a loss depends on: the data's are in the
fingerprint, those of generating come afterwards."""
_DECODE, _TEXT = json.JSONDecoder().raw_decode, json.JSONEncoder(sort_keys=True).encode
_SECTIONS = ("format.", "model.", "lora.", "train.")


def is_setting(key: str) -> bool:
    """There can be evidence about this key: pairs of runs judged on the same rows."""
    return key.startswith(_SECTIONS) and key.count(".") == 1


@dataclass(frozen=True)
class Evidence:
    """Pairs of runs that differ in one key alone, changed as between A and B."""

    pairs: int
    """Runs with the same recipe and rows count as one (by their median)."""
    median: float
    """Of the changes of the best validation loss; negative: it fell."""
    falls: int
    """In how many of the pairs it fell."""
    rises: int
    same_values: bool
    """From A's value to B's; else between other numbers, in the same direction."""

    @property
    def agreeing(self) -> int:
        """Pairs that went the way that most of them went."""
        return max(self.falls, self.rises)


@dataclass(frozen=True)
class SeedSpread:
    """How far runs lie apart that differ by their seed alone."""

    runs: int
    low: float
    high: float
    of: tuple[str, ...]
    """Whose repetitions they are: ids of A, B or both; empty: other runs' on the same rows."""

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True)
class _Known:
    """One finished run: what it is like but for the keys in question, those, and its loss."""

    id: str
    rest: Any
    values: tuple[str, ...]
    loss: float


class Evidences:
    """Of the history, about the keys in which A and B differ (and the seed)."""

    def __init__(self, store: Store, a: RunRow, b: RunRow, keys: Collection[str]) -> None:
        self.a, self.b = a, b
        self._keys = [*dict.fromkeys([*(key for key in keys if is_setting(key)), SEED])]
        prints = {run.fingerprint for run in (a, b) if run.fingerprint}
        self._known = [*self._read(store, prints)] if prints else []
        self.runs = len(self._known)
        """Finished runs on the rows of A or B, both included."""

    def _read(self, store: Store, prints: Collection[str]) -> Iterable[_Known]:
        recipes: dict[str, tuple[Any, tuple[str, ...]]] = {}
        for id, fingerprint, loss, text in _texts(store, prints):
            if not isinstance(loss, int | float) or not math.isfinite(loss):
                continue
            if text not in recipes:
                recipes[text] = _cut(text, self._keys)
            rest, values = recipes[text]
            yield _Known(id, (fingerprint, rest), values, loss)

    def of(self, key: str, old: Any, new: Any) -> Evidence | None:
        """About a change from ``old`` to ``new``; None: no other pair differs in this key alone."""
        if key not in self._keys:
            return None
        groups = self._groups(key)
        before, after = _TEXT(old), _TEXT(new)
        changes = [its[after] - its[before] for its in groups if before in its and after in its]
        if changes:
            return _evidence(changes, True)
        if not (_is_number(old) and _is_number(new)):
            return None
        for its in groups:
            steps = sorted((float(text), loss) for text, loss in its.items() if _parses(text))
            if new < old:
                steps.reverse()
            changes += [later[1] - one[1] for one, later in pairwise(steps)]
        return _evidence(changes, False) if changes else None

    def _groups(self, key: str) -> list[dict[str, float]]:
        """Value -> median loss, for runs that differ in ``key`` alone; A and B are not asked about
        each other."""
        at = self._keys.index(key)
        found: dict[Any, dict[str, list[float]]] = {}
        own: dict[Any, list[str]] = {}
        for one in self._known:
            rest = (one.rest, one.values[:at], one.values[at + 1 :])
            if one.id in (self.a.id, self.b.id):
                own.setdefault(rest, []).append(one.id)
            found.setdefault(rest, {}).setdefault(one.values[at], []).append(one.loss)
        for rest, ids in own.items():
            if len(ids) < 2:
                continue
            for one in self._known:  # the very pair that is asked about is no evidence about itself
                if one.id in ids and (one.rest, one.values[:at], one.values[at + 1 :]) == rest:
                    losses = found[rest][one.values[at]]
                    losses.remove(one.loss)
                    if not losses:
                        del found[rest][one.values[at]]
        return [
            {value: statistics.median(losses) for value, losses in its.items()}
            for its in found.values()
            if len(its) > 1
        ]

    def seeds(self) -> SeedSpread | None:
        """How far apart runs lie that differ by the seed alone: A's and B's repetitions, or else
        those of the run on the same rows that spread most; None: nobody was repeated."""
        at = self._keys.index(SEED)
        groups: dict[Any, dict[str, list[float]]] = {}
        whose: dict[Any, set[str]] = {}
        for one in self._known:
            rest = (one.rest, one.values[:at], one.values[at + 1 :])
            groups.setdefault(rest, {}).setdefault(one.values[at], []).append(one.loss)
            if one.id in (self.a.id, self.b.id):
                whose.setdefault(rest, set()).add(one.id)
        spreads = []
        for rest, by_seed in groups.items():
            if len(by_seed) > 1:
                losses = [statistics.median(its) for its in by_seed.values()]
                ids = tuple(sorted(whose.get(rest, ())))
                spreads.append(SeedSpread(len(losses), min(losses), max(losses), ids))
        own = [one for one in spreads if one.of]
        return max(own or spreads, key=lambda one: one.width, default=None)


def _evidence(changes: Sequence[float], same_values: bool) -> Evidence:
    falls, rises = sum(change < 0 for change in changes), sum(change > 0 for change in changes)
    return Evidence(len(changes), statistics.median(changes), falls, rises, same_values)


def _texts(store: Store, prints: Collection[str]) -> Iterable[tuple[str, str, Any, str]]:
    marks = ", ".join("?" * len(prints))
    return store.query(
        "SELECT runs.id, runs.fingerprint, runs.best_eval_loss, recipes.settings "
        f"FROM runs JOIN recipes ON recipes.run = runs.id WHERE runs.fingerprint IN ({marks}) "
        "AND runs.state = 'finished' AND runs.best_eval_loss IS NOT NULL",
        [*prints],
    )


def _cut(text: str, keys: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """What a recipe says but for ``keys``, as a number; and each key's value as JSON."""
    begin, end = text.find(_FROM), text.rfind(_TO)
    part = text[begin:end] if 0 <= begin < end else text
    values = []
    for key in keys:
        name = f'"{key}": '
        at = part.find(name)
        if at < 0:
            values.append("")
            continue
        first = at + len(name)
        try:
            value, last = _DECODE(part, first)
        except ValueError:
            values.append("")
            continue
        values.append(_TEXT(value))
        part = part[:at] + part[last:]
    return hash(part), tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
