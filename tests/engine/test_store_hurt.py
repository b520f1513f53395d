"""Nothing that anybody said of a run is lost, whatever happens to ``runs.db``.

What happened, as tried (the slow variant in ``tests/slow/test_store_hurt.py`` prints it anew by
real commands, and has two workbenches and three commands at once, and the lock of a minute):

| what happened to runs.db | what people get |
| --- | --- |
| deleted, with or without its -wal | read anew from the journals, nothing is said |
| truncated to nothing | the same |
| truncated elsewhere, half written, another file, a table dropped | moved aside, read anew, said |
| a torn or senseless -wal | what was in it is read again from the journals |
| any of these under an open viewer | the same, at its next look |
| locked for writing by another program | a command waits 5 s, then reads the rest into memory; a |
| | workbench shows what it had for 10 s, then the same; both say so; notes go to the journal |
| locked wholly (not even to be read) | all is read into memory after 5 s; said |
| a lock that ends | a workbench is back in the file within 10 s |
| opened by two viewers and three commands | each line once, no error, no wait |
| of a newer schema | refused in one line, exit status 1, not a byte changed; notes stay |
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.errors import UserError
from engine.history import queries, store
from engine.history.agreement import disagreements, read_anew
from engine.history.ingest import ingest, ingest_all, reindex
from engine.history.marks import star
from engine.history.notes import add_note, add_tag
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.trash import move_to_trash, restore
from tests.engine.fakes import runs
from tests.engine.fakes.full_home import fill, what_people_said
from tests.engine.hurting import HARMS, Harm, locked_by_another

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "home"
    fill(open_home(path), steps=300)
    return path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    """With everything in it, and its index at rest."""
    shutil.copytree(template, tmp_path / "home")
    home = open_home(tmp_path / "home")
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    opened.close()
    return home


def said(home: Home) -> dict[str, list[Any]]:
    """By the journals alone."""
    with read_anew(home) as anew:
        return what_people_said(anew.query)


def check(home: Home, opened: Store) -> None:
    with read_anew(home) as anew:
        assert disagreements(opened.connection, anew.connection) == []
        assert what_people_said(opened.query) == what_people_said(anew.query)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_a_file_hurt_at_rest(harm: Harm, home: Home) -> None:
    before = said(home)
    harm.act(home.database)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    assert what_people_said(opened.query) == before
    if harm.rebuilt and not opened.warnings:  # not all of it is read at every start
        wrong = opened.query("PRAGMA quick_check") != [("ok",)]
        assert wrong and reindex(home, opened) == 3
    check(home, opened)
    assert bool(opened.warnings) is harm.rebuilt, opened.warnings
    assert all("rebuilt from the journals" in words for words in opened.warnings)
    opened.close()
    again = open_store(home)
    assert ingest_all(home, again, live=False) == set() and not again.warnings


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_a_file_hurt_under_an_open_viewer(harm: Harm, home: Home) -> None:
    """Whose connection has pages of it in memory; a note comes in while nobody knows of it."""
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    run = queries.get_run(opened, "first").id
    harm.act(home.database)
    add_note(home, run, "meanwhile")
    star(home, run)
    ingest_all(home, opened, live=False)
    rows = queries.list_runs(opened)
    assert len(rows) == 3
    for row in rows:
        queries.series(opened, row.id, ["loss"])
    assert [n["text"] for n in queries.notes(opened, run)] == ["kept for its loss", "meanwhile"]
    opened.close()
    again = open_store(home)
    ingest_all(home, again, live=False)
    if again.query("PRAGMA quick_check") != [("ok",)]:
        reindex(home, again)
    check(home, again)


def test_reindex_of_a_damaged_file_is_a_success(home: Home) -> None:
    HARMS[7].act(home.database)
    assert cli.main(["reindex", "--home", str(home.path)]) == 0
    opened = open_store(home)
    check(home, opened)
    assert not opened.warnings


def test_a_command_does_not_wait_for_ever_for_a_lock(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store.open_store, "__defaults__", (0.2,))
    at = ["--json", "--home", str(home.path)]
    for how in ("writing", "wholly"):
        with locked_by_another(home, how):
            text = f"noted while locked: {how}"
            assert cli.main(["runs", "note", "first", text, *at]) == 0
            assert cli.main(["runs", "tag", "first", how, *at]) == 0
            document, told = map(str, capsys.readouterr())
            assert how in json.loads(document.partition("}\n")[2])["tags"], "as it is now"
            assert "locked by another program" in told
            assert cli.main(["runs", "show", "first", *at]) == 0
            notes = json.loads(capsys.readouterr().out)["notes"]
            assert text in [note["text"] for note in notes]
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    assert not opened.warnings
    check(home, opened)


def test_a_viewer_goes_on_through_a_long_lock_and_comes_back(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETURN_SECONDS", 0.0)
    opened = open_store(home, busy_seconds=0.05)
    ingest_all(home, opened, live=False)
    run = queries.get_run(opened, "first").id
    with locked_by_another(home, "writing"):
        add_note(home, run, "one")
        assert ingest(home, opened, live=False) == set() and opened.more
        assert len(queries.notes(opened, run)) == 1, "what it had, for a while"
        monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.0)
        assert "" in ingest(home, opened, live=False) and opened.in_memory
        assert [note["text"] for note in queries.notes(opened, run)][-1] == "one"
        assert queries.series(opened, run, ["loss"])["loss"][0].size == 300, "copied"
        add_tag(home, run, "two")
        assert "" in ingest(home, opened, live=False) and opened.in_memory
        assert "two" in queries.tags(opened, run)
        assert len(opened.warnings) == 1 and "until it is free again" in opened.warnings[0]
    runs.wait(lambda: ingest(home, opened, live=False) or not opened.in_memory, "the file again")
    ingest_all(home, opened, live=False)
    assert not opened.in_memory and opened.path == home.database
    assert opened.warnings == [], "said once more at the next lock"
    check(home, opened)


def test_a_viewer_that_starts_while_the_file_is_locked_wholly(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked_by_another(home, "wholly"):
        opened = open_store(home, busy_seconds=0.05)
        ingest_all(home, opened, live=False)
        assert opened.in_memory
        check(home, opened)
    monkeypatch.setattr(store, "RETURN_SECONDS", 0.0)
    opened._look_again = 0.0
    ingest_all(home, opened, live=False)
    assert not opened.in_memory
    check(home, opened)


def test_a_lock_that_comes_over_an_open_viewer(home: Home) -> None:
    """What is there can be read; rebuilding it is refused, and works once it is free."""
    opened = open_store(home, busy_seconds=0.05)
    with locked_by_another(home, "writing"):
        assert queries.get_run(opened, "first").state == "finished"
        with pytest.raises(UserError, match=r"cannot be rebuilt \(database is locked\)"):
            reindex(home, opened)
    assert reindex(home, opened) == 3


def test_a_newer_file_loses_nobodys_words(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    before = said(home)
    with sqlite3.connect(home.database, isolation_level=None) as newer:
        newer.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES ('tunebench', 'm999_future', '')"
        )
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    newer.close()
    data = home.database.read_bytes()
    for verb in (["runs"], ["runs", "note", "first", "x"], ["reindex"], ["runs", "backup", "x"]):
        assert cli.main([*verb, "--home", str(home.path)]) == 1
        assert "newer tunebench" in capsys.readouterr().err
    assert home.database.read_bytes() == data and said(home) == before
    home.database.rename(home.path / "newer.db")
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    assert what_people_said(opened.query) == before


LOOK = """
import sys
from engine.home import open_home
from engine.history.store import open_store
from engine.history.ingest import ingest, ingest_all
from engine.history.queries import list_runs, notes
home = open_home(sys.argv[1])
store = open_store(home)
print("open", flush=True)
while not (home.path / "done").exists():
    ingest(home, store, live=False)
    [notes(store, row.id) for row in list_runs(store)]
ingest_all(home, store, live=False)
print(store.warnings, store.in_memory, sum(len(notes(store, r.id)) for r in list_runs(store)))
"""


def test_two_viewers_and_three_commands_at_once(home: Home) -> None:
    """Both viewers look without a pause, while others note, tag, and read everything again."""
    viewers = [
        subprocess.Popen(
            [sys.executable, "-c", LOOK, str(home.path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for viewer in viewers:
        assert viewer.stdout is not None and viewer.stdout.readline() == "open\n"

    def command(*words: str) -> "subprocess.Popen[bytes]":
        main = [sys.executable, "-m", "engine.cli", *words, "--home", str(home.path)]
        return subprocess.Popen(main, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    for turn in range(2):
        three = [
            command("runs", "note", "first", f"turn {turn}"),
            command("runs", "tag", "first", f"turn-{turn}"),
            command("reindex"),
        ]
        for each in three:
            _, told = each.communicate(timeout=60)
            assert each.returncode == 0 and told == b"", told
    (home.path / "done").touch()
    for viewer in viewers:
        words, _ = viewer.communicate(timeout=60)
        assert viewer.returncode == 0 and words == "[] False 4\n"
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    tags = queries.tags(opened, queries.get_run(opened, "first").id)
    assert {"turn-0", "turn-1"} <= {*tags}
    check(home, opened)


def test_what_another_viewer_forgot_or_read_is_known(home: Home) -> None:
    """A run that one viewer read and that is deleted goes from the other's list, and comes back
    with the folder, though its files are what they were."""
    one, two = open_store(home), open_store(home)
    ingest_all(home, one, live=False)
    folder = runs.write_run(home, "late", steps=3)
    ingest_all(home, two, live=False)
    move_to_trash(home, folder)
    ingest_all(home, one, live=False)
    assert len(queries.list_runs(one)) == 3, "it never knew of it"
    for store_ in (one, two):
        ingest_all(home, store_, live=False)
    restore(home, "late")
    ingest_all(home, one, live=False)
    move_to_trash(home, folder)
    ingest_all(home, two, live=False)
    restore(home, "late")
    ingest_all(home, one, live=False)
    assert queries.get_run(one, "late").step == 3, "forgotten by the other, and back"
    check(home, one)


def test_a_journal_on_a_device_of_another_number_is_not_read_again(home: Home) -> None:
    """As after each mount of a network's file system."""
    opened = open_store(home)
    run = queries.get_run(opened, "first").id
    with opened.transaction() as connection:
        connection.execute("UPDATE journals SET device = device + 1")
        connection.execute("UPDATE metrics SET loss = 77 WHERE run = ? AND step = 1", (run,))
    opened.close()
    opened = open_store(home)
    journal = Journal(RunFolder(home.runs / run).journal)
    journal.append("warning", message="one more")
    ingest_all(home, opened, live=False)
    assert opened.query("SELECT loss FROM metrics WHERE run = ? AND step = 1", (run,)) == [(77.0,)]
    assert queries.events(opened, run)[-1]["text"] == "one more"


@pytest.mark.parametrize(
    "end",
    [
        {"type": "state", "state": "running", "phase": "saving"},
        {"type": "state", "state": "finished", "steps": 5},
        {"type": "exit", "exit_code": None, "signal": None},
        {"type": "warning", "message": "still here"},
    ],
)
def test_of_a_run_that_was_not_lost_after_all_no_verdict_stays(
    end: dict[str, Any], home: Home
) -> None:
    """A viewer saw nobody hold it: on another machine, say, or between two supervisors."""
    folder = runs.write_run(home, "late", steps=5, end=None)
    opened = open_store(home)
    ingest_all(home, opened)
    assert queries.get_run(opened, "late").state == "lost"
    Journal(folder.journal).append(**end)
    assert folder.id in ingest_all(home, opened, live=False)
    with read_anew(home) as anew:
        assert queries.get_run(opened, "late") == queries.get_run(anew, "late")
    check(home, opened)
