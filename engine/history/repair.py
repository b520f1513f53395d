"""Puts right what the doctor finds wrong with the store, and says what was done.

Nothing here changes a journal: they are what everything else is rebuilt from.
"""

import json
import os
import sqlite3
from contextlib import closing

from engine.errors import UserError
from engine.history import examine
from engine.history.ingest import ingest_all, reindex
from engine.history.store import Store, open_store
from engine.history.troubles import is_busy
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import SCHEMA_VERSION
from engine.jobs.leftovers import QUIET_SECONDS, clear
from engine.jobs.lock import locked
from engine.text import clip
from engine.whole import sync
from engine.words import counted

__all__ = ["repair"]


def repair(home: Home, full: bool = False, quiet_seconds: float = QUIET_SECONDS) -> list[str]:
    """Repair what is broken; returns what was done, a line each, empty when nothing had to be.

    ``full``: also where the index is whole, and says other things than the journals. Raises
    UserError: the index belongs to a newer program, or cannot be written.
    """
    done = _names(home)  # first: of a run without run.json only the index knows its name
    with closing(open_store(home)) as store:  # a file that cannot be opened is rebuilt by that
        done += store.warnings
        told = len(store.warnings)
        done += _index(home, store, full)
        done += store.warnings[told:]
    cleared, failed = clear(home, quiet_seconds)
    back = [left for left in cleared if left.returns]
    if back:
        done.append("put back what was on its way: " + ", ".join(left.place.name for left in back))
    if gone := len(cleared) - len(back):
        done.append(f"cleared away {counted(gone, 'folder')} left behind by killed processes")
    return done + [f"could not be cleared away: {words}" for words in failed]


def _index(home: Home, store: Store, full: bool) -> list[str]:
    if store.in_memory:
        return []  # its warning says why
    try:
        wrong = examine.broken_index(store.path)
    except sqlite3.Error as error:
        if is_busy(error):
            raise UserError(
                f"{store.path}: is locked by another program; try again later"
            ) from None
        wrong = str(error)
    if wrong:
        store.recover(clip(wrong, 200))
        ingest_all(home, store)
        return []  # its warning says so
    ingest_all(home, store)
    done = []
    ok, words, _ = examine.search_index(home)
    if not ok:
        with store.transaction() as connection:
            for name in examine.full_text_tables(connection):
                connection.execute(f"INSERT INTO [{name}] ([{name}]) VALUES ('rebuild')")
        done.append(f"{words}: built anew from its texts")
    checks = [examine.rows(home)]
    if full:
        checks.append(examine.agrees(home))
    if bad := [words for ok, words, _ in checks if not ok]:
        count = reindex(home, store)
        done.append(f"{bad[0]}: {counted(count, 'run')} read anew from the journals")
    return done


def _names(home: Home) -> list[str]:
    """Write ``run.json`` of the runs that lack it, from what the index remembers of it."""
    without = examine.nameless(home)
    if not without:
        return []
    with closing(open_store(home)) as store:
        # No ingest before: a row that is made now has no name.
        known = {
            row[0]: row[1:]
            for row in store.query("SELECT id, name, parent, created, recipe, repeats FROM runs")
        }
        sweeps = {
            run: (sweep, values)
            for run, sweep, values in store.query("SELECT id, sweep, sweep_values FROM runs")
            if sweep
        }
    done = []
    with locked(home.runs / ".lock"):
        for folder in without:
            found = known.get(folder.id)
            if found is None or not folder.journal.exists():
                done.append(f"{folder.id}: has no readable run.json, and the index has no name")
                continue
            name, parent, created, recipe, repeats = found
            identity = {"v": SCHEMA_VERSION, "id": folder.id, "name": name, "parent": parent}
            identity |= {"created": created, "recipe": recipe}
            if repeats:
                identity["repeats"] = repeats
            if folder.id in sweeps:
                sweep, values = sweeps[folder.id]
                identity["sweep"] = {"id": sweep, "values": json.loads(values or "{}")}
            _write(folder, identity)
            done.append(f"{folder.id}: run.json written again, with the name {name!r}")
    return done


def _write(folder: RunFolder, identity: dict[str, object]) -> None:
    new = folder.path / f".run-{os.getpid()}.json"
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(identity, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, folder.identity)
    except OSError as error:
        raise UserError(f"{folder.identity}: cannot be written ({error.strerror})") from None
    finally:
        new.unlink(missing_ok=True)
    sync(folder.path)
