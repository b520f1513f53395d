"""The history as tables for other programs: one row a run, a step, a measured value, a sample.

Times are Unix seconds, sizes bytes, durations seconds, as in ``runs.db``.
"""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from engine.export.fitting import FIT, KINDS, Kind, kind_of
from engine.export.gathered import answers_of
from engine.history import queries
from engine.history.row import RunRow, seconds
from engine.history.store import Store
from engine.history.tables import METRICS

__all__ = ["WHATS", "Column", "Table", "table_of"]


@dataclass(frozen=True)
class Column:
    """``texts``: a list of texts; ``json``: whatever JSON can say."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """Rows are made as they are asked for; their values fit the columns' kinds, or are None."""

    columns: Sequence[Column]
    rows: Iterator[list[Any]]


def table_of(what: str, store: Store, runs: Sequence[RunRow]) -> Table:
    """One of :data:`WHATS`, of these runs, in their order."""
    return _MADE[what](store, runs)


_LEFT_OUT = ("error", "versions")
"""Of the table ``runs``: a whole event, and what has columns of its own here."""


def _runs(store: Store, runs: Sequence[RunRow]) -> Table:
    """One row a run: what came of it, tags and notes, every recipe value, every version."""
    own = [
        Column(field.name, kind_of(field.type))
        for field in fields(RunRow)
        if field.name not in _LEFT_OUT
    ]
    tags = queries.tags_of_runs(store)
    notes: dict[str, list[str]] = {}
    for run, text in store.query("SELECT run, text FROM notes ORDER BY t"):
        notes.setdefault(run, []).append(text)
    stars, away = queries.starred(store), queries.archived(store)
    # As JSON: of 10,000 runs the values themselves would be 200 MB, and most say the same.
    recipes = dict(store.query("SELECT run, settings FROM recipes"))
    keys = _kinds(_settings(text) for text in {recipes.get(row.id) for row in runs})
    packages = sorted({name for text in {r.versions for r in runs} for name in _object(text)})
    columns = [*own, Column("seconds", "number"), Column("starred", "flag")]
    columns += [Column("archived", "flag"), Column("tags", "texts"), Column("notes", "texts")]
    columns += [Column(name, kind) for name, kind in keys.items()]
    columns += [Column(f"versions.{name}", "text") for name in packages]

    def rows() -> Iterator[list[Any]]:
        for row in runs:
            its, theirs = _settings(recipes.get(row.id)), _object(row.versions)
            values = [getattr(row, column.name) for column in own]
            values += [seconds(row), row.id in stars, row.id in away]
            values += [list(tags.get(row.id, ())), notes.get(row.id, [])]
            values += [its.get(key) for key in keys]
            yield [*values, *(theirs.get(name) for name in packages)]

    return _fitted(columns, rows())


@functools.lru_cache(maxsize=256)
def _settings(text: str | None) -> dict[str, Any]:
    """A recipe's values as ``section.key``; nothing of one that could not be read."""
    return {key: value for key, value in _object(text).items() if "." in key}


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _kinds(settings: Iterable[dict[str, Any]]) -> dict[str, Kind]:
    """Keys in the order of the recipe, each with a kind that all its values fit."""
    kinds: dict[str, set[Kind]] = {}
    for its in settings:
        for key, value in its.items():
            found = kinds.setdefault(key, set())
            if value is not None:
                found.add(_kind(value))
    return {key: _common(found) for key, found in kinds.items()}


def _kind(value: Any) -> Kind:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return "texts"
    return KINDS.get(type(value).__name__, "json")


def _common(kinds: set[Kind]) -> Kind:
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {"integer", "number"}:
        return "number"
    return "json" if kinds else "text"


def _metrics(store: Store, runs: Sequence[RunRow]) -> Table:
    """One row an optimiser step; ``extra``: what else the journal's line had."""
    whole = ("attempt", "tokens", "memory_bytes", "peak_memory_bytes")
    names = ("step", "attempt", "t", *METRICS, "extra")
    columns = [Column("run", "text"), Column("name", "text"), Column("step", "integer")]
    columns += [Column(name, "integer" if name in whole else "number") for name in names[1:-1]]
    columns.append(Column("extra", "json"))

    def rows() -> Iterator[list[Any]]:
        sql = f"SELECT {', '.join(names)} FROM metrics WHERE run = ? ORDER BY step"
        for row in runs:
            for *values, extra in store.query(sql, (row.id,)):
                yield [row.id, row.name, *values, _object(extra) if extra else None]

    return _fitted(columns, rows())


def _samples(store: Store, runs: Sequence[RunRow]) -> Table:
    """One row a text that the model wrote while it trained."""
    columns = [
        *(Column("run", "text"), Column("name", "text"), Column("step", "integer")),
        *(Column("attempt", "integer"), Column("t", "number"), Column("prompt", "text")),
        *(Column("text", "text"), Column("reference", "text")),
    ]

    def rows() -> Iterator[list[Any]]:
        for row in runs:
            for sample in queries.samples(store, row.id):
                yield [row.id, row.name, *sample.values()]

    return _fitted(columns, rows())


def _evaluations(store: Store, runs: Sequence[RunRow]) -> Table:
    """One row a measured value: losses while the run trained, then metrics of its answers.

    ``kind`` is loss or answers; ``which`` is before, during, after or asked for losses, for
    answers the column that answered; ``low`` and ``high``: the interval at 95 %, of answers.
    """
    columns = [
        *(Column("run", "text"), Column("name", "text"), Column("t", "number")),
        *(Column("kind", "text"), Column("step", "integer"), Column("split", "text")),
        *(Column("which", "text"), Column("metric", "text"), Column("value", "number")),
        *(Column("low", "number"), Column("high", "number"), Column("rows", "integer")),
    ]

    def rows() -> Iterator[list[Any]]:
        for row in runs:
            for one in queries.evaluations(store, row.id):
                begin = [row.id, row.name, one["t"], "loss", one["step"], one["split"]]
                for metric in ("loss", "mean_token_accuracy"):
                    if one[metric] is not None:
                        value = [one["which"], metric, one[metric]]
                        yield [*begin, *value, None, None, one["rows"]]
            for document in answers_of(store, row.id):
                begin = [row.id, row.name, document["t"], "answers", None, document["on"]]
                for column in document["columns"]:
                    for metric, value in document["metrics"].get(column["id"], {}).items():
                        yield [*begin, column["label"], metric, *value, document["rows"]]

    return _fitted(columns, rows())


_MADE: dict[str, Callable[[Store, Sequence[RunRow]], Table]] = {
    "runs": _runs,
    "metrics": _metrics,
    "evaluations": _evaluations,
    "samples": _samples,
}
WHATS = tuple(_MADE)
"""What a row may be: a run, an optimiser step, a measured value, a sample."""


def _fitted(columns: Sequence[Column], rows: Iterator[list[Any]]) -> Table:
    fits = [FIT[column.kind] for column in columns]
    fitted = ([fit(v) for fit, v in zip(fits, row, strict=True)] for row in rows)
    return Table(columns, fitted)
