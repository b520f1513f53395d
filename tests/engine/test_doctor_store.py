"""The doctor looks into the store, finds what is broken there, and puts it right."""

import json
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.history import examine, queries
from engine.history.agreement import Difference, disagreements, read_anew
from engine.history.ingest import ingest_all
from engine.history.marks import rename_run, star
from engine.history.notes import add_note, add_tag
from engine.history.repair import repair
from engine.history.store import open_store
from engine.home import Home, open_home
from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.jobs.leftovers import clear, leftovers
from engine.jobs.lock import acquire
from tests.engine.fakes import runs

Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = open_home(tmp_path_factory.mktemp("template") / "home")
    for number in range(3):
        folder = runs.write_run(home, f"run-{number}", steps=200)
    rename_run(home, folder.id, "renamed")
    add_note(home, folder.id, "a note")
    add_tag(home, folder.id, "good")
    star(home, folder.id)
    return home.path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    """Three runs, with a name of its own, a note, a tag and a star."""
    shutil.copytree(template, tmp_path / "home")
    home = open_home(tmp_path / "home")
    store = open_store(home)
    ingest_all(home, store)
    store.close()
    return home


def doctor(home: Home, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[Told, list[str]]:
    cli.main(["doctor", "--json", "--home", str(home.path), *options])
    document = json.loads(capsys.readouterr().out)
    return {check["name"]: check for check in document["checks"]}, document["repaired"]


def differences(home: Home) -> list[Difference]:
    store = open_store(home)
    ingest_all(home, store, live=False)
    with read_anew(home) as anew:
        found = disagreements(store.connection, anew.connection)
    store.close()
    return found


def change(home: Home, *statements: str) -> None:
    with sqlite3.connect(home.database) as connection:
        for sql in statements:
            connection.execute(sql)
    connection.close()


def test_a_sound_store_is_told_to_be_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    told, repaired = doctor(home, capsys, "--full", "--repair")
    assert repaired == []
    for name in ("index", "search", "journals", "run folders", "index, journals", "locks"):
        assert told[name]["ok"] and not told[name]["advice"], told[name]
    assert "of one piece" in told["index"]["words"]
    assert told["index, journals"]["words"].endswith("3 runs, 600 steps")


def test_looking_at_a_home_without_an_index_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = open_home(tmp_path)
    told, _ = doctor(home, capsys)
    assert told["index"]["ok"] and "no index yet" in told["index"]["words"]
    assert not home.database.exists()


def test_an_index_with_damaged_pages_is_found_and_rebuilt(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    data = home.database.read_bytes()
    middle = len(data) // 2 & ~4095
    home.database.write_bytes(data[:middle] + b"\xa5" * 8192 + data[middle + 8192 :])
    told, _ = doctor(home, capsys)
    assert not told["index"]["ok"] and "--repair" in told["index"]["advice"]
    told, repaired = doctor(home, capsys, "--repair")
    assert told["index"]["ok"] and "rebuilt from the journals" in repaired[0]
    assert "runs.db.broken-" in told["index"]["advice"], "the room that it takes can be had back"
    assert differences(home) == []
    store = open_store(home)
    assert [
        note["text"] for row in queries.list_runs(store) for note in queries.notes(store, row.id)
    ]
    assert doctor(home, capsys, "--repair")[1] == [], "nothing is left to repair"


def test_rows_of_runs_that_are_not_there_are_found_and_cleared(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    change(home, "INSERT INTO metrics (run, step, attempt, loss) VALUES ('ghost', 1, 1, 2.0)")
    told, _ = doctor(home, capsys)
    assert not told["journals"]["ok"] and "metrics of 1 run" in told["journals"]["words"]
    told, repaired = doctor(home, capsys, "--repair")
    assert told["journals"]["ok"] and "read anew" in repaired[0]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM metrics WHERE step = 7", "199 rows instead of 200"),
        ("UPDATE metrics SET loss = 0 WHERE step = 7", "with other content"),
        ("DELETE FROM notes", "0 rows instead of 1"),
        ("UPDATE runs SET name = 'other' WHERE name = 'renamed'", "runs of"),
        ("DELETE FROM stars", "stars of"),
    ],
)
def test_an_index_that_says_other_things_than_the_journals(
    sql: str, words: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    change(home, sql)
    assert doctor(home, capsys)[0]["index"]["ok"], "only a comparison tells"
    told, _ = doctor(home, capsys, "--full")
    assert not told["index, journals"]["ok"] and words in told["index, journals"]["words"]
    told, repaired = doctor(home, capsys, "--full", "--repair")
    assert told["index, journals"]["ok"] and len(repaired) == 1
    assert differences(home) == []


def test_a_run_found_lost_is_no_disagreement(home: Home) -> None:
    runs.write_run(home, "gone", steps=3, end=None)
    store = open_store(home)
    ingest_all(home, store)
    assert queries.get_run(store, "gone").state == "lost"
    store.close()
    assert differences(home) == []


def test_a_full_text_search_that_lost_its_words(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    change(home, "INSERT INTO texts_fts (texts_fts) VALUES ('delete-all')")
    told, _ = doctor(home, capsys, "--full")
    assert not told["search"]["ok"]
    told, repaired = doctor(home, capsys, "--full", "--repair")
    assert told["search"]["ok"] and "built anew" in repaired[0]
    store = open_store(home)
    from engine.history.texts import search

    assert len(search(store, "a note")) == 1


def test_unreadable_lines_are_told_with_their_journals(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.write_run(home, "torn", steps=3)
    with folder.journal.open("a") as file:
        file.write("not json\nneither\n")
    store = open_store(home)
    ingest_all(home, store)
    store.close()
    told, _ = doctor(home, capsys)
    words = told["journals"]["words"]
    assert (
        told["journals"]["ok"] and words.startswith("2 lines of 1 journal") and folder.id in words
    )


def test_an_index_of_a_newer_program_is_left_alone(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    change(
        home,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
        "VALUES ('tunebench', 'm999_future', '')",
    )
    before = home.database.read_bytes()
    told, _ = doctor(home, capsys)
    assert not told["index"]["ok"] and "newer tunebench" in told["index"]["words"]
    assert cli.main(["doctor", "--repair", "--home", str(home.path)]) == 1
    assert "newer tunebench" in capsys.readouterr().err
    assert home.database.read_bytes() == before


def test_a_lost_name_is_taken_from_the_index(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(home)
    row = queries.get_run(store, "run-0")
    store.close()
    folder = RunFolder(home.runs / row.id)
    before = folder.read_identity()
    folder.identity.write_text("{")
    told, _ = doctor(home, capsys)
    assert "1 run without a readable run.json" in told["run folders"]["words"]
    told, repaired = doctor(home, capsys, "--repair")
    assert told["run folders"]["ok"] and "with the name 'run-0'" in repaired[0]
    assert folder.read_identity() == before
    assert differences(home) == []


def test_a_name_that_nobody_knows_is_said_to_be_so(home: Home) -> None:
    lost = home.runs / "20200101-000000-abcd"
    lost.mkdir()
    assert "the index has no name" in repair(home)[0]
    assert list(lost.iterdir()) == []


def aged(path: Path) -> Path:
    then = time.time() - 7200
    os.utime(path, (then, then))
    return path


def checkpoint(folder: RunFolder, name: str) -> Path:
    path = folder.checkpoints / name
    path.mkdir(parents=True)
    (path / "weights").write_bytes(b"w" * 5000)
    checkpoints.write_manifest(path, step=1)
    return path


def test_what_killed_processes_left_is_cleared_away(home: Home) -> None:
    folder = RunFolder(next(path for path in home.runs.iterdir() if path.is_dir()))
    checkpoint(folder, "step-8")
    gone = [
        aged(checkpoint(folder, ".tmp-9-123")),
        aged(checkpoint(folder, ".gone-step-4")),
        aged(checkpoint(folder, ".old-step-8")),
        aged(_made(home.runs / ".new-20200101-000000-abcd")),
        aged(_made(home.runs / ".gone-20200101-000000-abcd")),
        aged(_made(folder.path / ".tmp-adapter")),
    ]
    fresh = _made(home.runs / ".new-20200101-000000-ffff")
    assert {left.path for left in leftovers(home)} == set(gone)
    held = acquire(folder.lock)
    assert held is not None
    assert {left.path.parent for left in leftovers(home)} == {home.runs}, "of no living run"
    os.close(held)
    done, failed = clear(home)
    assert len(done) == 6 and not failed
    assert not any(path.exists() for path in gone) and fresh.exists()
    assert checkpoints.whole(folder, content=True) == [folder.checkpoints / "step-8"]


def _made(path: Path) -> Path:
    path.mkdir()
    (path / "file").write_bytes(b"x")
    return path


def test_a_checkpoint_whose_exchange_was_cut_short_comes_back(home: Home) -> None:
    """On file systems where two folders cannot change names at once, there is such a moment."""
    folder = RunFolder(next(path for path in home.runs.iterdir() if path.is_dir()))
    aged(checkpoint(folder, ".old-step-8"))
    torn = checkpoint(folder, ".old-step-4")
    (torn / "weights").write_bytes(b"short")
    aged(torn)
    assert checkpoints.latest_whole(folder) is None
    assert any("put back what was on its way: step-8" in words for words in repair(home))
    assert checkpoints.latest_whole(folder) == folder.checkpoints / "step-8"
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-8"]


def test_runs_that_were_being_queued_get_to_their_places(home: Home) -> None:
    staged = home.runs / ".queued-ab12"
    staged.mkdir()
    source = next(path for path in home.runs.iterdir() if path.is_dir() and path != staged)
    shutil.copytree(source, staged / "20200101-000000-abcd")
    aged(staged)
    repair(home)
    assert (home.runs / "20200101-000000-abcd" / "run.json").exists() and not staged.exists()


def test_the_quick_look_ends_in_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.perf_counter()
    monkeypatch.setattr(examine, "STEPS", 100)
    assert examine.broken_index(home.database, 0.0) is None
    assert "as far as a second's look goes" in examine.index(home, 0.0)[1]
    for question in examine.QUESTIONS.values():
        assert question(home)[0]
    assert time.perf_counter() - began < 1.0
