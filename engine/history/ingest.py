"""Brings ``runs.db`` up to date with the journals, from the byte where the last reader stopped.

New lines go in together with the new offset, in one transaction a run, so two viewers at once
neither lose nor double a line. When nothing changed, this costs one directory listing and a stat a
run.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.history import marked, tables, texts, toml_sections
from engine.history.datasets import ingest_datasets
from engine.history.lost import why_lost
from engine.history.row import ENDS, RunRow, fitted, is_ended, mark_lost
from engine.history.store import Store
from engine.history.troubles import LOCKED, is_broken, is_busy, is_unwritable
from engine.home import Home
from engine.jobs.entries import names as waiting
from engine.jobs.folder import RunFolder
from engine.jobs.journal import finite, read_lines
from engine.jobs.launch import adopt, reap
from engine.jobs.lock import NoFileLocks, has_supervisor, is_alive

__all__ = ["ingest", "ingest_all", "reindex"]

REINDEX_CACHE_KIB = 200_000
"""At most so much memory for the database's pages while all is read anew."""
LIMIT_LINES = 20_000
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 512
GRACE_SECONDS = 5.0
"""A run just made is not lost while its supervisor starts."""
ADOPT_SECONDS = 10.0
DISPATCH_SECONDS = 5.0

BAD_ENDS = ("failed", "killed", "lost")
LOG_LINES = 30
"""Of such an end, this much of the log can be searched."""

HOME = ""
MISSING = (0, 0, 0, 0)
UNREAD = -1
"""The time of a journal with lines yet to read: equal to none, so the next call goes on."""
Identity = tuple[int, int, int, int]


def ingest(home: Home, store: Store, limit_lines: int = LIMIT_LINES, live: bool = True) -> set[str]:
    """Read what is new; returns the ids of runs that changed ("" for the home's own journal).

    At most about ``limit_lines`` lines a call; ``store.more`` says whether there is more. With
    ``live`` also finds lost runs, and gives workers without a supervisor a new one. Nothing is read
    while another process writes to the database for long: the next call does.
    """
    if live:
        _dispatch(home, store)
    with store.lock:
        store.more = False
        try:
            if store.refresh():
                store.more = True
            changed = _ingest(home, store, limit_lines, live)
            store.locked_since = None
            return changed
        except sqlite3.DatabaseError as error:
            if is_busy(error) and not store.locked_for_long():
                store.more = True
                return set()
            if is_busy(error) or is_unwritable(error):
                store.go_on_in_memory(error)
            elif is_broken(error):
                store.recover(error)
            else:
                raise
            return _ingest(home, store, limit_lines, live)


def _dispatch(home: Home, store: Store) -> None:
    """Start what can start in the queue: who looks at the history may be the first for a while."""
    now = time.monotonic()
    if now - store.dispatched < DISPATCH_SECONDS or not waiting(home.queue):
        return
    from engine.jobs.dispatch import dispatch  # 0.1 s that only a queue is worth

    store.dispatched = now
    with contextlib.suppress(UserError, OSError):  # whoever asks for the queue is told
        dispatch(home)


def ingest_all(home: Home, store: Store, live: bool = True) -> set[str]:
    """:func:`ingest` until there is nothing more.

    A database that another program has locked is waited for once (``store.busy_seconds``); then
    the history is read into memory, so that a command shows all that there is, and ends.
    """
    changed = ingest(home, store, live=live)
    for _ in range(10_000):
        if store.locked_since is not None:
            store.go_on_in_memory(LOCKED)
        elif not store.more:
            break
        changed |= ingest(home, store, live=live)
    return changed


def reindex(home: Home, store: Store) -> int:
    """Forget everything and read every journal from its first line; returns the number of runs.

    One transaction: other viewers see the old history until the new one is whole. Raises
    :class:`UserError` when the file cannot be written.
    """
    with store.lock:
        try:
            store.refresh()
            # 10 million metric rows in 97 s; with the 2 MB that SQLite takes by itself 40 s more,
            # for pages of one long transaction are written to the log and read again and again.
            store.connection.execute(f"PRAGMA cache_size = -{REINDEX_CACHE_KIB}")
            with store.transaction() as connection:
                own = ("runs", "recipes", "texts", "journals", "datasets")
                for table in (*tables.RUN_TABLES, *tables.HOME_TABLES, *own):
                    connection.execute(f"DELETE FROM {table}")
                store.known.clear()
                store.datasets.clear()
                store.unended.clear()
                _ingest(home, store, limit_lines=1 << 62, live=False)
        except sqlite3.DatabaseError as error:
            if not is_broken(error):
                raise UserError(f"{store.path}: cannot be rebuilt ({error})") from None
            store.recover(error)
            ingest_all(home, store, live=False)
        finally:
            store.connection.execute("PRAGMA cache_size = -2000")
        if store.in_memory:
            raise UserError(f"{store.path}: cannot be written, so it was not rebuilt")
        ingest(home, store)
        return int(store.query("SELECT count(*) FROM runs")[0][0])


def _ingest(home: Home, store: Store, limit_lines: int, live: bool) -> set[str]:
    there = _journals(home)
    changed: set[str] = set()
    budget = limit_lines
    # Oldest first, whatever order the folder's entries have.
    for run in sorted(run for run in there if store.known.get(run) != there[run]):
        if budget <= 0:
            store.more = True
            break
        budget -= _ingest_journal(home, store, run, there[run], budget)
        changed.add(run)
    if gone := [run for run in store.known if run not in there]:
        with store.transaction() as connection:
            for run in gone:
                tables.forget(connection, run)
                store.known.pop(run)
                changed.add(run)
    ingest_datasets(home, store)
    return changed | _look_at_living(home, store, live)


def _journals(home: Home) -> dict[str, Identity]:
    there: dict[str, Identity] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(home.runs) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            identity = _identity(f"{entry.path}/events.jsonl")
            if identity == MISSING and not os.path.exists(f"{entry.path}/run.json"):
                continue
            there[entry.name] = identity
    if (own := _identity(str(home.journal))) != MISSING:
        there[HOME] = own
    return there


def _identity(path: str) -> Identity:
    try:
        info = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def _ingest_journal(home: Home, store: Store, run: str, identity: Identity, limit: int) -> int:
    """Read one journal from where it was left; returns the number of lines."""
    folder = RunFolder(home.runs / run)
    path = folder.journal if run else home.journal
    read = 0
    with store.transaction() as connection:
        offset, line, unreadable = _position(connection, run, path, identity)
        row = tables.load_row(connection, run) if run else None
        if row and row.state == "lost" and read_lines(path, offset, CHUNK_BYTES).offset > offset:
            # It was not, or was resumed: our verdict is no line of the journal, and goes.
            tables.forget(connection, run)
            offset, line, unreadable, row = 0, 0, 0, None
        row = (row or _new_row(connection, folder)) if run else None
        ended = row is not None and is_ended(row)
        while True:
            lines = read_lines(path, offset, CHUNK_BYTES)
            if row is None:
                unreadable += tables.write_home(connection, lines.events)
            else:
                unreadable += tables.write(connection, row, lines.events, line)
            if lines.offset == offset:
                break
            read += len(lines.events) + lines.unreadable
            line += len(lines.events)
            unreadable += lines.unreadable
            offset = lines.offset
            if read >= limit:
                identity = (*identity[:3], UNREAD)
                store.more = True
                break
        if row is not None:
            tables.save_row(connection, row)
            if not ended:
                _keep_log(connection, folder, row)
        values = (run, *identity, _head(path, offset), offset, line, unreadable)
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT OR REPLACE INTO journals VALUES ({marks})", values)
    store.known[run] = identity
    return read


def _position(
    connection: sqlite3.Connection, run: str, path: Path, identity: Identity
) -> tuple[int, int, int]:
    """(offset, lines, unreadable) to go on from; of a replaced journal everything is forgotten."""
    sql = "SELECT inode, head, offset, lines, unreadable FROM journals WHERE run = ?"
    found = connection.execute(sql, (run,)).fetchone()
    if found:
        inode, head, offset, lines, unreadable = found
        # The device's number may be another one after each mount, above all of a network.
        same_file = inode == identity[1] and identity[2] >= offset
        if same_file and _head(path, offset) == head:
            return offset, lines, unreadable
    tables.forget(connection, run)
    return 0, 0, 0


def _head(path: Path, offset: int) -> str:
    """Digest of the journal's beginning: a new file may get the inode of a deleted one."""
    try:
        with path.open("rb") as file:
            head = file.read(min(offset, HEAD_BYTES))
    except FileNotFoundError:
        head = b""
    return hashlib.blake2b(head, digest_size=16).hexdigest()


def _new_row(connection: sqlite3.Connection, folder: RunFolder) -> RunRow:
    row = RunRow(id=folder.id, name=folder.id)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        identity = folder.read_identity()
        row.name = str(identity.get("name") or folder.id)
        row.parent, row.recipe = identity.get("parent"), identity.get("recipe")
        row.created = fitted("created", identity.get("created"))
        if isinstance(sweep := identity.get("sweep"), dict) and sweep.get("id"):
            row.sweep = str(sweep["id"])
            row.sweep_values = json.dumps(sweep.get("values") or {}, ensure_ascii=False)
        row.repeats = str(identity["repeats"]) if identity.get("repeats") else None
        if imported := identity.get("imported"):
            row.imported = json.dumps(imported, ensure_ascii=False)
    row.name = marked.name_of(connection, row.id) or row.name
    texts.put(connection, row.id, "name", "", row.created, row.name)
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        recipe = toml_sections.loads(folder.recipe_file.read_text(encoding="utf-8"))
        row.model = recipe.get("model", {}).get("model_name_or_path")
        data = recipe.get("data", {})
        row.dataset = data.get("name") or data.get("source")
        put = "INSERT OR REPLACE INTO recipes (run, settings) VALUES (?, ?)"
        connection.execute(put, (row.id, _settings(recipe)))
    return row


def _keep_log(connection: sqlite3.Connection, folder: RunFolder, row: RunRow) -> None:
    """The end of the log of a run that ended badly can be searched."""
    if row.state in BAD_ENDS:
        log = "\n".join(folder.log_tail(LOG_LINES))
        texts.put(connection, row.id, "log", "", row.ended, log)


def _settings(recipe: dict[str, Any]) -> str:
    """JSON of every value as ``section.key``, the way :meth:`engine.recipe.Recipe.flat` does it.

    TOML's nan and inf are texts there, as in the journal: JSON has no such numbers.
    """
    flat: dict[str, Any] = {}
    for section, value in recipe.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": finite(inner) for key, inner in value.items()}
        else:
            flat[section] = finite(value)
    return json.dumps(flat, ensure_ascii=False, default=str)


def _look_at_living(home: Home, store: Store, live: bool) -> set[str]:
    """Runs without an end: which of them still live? Returns those that changed."""
    marks = ", ".join("?" * len(ENDS))
    sql = f"SELECT id, state FROM runs WHERE state NOT IN ({marks})"
    unended = dict(store.connection.execute(sql, tuple(ENDS)).fetchall())
    changed = {run for run in store.unended if run not in unended}  # another viewer's finding
    store.unended = unended
    if not live:
        return changed
    reap()
    for run in list(unended):
        folder = RunFolder(home.runs / run)
        if store.known.get(run, MISSING)[3] == UNREAD:
            continue  # its end may be among the lines to come
        try:
            if is_alive(folder):
                _adopt(store, folder)
            elif _is_lost(home, store, folder):
                changed.add(run)
        except NoFileLocks as error:  # nobody can tell who lives; all else can be looked at
            store.warn(str(error))
            break
    return changed


def _adopt(store: Store, folder: RunFolder) -> None:
    if has_supervisor(folder):
        return
    now = time.monotonic()
    if now - store.adopted.get(folder.id, -ADOPT_SECONDS) >= ADOPT_SECONDS:
        store.adopted[folder.id] = now
        with contextlib.suppress(UserError, OSError):
            adopt(folder)


def _is_lost(home: Home, store: Store, folder: RunFolder) -> bool:
    """True when a dead run's journal, read to its end, has none; the run is then marked so."""
    identity = _identity(str(folder.journal))
    if store.known.get(folder.id) != identity and folder.path.exists():
        _ingest_journal(home, store, folder.id, identity, LIMIT_LINES)
        if store.known.get(folder.id) != identity:
            return True  # it has more lines; the next call looks again
    with store.transaction() as connection:
        row = tables.load_row(connection, folder.id)
        if row is None or is_ended(row):
            return True
        seen = max(row.created or 0.0, row.last_event or 0.0)
        queued = row.state == "queued" and identity != MISSING  # made with its journal
        if 0 <= time.time() - seen < GRACE_SECONDS and queued:
            return False
        if queued and (folder.queue_entry.exists() or is_alive(folder)):
            return False  # an entry goes once the run lives: looked at in this order
        mark_lost(row, why_lost(folder))
        tables.save_row(connection, row)
        _keep_log(connection, folder, row)
        store.unended.pop(folder.id, None)
    return True
