"""By hand, as people do it: real commands and real workbenches on a ``runs.db`` that is hurt.

Prints its table (``-s``). The quick variants are in ``tests/engine/test_store_hurt.py``.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.history.agreement import disagreements, read_anew
from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import Home, open_home
from tests.engine.fakes.full_home import fill, what_people_said
from tests.engine.hurting import HARMS, Harm, locked_by_another
from tests.tui.terminal import PtyApp

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEPS = 2000
LOCK_SECONDS = 60.0
TOGETHER_SECONDS = 30.0


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "home"
    fill(open_home(path), steps=STEPS)
    return path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    shutil.copytree(template, tmp_path / "home")
    home = open_home(tmp_path / "home")
    assert command(home, "runs")[0] == 0
    return home


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, ...]]]:
    lines: list[tuple[str, ...]] = []
    yield lines
    if lines:
        print("\n| what happened | what a command said | seconds | lost | afterwards |")
        print("| --- | --- | --- | --- | --- |")
        for line in lines:
            print("| " + " | ".join(line) + " |")


def command(home: Home, *words: str) -> tuple[int, Any, str, float]:
    """Exit status, document, what it said on stderr, and how long it took."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", *words, "--json", "--home", str(home.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    seconds = time.monotonic() - began
    document = json.loads(done.stdout) if done.stdout.strip() else None
    return done.returncode, document, done.stderr.strip().replace(str(home.path), "~"), seconds


def said(home: Home) -> dict[str, list[Any]]:
    """What people said, by the index, which must say the same as the journals."""
    store = open_store(home)
    ingest_all(home, store, live=False)
    with read_anew(home) as anew:
        assert disagreements(store.connection, anew.connection) == []
        told = what_people_said(store.query)
        assert told == what_people_said(anew.query)
    store.close()
    return told


def missing(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> str:
    lost = [
        f"{name}: {len(rows) - len([row for row in rows if row in after[name]])}"
        for name, rows in before.items()
        if any(row not in after[name] for row in rows)
    ]
    return ", ".join(lost) or "nothing"


def afterwards(home: Home) -> str:
    """The doctor's word, after it repaired what a look did not find."""
    _, document, _, _ = command(home, "doctor", "--full", "--repair")
    checks = {check["name"]: check for check in document["checks"]}
    for name in ("index", "search", "journals", "index, journals"):
        assert checks[name]["ok"], checks[name]
    return "repaired by doctor" if document["repaired"] else "sound"


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_a_command_after_each_harm(harm: Harm, home: Home, table: list[tuple[str, ...]]) -> None:
    before = said(home)
    harm.act(home.database)
    status, _, words, _ = command(home, "runs", "note", "first", "after the harm")
    assert status == 0, words
    status, document, more, seconds = command(home, "runs", "show", "first")
    assert status == 0 and "after the harm" in [note["text"] for note in document["notes"]]
    state = afterwards(home)
    lost = missing(before, said(home))
    words = (words or more or "nothing").removeprefix("tunebench: ")
    words = words.partition("(")[0].strip() + (" (...)" if "(" in words else "")
    table.append((harm.name, words, f"{seconds:.1f}", lost, state))
    assert lost == "nothing"


def during(home: Home, act: Callable[[], Any], app: PtyApp) -> None:
    """Hold the workbench's screen up to date meanwhile: what it writes has to be read."""
    done = threading.Event()

    def work() -> None:
        try:
            act()
        finally:
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        app.quiet(0.1)
        assert app.process.poll() is None, app.written[-3000:].decode("utf-8", "replace")
    thread.join()


@pytest.mark.parametrize("how", ["writing", "wholly"])
def test_locked_by_another_program_for_a_minute(
    how: str, home: Home, table: list[tuple[str, ...]]
) -> None:
    before = said(home)
    found: list[tuple[int, Any, str, float]] = []
    with PtyApp(home.path) as app:
        app.wait_for(b"Recipe")
        app.press("3")
        app.wait_for(b"first")
        if how == "wholly":  # it cannot be had while somebody has the file open
            app.press("q")
            assert app.ended() == 0

        def act() -> None:
            with locked_by_another(home, how):
                until = time.monotonic() + LOCK_SECONDS
                for text in ("one", "two", "three"):
                    found.append(command(home, "runs", "note", "first", text))
                    found.append(command(home, "runs", "tag", "first", text))
                    found.append(command(home, "runs", "show", "first"))
                while time.monotonic() < until:
                    time.sleep(0.2)  # the lock has its minute

        if how == "wholly":
            act()
        else:
            during(home, act, app)
            assert b"locked by another program" in app.written, "the workbench says so"
            since = len(app.written)
            command(home, "runs", "note", "first", "afterwards")
            app.press("\x1b")
            app.quiet(12)
            app.press("q")
            assert app.ended() == 0 and b"Traceback" not in app.written[since:]
    assert all(status == 0 for status, *_ in found), found
    shown = [document for _, document, _, _ in found[2::3]]
    assert [note["text"] for note in shown[-1]["notes"]][-3:] == ["one", "two", "three"]
    assert {"one", "two", "three"} <= {*shown[-1]["tags"]}
    seconds = [seconds for *_, seconds in found]
    lost = missing(before, said(home))
    words = found[-1][2].removeprefix("tunebench: ")
    name = f"locked for {LOCK_SECONDS:.0f} s ({how}), nine commands meanwhile"
    if how == "writing":
        name += ", a workbench open"
    took = f"{min(seconds):.1f} to {max(seconds):.1f}"
    table.append((name, words, took, lost, afterwards(home)))
    assert lost == "nothing" and max(seconds) < 30


def test_two_workbenches_and_three_commands_at_once(
    home: Home, table: list[tuple[str, ...]]
) -> None:
    before = said(home)
    lanes: dict[str, list[tuple[int, Any, str, float]]] = {"note": [], "tag": [], "reindex": []}
    until = time.monotonic() + TOGETHER_SECONDS

    def lane(name: str) -> None:
        while time.monotonic() < until:
            turn = f"{name}-{len(lanes[name])}"
            words = [name] if name == "reindex" else ["runs", name, "first", turn]
            lanes[name].append(command(home, *words))

    def act() -> None:
        threads = [threading.Thread(target=lane, args=(name,)) for name in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with PtyApp(home.path) as one, PtyApp(home.path) as two:
        for app in (one, two):
            app.wait_for(b"Recipe")
            app.press("3")
            app.wait_for(b"first")
        reader = threading.Thread(target=during, args=(home, act, one))
        reader.start()
        while reader.is_alive():
            two.quiet(0.1)
        reader.join()
        for app in (one, two):
            app.quiet(2)
            app.press("q")
            assert app.ended() == 0
            assert b"cannot be read" not in app.written and b"Traceback" not in app.written
    every = [each for lane in lanes.values() for each in lane]
    assert all(status == 0 and words == "" for status, _, words, _ in every), every
    store = open_store(home)
    ingest_all(home, store, live=False)
    notes = {text for (text,) in store.query("SELECT text FROM notes")}
    tags = {tag for (tag,) in store.query("SELECT tag FROM tags")}
    store.close()
    assert {f"note-{number}" for number in range(len(lanes["note"]))} <= notes
    assert {f"tag-{number}" for number in range(len(lanes["tag"]))} <= tags
    lost = missing(before, said(home))
    seconds = [seconds for *_, seconds in every]
    counts = ", ".join(f"{len(lane)} x {name}" for name, lane in lanes.items())
    took = f"{min(seconds):.1f} to {max(seconds):.1f}"
    name = f"two workbenches and three commands at once: {counts}"
    table.append((name, "nothing", took, lost, afterwards(home)))
    assert lost == "nothing"


def test_of_a_newer_schema(home: Home, table: list[tuple[str, ...]]) -> None:
    before = said(home)
    with sqlite3.connect(home.database, isolation_level=None) as newer:
        newer.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('tunebench', 'm999_future', '')"
        )
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    newer.close()
    data = home.database.read_bytes()
    status, document, words, seconds = command(home, "runs", "note", "first", "x")
    assert (status, document) == (1, None)
    with PtyApp(home.path) as app:
        app.wait_for(b"Recipe")
        app.press("3")
        app.wait_for(rb"newer tunebench|newer.{0,40}tunebench")
        app.press("q")
        assert app.ended() == 0
    assert home.database.read_bytes() == data
    home.database.rename(home.path / "newer.db")
    lost = missing(before, said(home))
    words = words.removeprefix("tunebench: ")
    table.append(
        ("of a newer schema", f"refused: {words}", f"{seconds:.1f}", lost, "not a byte changed")
    )
    assert lost == "nothing"
