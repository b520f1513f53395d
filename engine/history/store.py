"""Opens ``runs.db``: the index over all journals, which may be deleted or break without a loss.

Where it lies, and with which kind of journal of SQLite's own, says :mod:`engine.history.place`.
Plain sqlite3 on the way that every viewer takes; sqlite-utils is imported only to change the
schema.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.history.opening import (
    applied_to,
    check_not_newer,
    copy_of,
    lock_file,
    migrate,
    settle_journal,
    version,
)
from engine.history.place import Place, place_of
from engine.history.troubles import is_broken, is_busy, is_unwritable
from engine.home import Home
from engine.jobs.lock import NoFileLocks, locked

__all__ = ["MIGRATIONS", "Store", "is_busy", "open_store"]

MIGRATIONS = (
    "m001_first",
    "m002_seconds_of_all_attempts",
    "m003_datasets_as_things",
    "m004_sweeps_and_errors",
    "m005_benches",
    "m006_estimated_memory",
    "m007_votes_and_prompts",
    "m008_evaluations_of_answers",
    "m009_marks_and_search",
    "m010_no_hours_where_no_times_are_told",
)
"""Names of the migrations that this program knows, in order."""

UNSEEN = (0, 0, 0, -1)
"""No journal's identity: of one that has to be looked at, even if nothing in it is new."""
BUSY_SECONDS = 5.0
SMALLEST_PAGE = 512
"""Bytes; no SQLite file that has something in it is smaller."""
PATIENCE_SECONDS = 10.0
"""So long a viewer goes on showing what it had of a file that is locked against writing."""
RETURN_SECONDS = 10.0
"""How often a history that was read into memory, because of a lock, looks for the file again."""


class Store:
    """An open ``runs.db``. Usable from several threads of one process: every use takes ``lock``."""

    def __init__(
        self, home: Home, busy_seconds: float = BUSY_SECONDS, place: Place | None = None
    ) -> None:
        """``place``: somewhere else than where the home's index is (:func:`place_of`)."""
        self.home = home
        self.place = place or place_of(home)
        self.path: Path = self.place.path
        self.busy_seconds = busy_seconds
        self.lock = threading.RLock()
        self.warnings: list[str] = []
        """What a viewer should tell, such as that a broken file was moved aside."""
        self.more = False
        """True when the last ingest stopped at its limit: call it again."""
        self.known: dict[str, tuple[int, int, int, int]] = {}
        """Journal identities as last ingested: (device, inode, size, mtime_ns) by run."""
        self.datasets: dict[str, str] = {}
        """Manifests by path as last looked at, those that are damaged or told elsewhere too."""
        self.unended: dict[str, str] = {}
        """State by run, of the runs that have no end yet."""
        self.adopted: dict[str, float] = {}
        self.dispatched = -60.0
        """When the queue was last looked at, on the monotonic clock."""
        self._version = -1
        """SQLite's count of what other connections have written, when ``known`` was read."""
        self._inode: tuple[int, int] | None = None
        self.in_memory = False
        """True when the file could not be written, and the history is read anew at every start."""
        self.locked_since: float | None = None
        """Since when another program has kept us from writing, on the monotonic clock."""
        self._look_again: float | None = None
        """When to try the file again, on the monotonic clock; None: never."""
        self.connection: sqlite3.Connection = self._open_sound()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT. A database found broken is rebuilt, and asked again."""
        with self.lock:
            try:
                return self.connection.execute(sql, parameters).fetchall()
            except UnicodeEncodeError:  # a word of the command line that is no UTF-8
                return self.query(sql, [_encodable(value) for value in parameters])
            except sqlite3.DatabaseError as error:
                if is_busy(error) and not self.connection.in_transaction:
                    self.go_on_in_memory(error)
                elif is_broken(error):
                    self.recover(error)
                else:
                    raise
                from engine.history.ingest import ingest_all

                ingest_all(self.home, self)
                return self.connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction from its first moment (or the one that is open already)."""
        with self.lock:
            if self.connection.in_transaction:
                yield self.connection
                return
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def refresh(self) -> bool:
        """Open the file anew when somebody removed, replaced or emptied it; True when that was so.

        Also when it had been locked, and the history was read into memory meanwhile.
        """
        with self.lock:
            if self.in_memory:
                return self._return_to_file()
            if self._file_identity() == self._inode:
                if self._is_emptied():
                    self.recover("somebody emptied it")
                    return True
                if version(self.connection) != self._version:
                    self._see_what_others_read()
                return False
            self.close()
            self.connection = self._open_sound()
            return True

    def _see_what_others_read(self) -> None:
        """Have each journal looked at again of which the file says other things than we know.

        Another viewer may have forgotten a run that is back by now, or have read one that is gone
        again; and what it read of others is news to ours.
        """
        before = self.known
        self._read_known(self.connection)
        for run in before.keys() | self.known.keys():
            if before.get(run) != self.known.get(run):
                self.known[run] = UNSEEN

    def _return_to_file(self) -> bool:
        now = time.monotonic()
        if self._look_again is None or now < self._look_again:
            return False
        self._look_again = now + RETURN_SECONDS
        aside, patience = self.connection, self.busy_seconds
        self.in_memory, self.busy_seconds = False, 0.0
        try:
            found = self._open()
            try:
                found.execute("BEGIN IMMEDIATE")
                found.execute("ROLLBACK")
            except BaseException:
                found.close()
                raise
        except (sqlite3.Error, OSError, UserError):
            self.in_memory = True
            self._read_known(aside)
            return False
        finally:
            self.busy_seconds = patience
        found.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
        if self._locked_words in self.warnings:
            self.warnings.remove(self._locked_words)  # to be said again the next time
        aside.close()
        self.connection, self._look_again = found, None
        return True

    def recover(self, why: BaseException | str) -> None:
        """Move a broken file aside and begin a new one; ingesting fills it again."""
        with self.lock:
            try:
                with locked(lock_file(self.path)):
                    self._move_aside(why)
            except (OSError, NoFileLocks) as error:
                self.go_on_in_memory(error)
            else:
                self.connection = self._open_sound()

    def _move_aside(self, why: BaseException | str) -> None:
        broken = self._file_identity() == self._inode or self._inode is None
        self.close()
        if not broken or not self.path.exists():
            return  # another viewer was quicker
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.broken-{stamp}")
        for suffix in ("", "-wal", "-shm"):
            old = Path(f"{self.path}{suffix}")
            if old.exists():
                old.rename(f"{aside}{suffix}")
        self.warn(
            f"{self.path} could not be read ({why}); it was moved to {aside.name} and is rebuilt "
            "from the journals"
        )

    def go_on_in_memory(self, why: BaseException | str) -> None:
        """Leave an unwritable or locked file alone: the history is read into memory instead.

        What can still be read of the file is copied, so that only what is new is read from the
        journals. One that is locked is looked for again (see :meth:`refresh`).
        """
        locked_out = isinstance(why, sqlite3.Error) and is_busy(why)
        with self.lock:
            copy = None if self.in_memory else self._copy()
            self.close()
            self.in_memory, self.locked_since = True, None
            if locked_out:
                self._look_again = time.monotonic() + RETURN_SECONDS
                self.warn(self._locked_words)
            else:
                self.warn(
                    f"{self.path} cannot be written ({why}); the history is read into memory, "
                    "which takes longer at every start"
                )
            self.connection = copy or self._open()
            self._read_known(self.connection)

    @property
    def _locked_words(self) -> str:
        return (
            f"{self.path} is locked by another program; until it is free again, the history is "
            "read into memory"
        )

    def locked_for_long(self) -> bool:
        """Note that the file was found locked once more; True when that has lasted for long."""
        now = time.monotonic()
        self.locked_since = self.locked_since or now
        return now - self.locked_since >= PATIENCE_SECONDS

    def warn(self, words: str) -> None:
        """Have viewers tell this, once."""
        if words not in self.warnings:
            self.warnings.append(words)

    def _copy(self) -> sqlite3.Connection | None:
        connection: sqlite3.Connection | None = getattr(self, "connection", None)
        copy = copy_of(connection) if connection else None
        if copy and applied_to(copy) != MIGRATIONS:
            copy.close()
            return None
        return copy

    def close(self) -> None:
        with self.lock:
            self.known.clear()
            self.datasets.clear()
            self.unended.clear()
            connection = getattr(self, "connection", None)
            if connection is not None:
                connection.close()

    def _file_identity(self) -> tuple[int, int] | None:
        try:
            info = self.path.stat()
        except FileNotFoundError:
            return None
        return info.st_dev, info.st_ino

    def _is_emptied(self) -> bool:
        """Cut to nothing where it lies, or nearly. What we have open still reads well, from the log
        beside it, and for as long keeps all others from beginning it anew."""
        try:
            return self.path.stat().st_size < SMALLEST_PAGE
        except FileNotFoundError:
            return False

    def _open_sound(self) -> sqlite3.Connection:
        try:
            return self._open()
        except (OSError, NoFileLocks) as error:
            self.go_on_in_memory(error)
            return self.connection
        except sqlite3.DatabaseError as error:
            if is_unwritable(error) or is_busy(error):
                self.go_on_in_memory(error)
                return self.connection
            if not is_broken(error):
                raise UserError(f"{self.path}: cannot be opened ({error})") from None
            self._inode = self._file_identity()
            self.recover(error)
            return self.connection

    def _open(self) -> sqlite3.Connection:
        path = ":memory:" if self.in_memory else self.path
        connection = sqlite3.connect(
            path, timeout=self.busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            if not self.place.wal and not self.in_memory:
                settle_journal(connection, self.path, False)
            applied = applied_to(connection)
            check_not_newer(self.path, applied, MIGRATIONS)
            if self.place.wal and not self.in_memory:
                settle_journal(connection, self.path, True)
            if applied != MIGRATIONS:
                lock = nullcontext() if self.in_memory else locked(lock_file(self.path))
                with lock:
                    migrate(connection)
                if not applied and self.place.words and not self.in_memory:
                    self.warnings.append(f"{self.place.words} ('tunebench doctor' tells more)")
            # Journals are the truth: losing the last transactions in a power cut costs nothing.
            connection.execute("PRAGMA synchronous = NORMAL")
            self._inode = self._file_identity()
            self._read_known(connection)
            self.datasets.clear()
        except BaseException:
            connection.close()
            raise
        return connection

    def _read_known(self, connection: sqlite3.Connection) -> None:
        self._version = version(connection)  # first: what comes in between is read again
        rows = connection.execute("SELECT run, device, inode, size, mtime_ns FROM journals")
        self.known = {run: identity for run, *rest in rows if (identity := tuple(rest))}


def _encodable(value: Any) -> Any:
    """With "?" for what UTF-8 cannot hold, as the journal has it."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def open_store(home: Home, busy_seconds: float = BUSY_SECONDS) -> Store:
    """Open (or make, or rebuild) the home's ``runs.db``; UserError when it cannot be used."""
    try:
        return Store(home, busy_seconds)
    except sqlite3.Error as error:
        raise UserError(f"{home.database}: cannot be used ({error})") from None
    except OSError as error:
        raise UserError(f"{home.database}: cannot be written ({error.strerror})") from None
