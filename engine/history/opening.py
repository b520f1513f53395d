"""What is done with a database file before anything is asked of it, by way of plain sqlite3."""

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from engine.errors import UserError
from engine.jobs.lock import locked

__all__ = [
    "applied_to",
    "check_not_newer",
    "copy_of",
    "lock_file",
    "migrate",
    "settle_journal",
    "version",
]


def applied_to(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Names of the migrations that made this schema, in order; none: it is empty."""
    has_table = "SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'"
    if not connection.execute(has_table).fetchone():
        return ()
    names = "SELECT name FROM _sqlite_migrations WHERE migration_set = 'tunebench' ORDER BY rowid"
    return tuple(name for (name,) in connection.execute(names))


def check_not_newer(path: Path, applied: Collection[str], known: Collection[str]) -> None:
    """Raise UserError when another program's migration is among those ``applied``."""
    if unknown := [name for name in applied if name not in known]:
        raise UserError(
            f"{path}: was written by a newer tunebench (it has {unknown[-1]}); update tunebench, "
            "or move the file away: it is rebuilt from the journals"
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing, all of it or nothing.

    Two viewers may start at once: the caller holds a lock, for SQLite's own is not enough.
    """
    from engine.history.migrations import Database, migrations

    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(Database(connection))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version(connection: sqlite3.Connection) -> int:
    """Another number once another connection has written."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def settle_journal(connection: sqlite3.Connection, path: Path, wal: bool) -> None:
    """WAL or not, and never in between by way of memory that another machine does not share.

    With ``wal`` false it is the first thing that is done with the connection. Raises
    sqlite3.OperationalError where it has to leave WAL and another process has it open.

    Nobody may open the file itself to look: closing it again would take from this process all
    locks that SQLite holds on it, and another's last connection would then delete our WAL.
    """
    if wal:
        if _mode(connection) != "wal":
            # SQLite's own lock is not enough: changing this fails at once.
            with locked(lock_file(path)), suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")  # another has it open: slower
        return
    # Alone in it, SQLite reads a WAL without memory that is shared.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
        if _mode(connection) == "wal":
            with locked(lock_file(path)):
                connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.execute("PRAGMA locking_mode = NORMAL")
    connection.execute("SELECT count(*) FROM sqlite_master")  # frees the lock


def _mode(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def lock_file(path: Path) -> Path:
    """Held by whoever changes the schema, the journal's kind, or moves the file aside."""
    return path.with_name(path.name + ".lock")


def copy_of(connection: sqlite3.Connection) -> sqlite3.Connection | None:
    """The content in memory; None where it cannot be read, or is half changed."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        if connection.in_transaction:
            raise sqlite3.OperationalError("half changed")
        connection.backup(memory, progress=_give_up_when_locked)  # in one step: -1 pages
    except sqlite3.Error:
        memory.close()
        return None
    return memory


def _give_up_when_locked(status: int, remaining: int, total: int) -> None:
    """Else it would try again for ever."""
    if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise sqlite3.OperationalError("database is locked")
