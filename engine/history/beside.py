"""What runs wrote and how they were judged, side by side: samples, votes, evaluations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.history.row import RunRow
from engine.history.store import Store
from engine.history.votes import WinRate, win_rates

__all__ = ["Answered", "Evaluated", "evaluations_beside", "samples_beside", "votes_between"]

MOST_PROMPTS = 64


@dataclass(frozen=True)
class Answered:
    """One prompt with the last answer of each run."""

    prompt: str
    reference: str
    answers: tuple[tuple[int, str] | None, ...]
    """(step, text) of each run, in their order; None: it did not answer this prompt."""


def samples_beside(
    store: Store, runs: Sequence[RunRow], limit: int = MOST_PROMPTS
) -> list[Answered]:
    """The fixed prompts with every run's last answer; those that most runs answered come first."""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    references: dict[str, str] = {}
    marks = ", ".join("?" * len(runs))
    rows = store.query(
        f"SELECT run, step, prompt, text, reference FROM samples WHERE run IN ({marks}) "
        "ORDER BY step, t, rowid",
        [run.id for run in runs],
    )
    for run, step, prompt, text, reference in rows:
        found.setdefault(str(prompt or ""), {})[run] = (step, str(text or ""))
        if reference:
            references[str(prompt or "")] = str(reference)
    order = sorted(found, key=lambda prompt: -len(found[prompt]))[:limit]
    return [
        Answered(prompt, references.get(prompt, ""), tuple(found[prompt].get(r.id) for r in runs))
        for prompt in order
    ]


def votes_between(store: Store, runs: Sequence[RunRow]) -> list[tuple[int, int, WinRate]]:
    """How each two of the runs compare by votes: (place of ``a``, place of ``b``, rate).

    A vote for any checkpoint of a run counts for it, so two runs may have several lines. Votes
    between a run and a base model are none between runs.
    """
    places: dict[str, int] = {}
    for place, run in enumerate(runs):
        places.setdefault(run.name, place)
    places |= {run.id: place for place, run in enumerate(runs)}

    def place_of(column: str) -> int | None:
        run, _, which = column.rpartition("@")
        return places.get(column, places.get(run) if which != "base" else None)

    made = []
    for rate in win_rates(store):
        a, b = place_of(rate.a), place_of(rate.b)
        if a is not None and b is not None and a != b:
            made.append((a, b, rate))
    return made


@dataclass(frozen=True)
class Evaluated:
    """The newest evaluation of a run on some rows: its own column's metrics."""

    run: str
    on: str
    """test, validation, a file, DATASET:SPLIT."""
    rows: int
    t: float
    metrics: dict[str, tuple[float, float, float]]
    """Name -> value, and the bounds of its interval."""
    better: dict[str, str]
    """Name -> higher, lower or ""."""
    pairs: str
    """Names the prompts and references: the same for two runs that answered the same."""


def evaluations_beside(store: Store, runs: Sequence[RunRow]) -> list[Evaluated]:
    """The newest evaluation of each run on each kind of rows."""
    marks = ", ".join("?" * len(runs))
    rows = store.query(
        f"SELECT run, t, document FROM evaluated WHERE run IN ({marks}) ORDER BY t DESC, id",
        [run.id for run in runs],
    )
    found: dict[tuple[str, str], Evaluated] = {}
    for run, t, document in rows:
        one = _evaluated(run, t, json.loads(document))
        if one is not None:
            found.setdefault((one.run, one.on), one)
    order = {run.id: place for place, run in enumerate(runs)}
    return sorted(found.values(), key=lambda one: (one.on, order[one.run]))


def _evaluated(run: str, t: float | None, document: dict[str, Any]) -> Evaluated | None:
    """None for a document that lacks what an evaluation has: written by a stranger."""
    try:
        its = document["metrics"][document["columns"][-1]["id"]]
        metrics = {
            name: (float(value), *map(float, its[f"{name}_ci"]))
            for name, value in its.items()
            if f"{name}_ci" in its
        }
        return Evaluated(
            *(run, str(document["on"]), int(document["rows"]), t or 0.0),
            metrics,  # type: ignore[arg-type]
            {str(name): str(way) for name, way in document.get("better", {}).items()},
            str(document["pairs"]).rsplit("/", 1)[-1],
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None
