"""Unsloth Studio's history: ``training_runs`` and ``training_metrics`` of its SQLite file.

Only read: no trigger, view or function of the file is run, and nothing is written to it.
"""

import contextlib
import datetime
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.errors import UserError
from engine.imports.runs.past import End, Event, Past
from engine.imports.runs.places import open_file
from engine.imports.runs.story import Logged, story
from engine.imports.runs.studio_settings import read_config
from engine.imports.runs.values import number, numbers, step_of

__all__ = ["MAGIC", "is_database", "read_studio"]

MAGIC = b"SQLite format 3\0"
TABLES = ("training_runs", "training_metrics")
NEEDED = ("id", "status", "model_name", "config_json", "started_at")
MOST_RUNS = 10_000
METRICS = ("loss", "learning_rate", "grad_norm", "eval_loss", "epoch", "num_tokens")
BUSY_SECONDS = 5.0
ENDS = {"completed": "finished", "stopped": "stopped", "error": "failed"}

Row = dict[str, Any]


def is_database(path: Path) -> bool:
    """Whether a regular file is one of SQLite's."""
    with open_file(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def _is_wal(path: Path) -> bool:
    """By the file's header: bytes 18 and 19 are 2."""
    with open_file(path) as file:
        return file.read(20)[18:20] == b"\2\2"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Raises :class:`UserError` for what cannot be read, whatever SQLite says of it."""
    connection = None
    try:
        connection = _connect(path)
        yield connection
    except sqlite3.Error as error:
        raise UserError(f"{path}: cannot be read as a database ({error})") from None
    finally:
        if connection is not None:
            connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Where nobody has the file open, SQLite would leave two files beside it: not so as immutable.

    What is not in the file itself yet, but in its write-ahead log, is only seen without that.
    """
    name, immutable = quote(os.fsencode(path)), "mode=ro&immutable=1"
    log = path.with_name(f"{path.name}-wal")
    closed = _is_wal(path) and not (log.exists() and log.stat().st_size)
    for options in (immutable,) if closed else ("mode=ro", immutable):  # or in a read-only folder
        connection = sqlite3.connect(f"file:{name}?{options}", uri=True, timeout=BUSY_SECONDS)
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if "unable to open" in str(error) and "immutable" not in options:
                continue
            raise
        return connection
    raise AssertionError


def _columns(connection: sqlite3.Connection, path: Path) -> dict[str, list[str]]:
    """Table -> columns; only real tables: a view could hide any query."""
    found = {}
    for table in TABLES:
        sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
        if not connection.execute(sql, (table,)).fetchone()[0]:
            raise UserError(
                f"{path}: has no table {table}, so it is not Unsloth Studio's database "
                "(studio.db in its folder)"
            )
        found[table] = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    if missing := [name for name in NEEDED if name not in found[TABLES[0]]]:
        raise UserError(f"{path}: training_runs has no column {missing[0]}; this Studio is unknown")
    if missing := [name for name in ("run_id", "step") if name not in found[TABLES[1]]]:
        raise UserError(f"{path}: training_metrics has no column {missing[0]}")
    return found


def read_studio(path: Path) -> list[Past]:
    """Every run of the database, oldest first. Raises :class:`UserError` naming file and table."""
    with _opened(path) as connection:
        columns = _columns(connection, path)
        rows = _rows(connection, columns[TABLES[0]])
        known = columns[TABLES[1]]
        found = [_past(connection, path, row, known) for row in rows]
    if not found:
        raise UserError(f"{path}: training_runs is empty, so there is nothing to import")
    return found


def _rows(connection: sqlite3.Connection, columns: list[str]) -> list[Row]:
    names = [name for name in COLUMNS if name in columns]
    sql = f"SELECT {', '.join(names)} FROM training_runs ORDER BY started_at, id LIMIT ?"
    rows = connection.execute(sql, (MOST_RUNS,)).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


COLUMNS = (
    "id", "status", "model_name", "dataset_name", "config_json", "started_at", "ended_at",
    "total_steps", "final_step", "final_loss", "output_dir", "error_message", "duration_seconds",
    "display_name", "resumed_from_run_id",
)  # fmt: skip


def _past(connection: sqlite3.Connection, path: Path, row: Row, columns: list[str]) -> Past:
    key = str(row["id"])
    began, said = _moment(row.get("started_at")), "Unsloth Studio's database"
    ended = _moment(row.get("ended_at"))
    seconds = number(row.get("duration_seconds"))
    if began is None:
        began, said = path.stat().st_mtime, "the database file's own time: it says no other"
    if ended is None:
        ended = began + (float(seconds) if seconds is not None and 0 <= seconds < 1e9 else 0.0)
    settings, remarks, notes = read_config(path, row)
    steps = step_of(row.get("total_steps")) or None
    last, digest = _look(connection, key, columns)
    start = began
    return Past(
        source="studio",
        tool="Unsloth Studio",
        path=path,
        key=key,
        parent_key=str(row.get("resumed_from_run_id") or ""),
        name=str(row.get("display_name") or "") or _called(row, key),
        began=began,
        ended=max(began, ended),
        times=said,
        events=lambda: _events(path, key, columns, start, steps),
        end=_end(row, last, steps),
        fingerprint=digest,
        settings=settings,
        remarks=tuple(remarks),
        facts={"max_steps": steps},
        notes=tuple(notes),
        weights=str(row.get("output_dir") or ""),
    )


def _called(row: Row, key: str) -> str:
    model = str(row.get("model_name") or "run").replace("\\", "/").rsplit("/", 1)[-1]
    return f"{model}-{key[:8]}"


def _moment(value: Any) -> float | None:
    """Unix seconds of an ISO time; one without a zone is UTC, as Studio writes them."""
    try:
        found = datetime.datetime.fromisoformat(str(value))
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.UTC)
        seconds = found.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if 0 < seconds < 1e11 else None


def _select(columns: list[str]) -> tuple[list[str], str]:
    names = [name for name in ("step", *METRICS, "elapsed_seconds") if name in columns]
    return names, f"SELECT {', '.join(names)} FROM training_metrics WHERE run_id = ? ORDER BY step"


def _look(connection: sqlite3.Connection, key: str, columns: list[str]) -> tuple[int, str]:
    """(last step, digest of all metrics)."""
    digest = hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16)
    last = 0
    for row in connection.execute(_select(columns)[1], (key,)):
        digest.update(repr(row).encode())
        last = max(last, step_of(row[0]) or 0)
    return last, digest.hexdigest()


def _events(
    path: Path, key: str, columns: list[str], began: float, steps: int | None
) -> Iterator[Event]:
    names, sql = _select(columns)

    def logged(connection: sqlite3.Connection) -> Iterator[Logged]:
        before = began
        for row in connection.execute(sql, (key,)):
            values = dict(zip(names, row, strict=True))
            step, elapsed = step_of(values.pop("step")), number(values.pop("elapsed_seconds", None))
            if step is None:
                continue
            if elapsed is not None and 0 <= elapsed < 1e9:
                before = max(before, began + elapsed)
            found = numbers({name: value for name, value in values.items() if value is not None})
            evaluated = found.pop("eval_loss", None)
            if found.keys() - {"epoch", "num_tokens"}:
                yield Logged(step, found, before)
            if evaluated is not None:
                yield Logged(step, {"eval_loss": evaluated}, before)

    with _opened(path) as connection:
        yield from story(logged(connection), lambda step: began, steps)


def _end(row: Row, last: int, steps: int | None) -> End:
    """Finished only when Studio calls it completed and its last step was made."""
    status = str(row.get("status"))
    step = max(step_of(row.get("final_step")) or 0, last)
    of = f"step {step:,} of {steps:,}" if steps else f"step {step:,}"
    more: dict[str, Any] = {"steps": step}
    state = ENDS.get(status)
    if state == "finished" and (steps is None or step >= steps):
        return End("finished", more=more)
    if state == "finished":
        return End("stopped", f"Unsloth Studio calls it completed, at {of}", more)
    if state == "failed":
        words = " ".join(str(row.get("error_message") or "without saying why").split())[:500]
        return End("failed", f"Unsloth Studio: {words} (at {of})", more)
    if state == "stopped":
        return End("stopped", f"stopped in Unsloth Studio at {of}", more)
    if status == "running":
        return End("lost", f"Unsloth Studio's database has it as running, at {of}", more)
    return End("stopped", f"Unsloth Studio has it as {status[:40]!r}, at {of}", more)
