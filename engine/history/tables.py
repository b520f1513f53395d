"""How journal events become rows of ``runs.db``, and what belongs to a run there."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any

from engine.history import evaluated, judged, marked, texts
from engine.history.row import RunRow, fitted, fold, scalar, time_of

__all__ = [
    "HOME_TABLES",
    "RUN_TABLES",
    "forget",
    "load_row",
    "row_of",
    "save_row",
    "write",
    "write_home",
]

RUN_TABLES = ("metrics", "evaluations", "samples", "checkpoints", "memory", "events")
HOME_TABLES = ("notes", "tags", "benches", *marked.TABLES, *judged.TABLES, *evaluated.TABLES)
"""Filled from the home's own journal."""

COLUMNS = tuple(field.name for field in fields(RunRow))
RUN_VALUES = attrgetter(*COLUMNS)
SELECT_RUN = f"SELECT {', '.join(COLUMNS)} FROM runs"

METRICS = (
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "step_seconds",
    "tokens",
    "tokens_per_second",
    "mean_token_accuracy",
    "memory_bytes",
    "peak_memory_bytes",
)
EVALUATIONS = ("split", "which", "loss", "rows", "tokens", "seconds", "mean_token_accuracy")
SAMPLES = ("prompt", "text", "reference")
CHECKPOINTS = ("path", "bytes", "seconds", "best")
MEMORY = ("device", "used_bytes", "total_bytes", "peak_bytes", "utilisation")
KNOWN = frozenset({"v", "t", "type", "attempt", "step", *METRICS})
USUAL = itemgetter("step", "attempt", "t", *METRICS)
"""The values of a line with all of these keys and no others, as the trainer writes them."""
NOT_USUAL: tuple[Any, ...] = (None, None)
ATTEMPT, PEAK = 2, -2
"""Where rows of metrics and of memory have them."""
NUMBER = (int, float)
TOO_HIGH = 2**63
"""For SQLite's integers."""

SENSELESS = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError),
    *(RecursionError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
)
"""What an event may raise that was written by hand, or by a program of another time."""

Event = dict[str, Any]


def _upsert(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    values = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({', '.join(key)}) "
        f"DO UPDATE SET {values} WHERE excluded.attempt >= {table}.attempt"
    )


_STEP = ("run", "step", "attempt", "t")
_LINE = ("run", "line", "attempt", "t")
PUT_METRICS = _upsert("metrics", (*_STEP, *METRICS, "extra"), ("run", "step"))
PUT = {
    "evaluation": _upsert("evaluations", (*_STEP, *EVALUATIONS), ("run", "step", "split", "which")),
    "sample": _upsert("samples", (*_STEP, *SAMPLES), ("run", "step", "prompt")),
    "checkpoint": _upsert("checkpoints", (*_STEP, *CHECKPOINTS), ("run", "path")),
}
FIELDS = {"evaluation": EVALUATIONS, "sample": SAMPLES, "checkpoint": CHECKPOINTS}
PUT_MEMORY = _upsert("memory", (*_LINE, *MEMORY), ("run", "line"))
PUT_EVENT = _upsert("events", (*_LINE, "type", "text", "event"), ("run", "line"))
PUT_DATASET = (
    "INSERT INTO datasets (fingerprint, name, train_rows, validation_rows, test_rows, first_used) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (fingerprint) DO UPDATE SET "
    "first_used = min(coalesce(first_used, excluded.first_used), excluded.first_used)"
)
PUT_RUN = (
    f"INSERT OR REPLACE INTO runs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
)


def write(
    connection: sqlite3.Connection, row: RunRow, events: Sequence[Event], first_line: int
) -> int:
    """Insert a run's events and fold them into ``row``; returns how many made no sense.

    ``first_line`` is the number of the first event among the journal's readable lines. The events
    are such as :func:`engine.jobs.journal.read_lines` gives: without a number that is not finite.
    """
    often = _Often(connection, row)
    senseless = 0
    for line, event in enumerate(events, first_line):
        kind = event["type"]
        try:
            if kind == "metrics":
                often.add_metrics(event)
                continue
            if kind == "memory":
                often.add_memory(line, event)
                continue
            senseless += often.flush()
            stamp = _stamp(event)
            if kind in PUT:
                values = _values(event, FIELDS[kind])
                if kind == "checkpoint" and not isinstance(event["path"], str):
                    raise TypeError("a checkpoint lies somewhere")
                if kind == "sample" and isinstance(event.get("prompt"), str):
                    texts.put_prompt(connection, row.id, stamp[1], event["prompt"])
                connection.execute(
                    PUT[kind], (row.id, _whole(event.get("step") or 0), *stamp, *values)
                )
            else:
                if kind == "state" and "max_steps" in event:
                    _running(connection, row.id, event)
                text = json.dumps(event, ensure_ascii=False)
                told = words(event)
                connection.execute(PUT_EVENT, (row.id, line, *stamp, kind, told, text))
                if kind in ("error", "warning"):
                    texts.put(connection, row.id, "error", str(line), stamp[1], told)
            fold(row, event)
        except SENSELESS:
            senseless += 1
    return senseless + often.flush()


class _Often:
    """Metrics and memory events with none of another kind between them: nearly all of any journal.

    They are stored together, and of each kind only the last one counts for the run, but for the
    peaks.
    """

    def __init__(self, connection: sqlite3.Connection, row: RunRow) -> None:
        self._connection, self._row, self._run = connection, row, row.id
        self._metrics: list[tuple[Any, ...]] = []
        self._memory: list[tuple[Any, ...]] = []
        self._last: Event | None = None
        self._last_memory: Event | None = None
        self._memory_is_newer = False
        self._attempt = 0

    def add_metrics(self, event: Event) -> None:
        """Raises what :func:`write` counts as senseless."""
        try:
            usual = len(event) == len(KNOWN) and "v" in event
            values = USUAL(event) if usual else NOT_USUAL
        except KeyError:  # as many keys, but others
            values = NOT_USUAL
        step, attempt = values[0], values[1]
        if type(step) is type(attempt) is int and 0 <= step < TOO_HIGH > attempt > 0:
            self._metrics.append((self._run, *values, None))
        else:
            attempt, time = _stamp(event)
            self._metrics.append(_metrics(self._run, (attempt, time), event))
        if attempt >= self._attempt:
            self._attempt, self._last, self._memory_is_newer = attempt, event, False

    def add_memory(self, line: int, event: Event) -> None:
        """Raises what :func:`write` counts as senseless."""
        attempt, time = _stamp(event)
        self._memory.append((self._run, line, attempt, time, *_values(event, MEMORY)))
        if attempt >= self._attempt:
            self._attempt, self._last_memory, self._memory_is_newer = attempt, event, True

    def flush(self) -> int:
        """Store them; returns how many made no sense."""
        if not (self._metrics or self._memory):
            return 0
        senseless = _put(self._connection, PUT_METRICS, self._metrics)
        senseless += _put(self._connection, PUT_MEMORY, self._memory)
        newest = [
            (self._last, "peak_memory_bytes", _peak(self._metrics)),
            (self._last_memory, "peak_bytes", _peak(self._memory)),
        ]
        if not self._memory_is_newer:
            newest.reverse()
        self._metrics.clear()
        self._memory.clear()
        self._last = self._last_memory = None
        self._attempt = 0
        for event, key, peak in newest:
            if event is not None:
                fold(self._row, event if peak is None else {**event, key: peak})
        return senseless


def _peak(rows: list[tuple[Any, ...]]) -> int | float | None:
    """The highest of them; what an attempt says after a later one has begun does not count."""
    newest, peak = 0, None
    for one in rows:
        attempt, high = one[ATTEMPT], one[PEAK]
        if attempt >= newest:
            newest = attempt
            if isinstance(high, NUMBER) and (peak is None or high > peak):
                peak = high
    return peak


def _put(connection: sqlite3.Connection, sql: str, rows: list[tuple[Any, ...]]) -> int:
    """Returns how many of the rows cannot be stored."""
    if not rows:
        return 0
    try:
        connection.executemany(sql, rows)
        return 0
    except SENSELESS:
        # Lists, objects, numbers of more than 64 bits: rare, so not looked for in each line.
        senseless = 0
    for values in rows:
        try:
            connection.execute(sql, tuple(map(scalar, values)))
        except SENSELESS:
            senseless += 1
    return senseless


def _stamp(event: Event) -> tuple[int, float | None]:
    """(attempt, time)"""
    return _whole(event.get("attempt") or 1), time_of(event.get("t"))


def _values(event: Event, names: Sequence[str]) -> list[Any]:
    return [scalar(event.get(name)) for name in names]


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < TOO_HIGH:
        raise ValueError(f"{value!r} is no step or attempt")
    return value


def _metrics(run: str, stamp: tuple[Any, Any], event: Event) -> tuple[Any, ...]:
    text = None
    if unknown := event.keys() - KNOWN:
        text = json.dumps({key: event[key] for key in sorted(unknown)}, ensure_ascii=False)
    return (run, _whole(event["step"]), *stamp, *_values(event, METRICS), text)


def _running(connection: sqlite3.Connection, run: str, event: Event) -> None:
    """The first step of an attempt: what earlier attempts did past its checkpoint is undone."""
    attempt, resumed = event.get("attempt") or 1, _whole(event.get("resume_step") or 0)
    if attempt > 1:
        for table in ("metrics", "evaluations", "samples"):
            connection.execute(
                f"DELETE FROM {table} WHERE run = ? AND attempt < ? AND step > ?",
                (run, attempt, resumed),
            )
    if event.get("fingerprint"):
        names = ("fingerprint", "dataset", "train_rows", "validation_rows", "test_rows", "t")
        connection.execute(PUT_DATASET, _values(event, names))


def words(event: Event) -> str:
    """One line for people about a state, warning, error, control, exit or note."""
    kind = event["type"]
    if kind == "state":
        parts = [event.get("state"), event.get("phase"), event.get("reason")]
        return ": ".join(str(part) for part in parts if part)
    if kind == "exit":
        if event.get("signal") is not None:
            return f"ended by {event.get('signal_name') or event['signal']}"
        code = event.get("exit_code")
        return "ended; exit status unknown" if code is None else f"ended with exit status {code}"
    if kind == "control":
        end = "taken" if event.get("taken", True) else "came too late"
        return f"{event.get('action') or 'unreadable request'} {end}"
    return str(event.get("message") or event.get("text") or kind)


def write_home(connection: sqlite3.Connection, events: Sequence[Event]) -> int:
    """Insert what the home's own journal tells; returns how many events made no sense."""
    senseless = 0
    for event in events:
        try:
            _write_of_home(connection, event)
        except SENSELESS:
            senseless += 1
    return senseless


def _write_of_home(connection: sqlite3.Connection, event: Event) -> None:
    run, kind, time = event.get("run"), event["type"], time_of(event.get("t"))
    if kind == "note":
        connection.execute(
            "INSERT OR REPLACE INTO notes (id, run, t, text) VALUES (?, ?, ?, ?)",
            (str(event.get("id")), run, time, str(event.get("text"))),
        )
        texts.put(connection, str(run), "note", str(event.get("id")), time, str(event.get("text")))
    elif kind == "tag":
        connection.execute(
            "INSERT OR IGNORE INTO tags (run, tag, t) VALUES (?, ?, ?)",
            (run, str(event.get("tag")), time),
        )
    elif kind == "untag":
        tag = (run, str(event.get("tag")))
        connection.execute("DELETE FROM tags WHERE run = ? AND tag = ?", tag)
    elif kind == "bench" and isinstance(event.get("document"), dict):
        _write_bench(connection, event["document"])
    else:
        for room in (marked, judged, evaluated):
            if write := room.WRITERS.get(kind):
                write(connection, event)


def _write_bench(connection: sqlite3.Connection, document: Event) -> None:
    """Of the events of one bench the last one counts: it tells all that was measured."""
    columns = ("id", "t", "host", "gpu", "recipe", "state")
    values = [scalar(document.get(name)) for name in columns]
    connection.execute(
        f"INSERT OR REPLACE INTO benches ({', '.join(columns)}, document) "
        f"VALUES ({', '.join('?' * len(columns))}, ?)",
        (*values, json.dumps(document, ensure_ascii=False)),
    )


def row_of(values: Sequence[Any]) -> RunRow:
    """A row of :data:`SELECT_RUN`; the texts "NaN" and "Infinity" in number columns are floats."""
    row = RunRow(*values)
    for name in NUMBERS:
        value = getattr(row, name)
        if isinstance(value, str):
            setattr(row, name, fitted(name, value))
    return row


NUMBERS = tuple(field.name for field in fields(RunRow) if field.type == float | None)


def load_row(connection: sqlite3.Connection, run: str) -> RunRow | None:
    values = connection.execute(f"{SELECT_RUN} WHERE id = ?", (run,)).fetchone()
    return row_of(values) if values else None


def save_row(connection: sqlite3.Connection, row: RunRow) -> None:
    values = zip(COLUMNS, RUN_VALUES(row), strict=True)
    connection.execute(PUT_RUN, [scalar(fitted(name, value)) for name, value in values])


def forget(connection: sqlite3.Connection, run: str) -> None:
    """Remove everything of one journal: of a run, or ("") of the home's own."""
    if run:
        for table in RUN_TABLES:
            connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
        connection.execute("DELETE FROM runs WHERE id = ?", (run,))
        connection.execute("DELETE FROM recipes WHERE run = ?", (run,))
    else:
        for table in HOME_TABLES:
            connection.execute(f"DELETE FROM {table}")
    texts.forget(connection, run)
    connection.execute("DELETE FROM journals WHERE run = ?", (run,))
