"""What the doctor asks about the store: the index, the journals, what lies about beside them.

A question takes the home and returns (ok, words, advice), as those of
:mod:`engine.system.surroundings`. The quick ones change nothing, and wait for nobody.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from engine.errors import UserError
from engine.history.agreement import disagreements, read_anew, tables_of
from engine.history.ingest import ingest_all
from engine.history.place import place_of
from engine.history.store import MIGRATIONS, open_store
from engine.history.troubles import is_busy
from engine.home import Home
from engine.jobs.find import run_folders
from engine.jobs.folder import RunFolder
from engine.jobs.leftovers import leftovers
from engine.text import clip
from engine.words import bytes_words, counted

__all__ = [
    "QUESTIONS",
    "THOROUGH",
    "broken_index",
    "full_text_tables",
    "nameless",
    "stray_rows",
]

Answer = tuple[bool, str, str]
QUICK_SECONDS = 1.0
"""So long the quick look into the file may take; 500 MB/s of a file that is in the page cache."""
STEPS = 100_000
"""SQLite's own instructions between two looks at the clock."""
REPAIR = "tunebench doctor --repair"


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file for reading only. Raises sqlite3.Error."""
    uri = f"file:{quote(os.fsencode(path))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=QUICK_SECONDS)) as connection:
        yield connection


def index(home: Home, seconds: float | None = QUICK_SECONDS) -> Answer:
    """Is the file of one piece? ``seconds`` None: to its last page, however long it takes."""
    place = place_of(home)
    if not place.path.exists():
        return True, f"there is no index yet: the first look makes it at {place.path}", ""
    size = bytes_words(sum(path.stat().st_size for path in _parts(place.path)))
    where = place.words or f"{place.path}"
    try:
        newer = _newer(place.path)
        wrong = newer or broken_index(place.path, seconds)
    except sqlite3.Error as error:
        if is_busy(error):
            return True, f"{where}: locked by another program, and not looked into", ""
        return False, f"{place.path}: cannot be looked into ({error})", REPAIR
    if newer:
        return False, f"{place.path}: {newer}", "update tunebench, or move the file away"
    if wrong:
        return False, f"{place.path}: {clip(wrong, 200)}", f"{REPAIR}: it is rebuilt from journals"
    aside = [path for path in place.path.parent.glob(f"{place.path.name}.broken-*")]
    old = home.database if place.path != home.database and home.database.exists() else None
    advice = ""
    if aside or old:
        room = bytes_words(sum(path.stat().st_size for path in [*aside, *_parts(old)]))
        names = f"{place.path}.broken-*" if aside else f"{old}*"
        advice = f"older files beside it are of no use any more: rm {names} ({room})"
    sound = "of one piece" if wrong is not None else "sound as far as a second's look goes"
    return True, f"{where}: {size}, {sound}", advice


def _parts(path: Path | None) -> list[Path]:
    parts = [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")] if path else []
    return [part for part in parts if part.exists()]


def _newer(path: Path) -> str:
    with _reading(path) as connection:
        has = "SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'"
        if not connection.execute(has).fetchone():
            return ""
        sql = "SELECT name FROM _sqlite_migrations WHERE migration_set = 'tunebench'"
        unknown = [name for (name,) in connection.execute(sql) if name not in MIGRATIONS]
    return f"was written by a newer tunebench (it has {max(unknown)})" if unknown else ""


def broken_index(path: Path, seconds: float | None = None) -> str | None:
    """What is wrong with the file, one line; "": nothing; None: nothing until the time was up.

    Raises sqlite3.OperationalError when it is locked.
    """
    try:
        with _reading(path) as connection:
            if seconds is None:
                [first, *_] = connection.execute("PRAGMA integrity_check(5)").fetchall()
                return "" if first[0] == "ok" else str(first[0])
            until = time.monotonic() + seconds
            connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
            [first, *_] = connection.execute("PRAGMA quick_check(1)").fetchall()
            return "" if first[0] == "ok" else str(first[0])
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return None
        raise
    except sqlite3.DatabaseError as error:
        return str(error)


def stray_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> how many runs it has rows of that the table ``runs`` has not; none: empty.

    A look a run into the index of each table, not a row: 10,000 runs take some 50 ms a table.
    """
    found = {}
    for table, columns in tables_of(connection).items():
        if table not in _OF_RUNS or "run" not in columns:
            continue
        [(count,)] = connection.execute(
            f"WITH RECURSIVE each(run) AS (SELECT min(run) FROM {table} UNION ALL "
            f"SELECT (SELECT min(run) FROM {table} WHERE run > each.run) FROM each "
            "WHERE each.run IS NOT NULL) "
            "SELECT count(*) FROM each WHERE run IS NOT NULL AND run NOT IN (SELECT id FROM runs)"
        ).fetchall()
        if count:
            found[table] = count
    return found


_OF_RUNS = frozenset(
    {"metrics", "evaluations", "samples", "checkpoints", "memory", "events", "recipes"}
)
"""Notes, tags and the like of deleted runs stay, as they do in the home's journal."""


def rows(home: Home) -> Answer:
    """Rows that belong to nothing, and lines of journals that could not be read."""
    path = place_of(home).path
    if not path.exists():
        return True, "journals are read at the first look", ""
    try:
        with _reading(path) as connection:
            stray = stray_rows(connection)
            bad = connection.execute(
                "SELECT run, unreadable FROM journals WHERE unreadable > 0 ORDER BY unreadable DESC"
            ).fetchall()
            [(count,)] = connection.execute("SELECT count(*) FROM journals")
    except sqlite3.Error as error:
        return True, f"the index cannot be asked about the journals ({error})", ""
    if stray:
        tables = ", ".join(f"{table} of {counted(n, 'run')}" for table, n in stray.items())
        return False, f"rows of runs that are not there: {tables}", f"{REPAIR}: it reads all anew"
    if bad:
        lines = sum(number for _, number in bad)
        worst = ", ".join(f"{run or 'journal.jsonl'} ({number})" for run, number in bad[:3])
        words = f"{counted(lines, 'line')} of {counted(len(bad), 'journal')} cannot be read: "
        return True, words + worst, "they are passed over and kept; all other lines count"
    return True, f"{counted(count, 'journal')}, every line of which can be read", ""


def nameless(home: Home) -> list[RunFolder]:
    """Runs whose ``run.json`` is gone or damaged: they are shown under their ids."""
    found = []
    for folder in run_folders(home):
        try:
            if str(folder.read_identity()["id"]) != folder.id:
                found.append(folder)
        except (OSError, ValueError, KeyError, TypeError):
            found.append(folder)
    return found


def folders(home: Home) -> Answer:
    """Folders of runs: without a name, left behind by processes that were killed."""
    without, left = nameless(home), leftovers(home)
    words, advice = [], ""
    if without:
        names = ", ".join(folder.id for folder in without[:3])
        words.append(f"{counted(len(without), 'run')} without a readable run.json ({names})")
        advice = f"{REPAIR}: it takes their names from the index"
    if left:
        words.append(f"{counted(len(left), 'folder')} left behind by killed processes")
        if any(each.returns for each in left):
            words.append("among them what was on its way to its place")
        advice = f"{REPAIR}: it clears them away"
    if not words:
        return True, "nothing lies about in the runs' folders", ""
    return True, ", ".join(words), advice


def search_index(home: Home) -> Answer:
    """The full-text search against its texts, by its own check: it takes the lock for writing."""
    path = place_of(home).path
    if not path.exists():
        return True, "there is no index yet", ""
    try:
        with closing(sqlite3.connect(path, timeout=QUICK_SECONDS, isolation_level=None)) as opened:
            wrong = _search_index(opened)
    except sqlite3.Error as error:
        return True, f"the full-text search was not checked ({error})", ""
    if wrong:
        return False, f"the full-text search: {wrong}", f"{REPAIR}: it is built anew"
    return True, "the full-text search agrees with its texts", ""


def _search_index(connection: sqlite3.Connection) -> str:
    sql = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%FTS5%'"
    for (name,) in connection.execute(sql).fetchall():
        try:
            connection.execute(
                f"INSERT INTO [{name}] ([{name}], rank) VALUES ('integrity-check', 1)"
            )
        except sqlite3.DatabaseError as error:
            if is_busy(error) or "readonly" in str(error):
                raise
            return f"{name}: {error}"
    return ""


def full_text_tables(connection: sqlite3.Connection) -> list[str]:
    """The names of the index's FTS5 tables."""
    sql = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%FTS5%'"
    return [name for (name,) in connection.execute(sql)]


def agrees(home: Home) -> Answer:
    """The index, brought up to date, against one read anew from all journals."""
    try:
        store = open_store(home)
        with closing(store), read_anew(home) as anew:
            ingest_all(home, store, live=False)
            found = disagreements(store.connection, anew.connection)
            [(runs,)] = anew.query("SELECT count(*) FROM runs")
            [(steps,)] = anew.query("SELECT count(*) FROM metrics")
    except (UserError, OSError, sqlite3.Error) as error:
        return True, f"the index was not compared with the journals ({error})", ""
    if found:
        words = "; ".join(each.words for each in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return False, f"the index does not say what the journals say: {words}{more}", REPAIR
    return True, f"it says what the journals say: {runs:,} runs, {steps:,} steps", ""


def whole_index(home: Home) -> Answer:
    """:func:`index`, every page and every index of it."""
    return index(home, None)


QUESTIONS = {"index": index, "journals": rows, "run folders": folders}
"""Name -> question; together well under two seconds."""
THOROUGH = {
    "index": whole_index,
    "search": search_index,
    "journals": rows,
    "run folders": folders,
    "index, journals": agrees,
}
"""As long as reading every journal takes, and as much room in the folder for temporary files."""
