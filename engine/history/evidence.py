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
from typing import Any, NamedTuple

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


class _Known(NamedTuple):
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
        self._pair = [one for one in self._known if one.id in (a.id, b.id)]
        self.runs = len(self._known)
        """Finished runs on the rows of A or B, both included."""

    def _read(self, store: Store, prints: Collection[str]) -> Iterable[_Known]:
        cut = _Cut(self._keys)
        for id, fingerprint, loss, text in _texts(store, prints):
            if isinstance(loss, int | float) and math.isfinite(loss):
                rest, values = cut(text)
                yield _Known(id, (fingerprint, rest), values, loss)

    def of(self, key: str, old: Any, new: Any) -> Evidence | None:
        """About a change from ``old`` to ``new``; None: no other pair differs in this key alone."""
        if key not in self._keys:
            return None
        before, after = _TEXT(old), _TEXT(new)
        changes = [
            its[after] - its[before] for its in self._groups(key, {before, after}) if len(its) == 2
        ]
        if changes:
            return _evidence(changes, True)
        if not (_is_number(old) and _is_number(new)):
            return None
        for its in self._groups(key):
            steps = sorted((float(text), loss) for text, loss in its.items() if _parses(text))
            if new < old:
                steps.reverse()
            changes += [later[1] - one[1] for one, later in pairwise(steps)]
        return _evidence(changes, False) if changes else None

    def _groups(self, key: str, only: Collection[str] | None = None) -> list[dict[str, float]]:
        """Value -> median loss, for runs that differ in ``key`` alone; ``only``: these values.

        The very pair that is asked about is no evidence about itself.
        """
        at = self._keys.index(key)
        groups = self._alike(at, only)
        rests = [_but(one, at) for one in self._pair]
        if len(rests) == 2 and rests[0] == rests[1]:  # they differ in this key alone
            groups[rests[0]] = [one for one in groups.get(rests[0], ()) if one not in self._pair]
        made = []
        for its in groups.values():
            if len(its) == 2:
                one, other = its
                if one.values[at] != other.values[at]:
                    made.append({one.values[at]: one.loss, other.values[at]: other.loss})
            elif len(its) > 2 and len(by_value := _medians(its, at)) > 1:
                made.append(by_value)
        return made

    def _alike(self, at: int, only: Collection[str] | None = None) -> dict[Any, list[_Known]]:
        """Runs that differ in their ``at``-th key at most; ``only``: with these values of it."""
        found: dict[Any, list[_Known]] = {}
        for one in self._known:
            if only is None or one.values[at] in only:
                found.setdefault(_but(one, at), []).append(one)
        return found

    def seeds(self) -> SeedSpread | None:
        """How far apart runs lie that differ by the seed alone: A's and B's repetitions, or else
        those of the run on the same rows that spread most; None: nobody was repeated."""
        spreads = []
        at = self._keys.index(SEED)
        for its in self._alike(at).values():
            losses = _medians(its, at).values() if len(its) > 1 else ()
            if len(losses) > 1:
                whose = {one.id for one in its} & {self.a.id, self.b.id}
                spread = SeedSpread(len(losses), min(losses), max(losses), tuple(sorted(whose)))
                spreads.append(spread)
        own = [one for one in spreads if one.of]
        return max(own or spreads, key=lambda one: one.width, default=None)


def _but(one: _Known, at: int) -> Any:
    """All that a run is like but for its ``at``-th key."""
    return one.rest, one.values[:at], one.values[at + 1 :]


def _medians(runs: Sequence[_Known], at: int) -> dict[str, float]:
    """Value of the ``at``-th key -> median loss."""
    losses: dict[str, list[float]] = {}
    for one in runs:
        losses.setdefault(one.values[at], []).append(one.loss)
    return {
        value: its[0] if len(its) == 1 else statistics.median(its) for value, its in losses.items()
    }


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


class _Cut:
    """Takes recipes apart: what they say but for some keys, as a number, and each key's value."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._names = [f'"{key}": ' for key in keys]
        self._values: dict[str, str] = {}
        """As it stands in a recipe -> in the one spelling that is compared."""

    def __call__(self, text: str) -> tuple[int, tuple[str, ...]]:
        begin, end = text.find(_FROM), text.rfind(_TO)
        if not 0 <= begin < end:
            begin, end = 0, len(text)
        values: list[str] = []
        spans: list[tuple[int, int]] = []
        last = begin
        for name in self._names:
            at = text.find(name, last, end)  # mostly they come in the recipe's order
            if at < 0:
                at = text.find(name, begin, end)
            if at < 0:
                values.append("")
                continue
            first = at + len(name)
            last = text.find(",", first)
            if text[first] in '[{"' or last < 0:
                _, last = _DECODE(text, first)
            raw = text[first:last]
            known = self._values.get(raw)
            if known is None:
                known = self._values[raw] = _TEXT(_DECODE(raw)[0])
            values.append(known)
            spans.append((at, last))
        spans.sort()
        parts = []
        for at, last in spans:
            parts.append(text[begin:at])
            begin = last
        parts.append(text[begin:end])
        return hash("".join(parts)), tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
