"""What can be wrong with a database file, as SQLite's errors say it."""

import sqlite3

__all__ = ["LOCKED", "is_broken", "is_busy", "is_unwritable"]

LOCKED = sqlite3.OperationalError("database is locked")


def is_busy(error: BaseException) -> bool:
    """True when another process holds the database's write lock: try again later."""
    return isinstance(error, sqlite3.OperationalError) and (
        "locked" in str(error) or "busy" in str(error)
    )


_BROKEN = (
    "not a database",
    "malformed",
    "disk I/O error",
    "vtable constructor failed",  # a full-text search whose own tables are damaged
    "no such table",  # dropped by hand: the migrations, all applied, made it
)


def is_broken(error: BaseException) -> bool:
    """True when the file is no database, a damaged one, or lacks a table."""
    text = str(error)
    return isinstance(error, sqlite3.DatabaseError) and any(words in text for words in _BROKEN)


def is_unwritable(error: BaseException) -> bool:
    """True when the disk is full, or the file or its folder cannot be written."""
    text = str(error)
    return isinstance(error, sqlite3.OperationalError) and (
        "full" in text or "readonly" in text or "unable to open" in text
    )
