"""A runs.db of any earlier program is taken over whole, however its migration is interrupted.

The dumps were made by these programs themselves (see ``fixtures/history/make.py``), all of one
home, whose journals know more than the older programs understood.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UserError
from engine.history.agreement import disagreements, read_anew
from engine.history.ingest import ingest_all
from engine.history.store import MIGRATIONS, Store, open_store
from engine.home import Home
from tests.engine.fakes.full_home import what_people_said

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures" / "history"
LEVELS = [name[:4] for name in MIGRATIONS]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with tarfile.open(FIXTURES / "home.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    return Home(tmp_path / "home")


def put_database(home: Home, level: str) -> dict[str, list[tuple[Any, ...]]]:
    """Make the home's runs.db that of an earlier program; returns its tables' content.

    It looks as if this program had just read the very journals that are there: what it made of them
    stays, unless a migration has them read again.
    """
    with sqlite3.connect(home.database, isolation_level=None) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript((FIXTURES / f"{level}.sql").read_text())
        for run in [run for (run,) in old.execute("SELECT run FROM journals").fetchall()]:
            path = home.runs / run / "events.jsonl" if run else home.journal
            info = path.stat()
            identity = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, run)
            old.execute(
                "UPDATE journals SET device = ?, inode = ?, size = ?, mtime_ns = ? WHERE run = ?",
                identity,
            )
        names = old.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        content = {name: old.execute(f"SELECT * FROM [{name}]").fetchall() for (name,) in names}
    old.close()
    return content


def applied(store: Store) -> list[str]:
    sql = "SELECT name FROM _sqlite_migrations WHERE migration_set = 'tunebench' ORDER BY rowid"
    return [name for (name,) in store.query(sql)]


def check(home: Home) -> Store:
    """The index is of today's schema, whole, and says what its journals say."""
    store = open_store(home)
    assert not store.warnings and not store.in_memory
    ingest_all(home, store, live=False)
    assert applied(store) == [*MIGRATIONS]
    assert store.query("PRAGMA integrity_check") == [("ok",)]
    with read_anew(home) as anew:
        assert disagreements(store.connection, anew.connection) == []
        assert what_people_said(store.query) == what_people_said(anew.query)
        for name in what_people_said(anew.query):
            assert what_people_said(anew.query)[name], f"no {name} in the fixture"
    return store


def test_there_is_a_dump_of_every_level() -> None:
    made = sorted(path.stem for path in FIXTURES.glob("m*.sql"))
    assert made == LEVELS, "python -m tests.engine.fixtures.history.make LEVEL"


@pytest.mark.parametrize("level", LEVELS)
def test_an_earlier_database_is_taken_over(level: str, home: Home) -> None:
    before = put_database(home, level)
    assert len(before["runs"]) == 3 and len(before["metrics"]) >= 13 and len(before["notes"]) == 2
    store = check(home)
    steps = store.query("SELECT run, step, loss FROM metrics ORDER BY run, step")
    assert len(steps) == len(before["metrics"]), "nothing that it held is gone"
    assert not list(home.path.glob("runs.db.broken-*")), "taken over, not thrown away"


@pytest.mark.parametrize("level", LEVELS)
def test_a_schema_made_step_by_step_is_the_one_made_at_once(level: str, home: Home) -> None:
    put_database(home, level)
    sql = "SELECT type, name, tbl_name FROM sqlite_master ORDER BY type, name"
    columns = (
        "SELECT m.name, p.name, p.type, p.pk FROM sqlite_master m, pragma_table_info(m.name) p"
    )
    with read_anew(home) as anew:
        store = open_store(home)
        assert store.query(sql) == anew.query(sql)
        columns = f"{columns} WHERE m.type IN ('table', 'view') ORDER BY 1, p.cid"
        assert store.query(columns) == anew.query(columns)


@pytest.mark.parametrize("level", ["m001", LEVELS[-1]])
def test_a_newer_database_is_refused_and_left_as_it_is(level: str, home: Home) -> None:
    """However little of its schema this program knows."""
    put_database(home, level)
    with sqlite3.connect(home.database, isolation_level=None) as newer:
        newer.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('tunebench', 'm999_future', '2030-01-01')"
        )
        newer.execute("CREATE TABLE of_the_future (x)")
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    newer.close()
    before = home.database.read_bytes()
    with pytest.raises(UserError, match=r"newer tunebench \(it has m999_future\); update"):
        open_store(home)
    assert home.database.read_bytes() == before
    assert not list(home.path.glob("runs.db.broken-*"))


SCRIPT = """
import sys, time
from engine.home import Home
from engine.history.ingest import ingest_all
from engine.history.store import open_store
import engine.history.migrations
from pathlib import Path
home = Home(Path(sys.argv[1]))
print("now", flush=True)
began = time.perf_counter()
store = open_store(home)
print(time.perf_counter() - began, flush=True)
ingest_all(home, store, live=False)
print(time.perf_counter() - began, flush=True)
"""


def migrate(home: Home, killed_after: float | None) -> list[float]:
    """Migrate and ingest in a process of its own; returns the seconds that both took, if it
    came so far."""
    command = [sys.executable, "-c", SCRIPT, str(home.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        if killed_after is not None:
            time.sleep(killed_after)  # a moment is what this is about
            process.send_signal(signal.SIGKILL)
        return [float(line) for line in process.stdout]


def kill_at_random_moments(home: Home, times: int, seed: int) -> list[tuple[str, float, str]]:
    """Migrate from a random level and be killed; then another one finishes. A line each."""
    chance = random.Random(seed)
    put_database(home, "m001")
    opening, whole = migrate(home, None)
    table = []
    for _ in range(times):
        level = chance.choice(LEVELS[:-1])
        for path in home.path.glob("runs.db*"):
            path.unlink()
        put_database(home, level)
        moment = chance.uniform(0, chance.choice([opening, whole]))
        migrate(home, moment)
        with sqlite3.connect(home.database) as left:
            names = left.execute("SELECT name FROM _sqlite_migrations").fetchall()
        left.close()
        found = "untouched" if len(names) == int(level[1:]) else f"at {len(names)} of {len(LEVELS)}"
        assert len(names) in (int(level[1:]), len(LEVELS)), "all of the steps, or none"
        check(home).close()
        table.append((level, moment, found))
    return table


def test_killed_in_the_middle_of_a_migration(home: Home) -> None:
    assert len(kill_at_random_moments(home, 3, seed=int.from_bytes(os.urandom(4)))) == 3


@pytest.mark.slow
def test_killed_in_the_middle_of_a_migration_twenty_times(home: Home) -> None:
    table = kill_at_random_moments(home, 20, seed=8)
    print()
    for level, moment, found in table:
        print(f"| {level} | {moment * 1e3:.0f} ms | {found} | taken over whole |")
    assert {found for *_, found in table} == {"untouched", f"at {len(LEVELS)} of {len(LEVELS)}"}
