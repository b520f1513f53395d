"""Evaluations of answers: events of the home's journal, rows of ``runs.db``, samples to look at.

An evaluation is one event ``evaluated`` (all but texts and rows), after events
``evaluation_rows`` with the scores of some hundred rows each. The texts stay in files that it
names.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from engine.errors import UserError
from engine.history.notes import append_event
from engine.history.row import scalar
from engine.history.store import Store
from engine.home import Home

__all__ = [
    "ORDERS",
    "SCORES",
    "TABLES",
    "WRITERS",
    "add_evaluation",
    "evaluations_of",
    "find_evaluation",
    "samples_of",
]

SCORES = ("row_chrf", "rougeL", "exact_match", "prediction_words")
"""What is kept of each row and column, in this order; the first one orders the samples."""

ORDERS = {
    "best": "score DESC, number",
    "worst": "score, number",
    "changed": "abs(change) DESC, number",
    "gained": "change DESC, number",
    "lost": "change, number",
    "rows": "number",
}
"""How samples can be ordered: by the last column's score, by its change from the base's."""

TABLES = ("evaluated", "evaluated_rows")

_JOURNALED_ROWS = 500
"""Rows of one event: about 30 KB."""

Event = dict[str, Any]


def add_evaluation(
    home: Home,
    document: dict[str, Any],
    numbers: Sequence[int],
    scores: Sequence[Sequence[Sequence[float]]],
) -> None:
    """Journal an evaluation; ``scores`` of each row, of each column, are :data:`SCORES`.

    ``numbers``: of each row its line in the files of texts, from 0.

    Its event comes last: it is there whole or not at all. Raises :class:`UserError`.
    """
    own = document["id"]
    for first in range(0, len(scores), _JOURNALED_ROWS):
        part = slice(first, first + _JOURNALED_ROWS)
        its = {"evaluation": own, "numbers": numbers[part], "scores": scores[part]}
        append_event(home, "evaluation_rows", None, **its)
    append_event(home, "evaluated", id=own, run=document["run"], document=document)


def _write_evaluated(connection: sqlite3.Connection, event: Event) -> None:
    document = event["document"]
    columns = [column["id"] for column in document["columns"]]
    base = columns.index(document["base"]) if document["base"] in columns else -1
    values = (event["id"], event["run"], event["t"], document["on"], document["rows"])
    connection.execute(
        'INSERT OR REPLACE INTO evaluated (id, run, t, "on", rows, document) '
        "VALUES (?, ?, ?, ?, ?, ?)",
        (*map(scalar, values), json.dumps(document, ensure_ascii=False)),
    )
    # Now it is known which column is the base.
    change = f"score - json_extract(scores, '$[{base}][0]')" if base >= 0 else "NULL"
    connection.execute(
        f"UPDATE evaluated_rows SET change = {change} WHERE evaluation = ?", (event["id"],)
    )


def _write_rows(connection: sqlite3.Connection, event: Event) -> None:
    rows = []
    for number, scores in zip(event["numbers"], event["scores"], strict=True):
        *_, (score, *_) = scores  # the first of the last column's
        rows.append((event["evaluation"], number, float(score), json.dumps(scores)))
    connection.executemany(
        "INSERT OR REPLACE INTO evaluated_rows (evaluation, number, score, scores) "
        "VALUES (?, ?, ?, ?)",
        rows,
    )


WRITERS = {"evaluated": _write_evaluated, "evaluation_rows": _write_rows}
"""Type of event -> what puts it into the tables; an event that makes no sense raises."""


def evaluations_of(store: Store, run: str) -> list[dict[str, Any]]:
    """The documents of a run's evaluations with their time ``t``, newest first."""
    rows = store.query(
        "SELECT t, document FROM evaluated WHERE run = ? ORDER BY t DESC, id", (run,)
    )
    return [{"t": t, **json.loads(document)} for t, document in rows]


def find_evaluation(store: Store, evaluation: str) -> dict[str, Any] | None:
    """The document of one evaluation; None when there is none with this id."""
    rows = store.query("SELECT document FROM evaluated WHERE id = ?", (evaluation,))
    found: dict[str, Any] | None = json.loads(rows[0][0]) if rows else None
    return found


def samples_of(
    store: Store, evaluation: str, order: str = "worst", limit: int = 20, offset: int = 0
) -> list[dict[str, Any]]:
    """Rows of an evaluation in one of :data:`ORDERS`, with their texts.

    Each: ``row`` (from 0), ``prompt``, ``reference``, ``change`` (None without a base), and
    ``answers``: of each column ``id``, ``label``, ``text``, ``stop_reason`` and ``scores`` by name
    (chrF of the row 0..100, the others as in the table). Reads whole files: 0.2 s with 30,000 rows,
    nothing for an event loop. Raises :class:`UserError` when texts are gone or changed since.
    """
    document = find_evaluation(store, evaluation)
    if document is None:
        raise UserError(f"no evaluation {evaluation!r}; 'tunebench evaluate RUN' makes one")
    rows = store.query(
        "SELECT number, change, scores FROM evaluated_rows WHERE evaluation = ? "
        f"ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?",
        (evaluation, limit, offset),
    )
    numbers = [number for number, _, _ in rows]
    pairs = _lines(store.home, document["pairs"], "", numbers)
    columns = [
        (column, _lines(store.home, column["answers"], column["digest"], numbers))
        for column in document["columns"]
    ]
    return [
        {
            "row": number,
            "prompt": pair["prompt"],
            "reference": pair["reference"],
            "change": change,
            "answers": [
                {
                    "id": column["id"],
                    "label": column["label"],
                    "text": lines[place]["text"],
                    "stop_reason": lines[place]["stop_reason"],
                    "scores": dict(zip(SCORES, its, strict=True)),
                }
                for (column, lines), its in zip(columns, json.loads(scores), strict=True)
            ],
        }
        for place, ((number, change, scores), pair) in enumerate(zip(rows, pairs, strict=True))
    ]


def _lines(home: Home, name: str, digest: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Some lines of a file of texts: line *n* is that of row *n*."""
    path = home.path / name
    again = "evaluate the run again"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {again}") from None
    if digest and hashlib.blake2b(data, digest_size=8).hexdigest() != digest:
        raise UserError(f"{path}: has changed since it was evaluated; {again}")
    lines = data.split(b"\n")
    try:
        return [json.loads(lines[number]) for number in numbers]
    except (ValueError, IndexError):
        raise UserError(f"{path}: is damaged; {again}") from None
