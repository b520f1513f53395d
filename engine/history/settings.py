"""The recipes' values of all runs in little memory: only what is different is kept a run.

Ten thousand recipes of 150 values, each as a dict of its own, are 200 MB; most of them say the
same.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from engine.jobs.journal import whole

if TYPE_CHECKING:
    from engine.history.store import Store

__all__ = ["Settings", "read_settings"]

_LACKING = object()


class Settings:
    """Values by run and ``section.key``. Never changed once it is shared: see :meth:`updated`."""

    def __init__(self) -> None:
        self._common: dict[str, Any] = {}
        self._own: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        """What is different by the recipe's JSON: many runs have the very same."""

    def updated(self, found: Iterable[tuple[str, str]], gone: Collection[str] = ()) -> "Settings":
        """A new one, with these runs' recipes as JSON objects, without those that are ``gone``."""
        made = Settings()
        made._common, made._own, made._seen = self._common, dict(self._own), dict(self._seen)
        for run in gone:
            made._own.pop(run, None)
        for run, text in found:
            own = made._seen.get(text)
            if own is None:
                values = whole(text.encode())
                made._common = made._common or values
                common = made._common
                own = {k: v for k, v in values.items() if common.get(k, _LACKING) != v}
                own |= {key: _LACKING for key in common if key not in values}
                made._seen[text] = own
            made._own[run] = own
        return made

    def __contains__(self, run: str) -> bool:
        return run in self._own

    def get(self, run: str, key: str) -> Any:
        """None where the run has no such value, or no recipe that could be read."""
        own = self._own.get(run)
        if own is None:
            return None
        value = own.get(key, self._common.get(key))
        return None if value is _LACKING else value

    def of(self, run: str) -> dict[str, Any]:
        """All values of one run; empty where its recipe could not be read."""
        own = self._own.get(run)
        if own is None:
            return {}
        found = {**self._common, **own}
        return {key: value for key, value in found.items() if value is not _LACKING}

    @property
    def keys(self) -> set[str]:
        """Every key that any of the runs has."""
        found = set(self._common)
        for own in {id(own): own for own in self._own.values()}.values():
            found |= own.keys()
        return found

    def differing(self, runs: Iterable[str]) -> list[str]:
        """The keys in which not all of these runs have the same value; the recipe's order."""
        groups: dict[int, dict[str, Any]] = {}
        for run in runs:
            own = self._own.get(run)
            if own is not None:
                groups[id(own)] = own
        keys = dict.fromkeys(key for own in groups.values() for key in own)
        several = [
            key
            for key in keys
            if any(
                own.get(key, self._common.get(key, _LACKING)) != first
                for first in [_of_first(groups, key, self._common)]
                for own in groups.values()
            )
        ]
        order = {key: place for place, key in enumerate(self._common)}
        return sorted(several, key=lambda key: order.get(key, len(order)))


def _of_first(groups: dict[int, dict[str, Any]], key: str, common: dict[str, Any]) -> Any:
    return next(iter(groups.values())).get(key, common.get(key, _LACKING))


def read_settings(
    store: "Store", before: Settings | None = None, changed: Collection[str] | None = None
) -> Settings:
    """Of all runs; with what was read ``before``, only those that ``changed`` are read again."""
    before = before or Settings()
    if changed is None:
        return before.updated(store.query("SELECT run, settings FROM recipes"))
    marks = ", ".join("?" * len(changed))
    found = store.query(f"SELECT run, settings FROM recipes WHERE run IN ({marks})", [*changed])
    return before.updated(found, gone=set(changed) - {run for run, _ in found})
