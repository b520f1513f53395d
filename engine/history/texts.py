"""What the full-text search looks into: names, notes, prompts, errors, and the ends of bad logs.

The table ``texts`` holds them; triggers keep the FTS5 table ``texts_fts`` like it.
"""

import hashlib
import sqlite3
from collections.abc import Collection
from typing import TYPE_CHECKING

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.history.store import Store

__all__ = ["KINDS", "forget", "put", "search", "word_query"]

KINDS = ("name", "note", "prompt", "error", "log")
"""``log``: the last lines of a run that failed, was killed or is lost."""
LONGEST = 20_000
"""Characters of one text; what is behind them is not found."""


def put(
    connection: sqlite3.Connection, run: str, kind: str, part: str, t: float | None, text: str
) -> None:
    """Keep a text; the one of the same ``part`` before gives way. ``kind``: of :data:`KINDS`."""
    connection.execute(
        "INSERT INTO texts (run, kind, part, t, text) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (run, kind, part) DO UPDATE SET t = excluded.t, text = excluded.text "
        "WHERE excluded.text != texts.text",
        (run, kind, part, t, text[:LONGEST]),
    )


def put_prompt(connection: sqlite3.Connection, run: str, t: float | None, prompt: str) -> None:
    """A prompt once, however often it was answered while the run trained."""
    digest = hashlib.blake2b(prompt.encode("utf-8", "replace"), digest_size=8).hexdigest()
    put(connection, run, "prompt", digest, t, prompt)


def forget(connection: sqlite3.Connection, run: str) -> None:
    """Remove what one journal told: a run's, or ("") the home's own, which are the notes."""
    if run:
        connection.execute("DELETE FROM texts WHERE run = ? AND kind != 'note'", (run,))
    else:
        connection.execute("DELETE FROM texts WHERE kind = 'note'")


def word_query(words: str) -> str:
    """FTS5's query for texts with all of these words, the last one perhaps not yet whole.

    Raises :class:`UserError` when there is no word in them.
    """
    parts = "".join(c if c.isalnum() else " " for c in words).split()
    if not parts:
        raise UserError(f"{words!r}: nothing to search for; write a word")
    # In quotes, a word is never one of FTS5's operators.
    return " ".join(f'"{part}"' for part in parts) + "*"


def search(store: "Store", words: str, kinds: Collection[str] = KINDS) -> set[str]:
    """The ids of the runs with a text that has all of ``words``.

    Case and accents do not matter, and the last word may be a beginning. Raises
    :class:`UserError` when there is no word in ``words``.
    """
    marks = ", ".join("?" * len(kinds))
    sql = (
        "SELECT DISTINCT run FROM texts JOIN texts_fts ON texts.id = texts_fts.rowid "
        f"WHERE texts_fts MATCH ? AND kind IN ({marks})"
    )
    return {run for (run,) in store.query(sql, (word_query(words), *kinds))}
