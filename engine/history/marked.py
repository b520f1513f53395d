"""A run's own name, its star and whether it was put away: events of the home's journal, as tables.

The name that a run was made with is in its ``run.json``; the last ``rename`` of the journal counts
more, so that it does not matter which of the two is read first.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

from engine.history.row import time_of

__all__ = ["TABLES", "WRITERS", "name_of"]

TABLES = ("names", "stars", "archived")

Event = dict[str, Any]


def name_of(connection: sqlite3.Connection, run: str) -> str | None:
    """The name that the run was given later; None: it has that of its ``run.json``."""
    found = connection.execute("SELECT name FROM names WHERE run = ?", (run,)).fetchone()
    return found[0] if found else None


def _rename(connection: sqlite3.Connection, event: Event) -> None:
    run, name = _run(event), str(event["name"])
    connection.execute(
        "INSERT INTO names (run, t, name) VALUES (?, ?, ?) "
        "ON CONFLICT (run) DO UPDATE SET t = excluded.t, name = excluded.name",
        (run, time_of(event.get("t")), name),
    )
    connection.execute("UPDATE runs SET name = ? WHERE id = ?", (name, run))
    connection.execute(
        "UPDATE texts SET text = ? WHERE run = ? AND kind = 'name' AND text != ?", (name, run, name)
    )


def _set(table: str) -> Callable[[sqlite3.Connection, Event], None]:
    def write(connection: sqlite3.Connection, event: Event) -> None:
        connection.execute(
            f"INSERT OR IGNORE INTO {table} (run, t) VALUES (?, ?)",
            (_run(event), time_of(event.get("t"))),
        )

    return write


def _unset(table: str) -> Callable[[sqlite3.Connection, Event], None]:
    def write(connection: sqlite3.Connection, event: Event) -> None:
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (_run(event),))

    return write


def _run(event: Event) -> str:
    run = event["run"]
    if not isinstance(run, str):
        raise TypeError(f"{run!r} is no run")
    return run


WRITERS: dict[str, Callable[[sqlite3.Connection, Event], None]] = {
    "rename": _rename,
    "star": _set("stars"),
    "unstar": _unset("stars"),
    "archive": _set("archived"),
    "unarchive": _unset("archived"),
}
"""Of events of the home's journal: type -> what writes it."""
