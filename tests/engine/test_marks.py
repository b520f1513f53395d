"""Names, stars, runs put away, the full-text search: all of it survives a lost runs.db."""

import json
import sqlite3
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.history import marks, queries, texts
from engine.history.ingest import ingest_all, reindex
from engine.history.notes import add_note
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs.find import find_run
from engine.jobs.journal import Journal
from tests.engine.fakes import runs

HOSTILE = "=cmd|' /C calc'!A0 \x1b[31m <script> '; DROP TABLE runs; -- \ud800 NEAR(a OR"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path)


def opened(home: Home) -> Store:
    store = open_store(home)
    ingest_all(home, store, live=False)
    return store


@pytest.mark.parametrize("first", ["run", "rename"])
def test_a_new_name_holds_whatever_is_read_first(home: Home, first: str) -> None:
    folder = runs.write_run(home, "one", steps=3)
    if first == "run":
        opened(home).close()
    marks.rename_run(home, folder.id, "better")
    store = opened(home)
    assert queries.get_run(store, "better").id == folder.id
    assert find_run(home, "better").id == folder.id, "also without runs.db"
    assert texts.search(store, "better") == {folder.id} and not texts.search(store, "one")
    identity = folder.read_identity()
    identity["name"] = "one"  # killed before run.json was written
    folder.identity.write_text(json.dumps(identity))
    reindex(home, store)
    assert queries.get_run(store, "better").id == folder.id


def test_names_that_are_taken_or_none_are_refused(home: Home) -> None:
    one, two = (runs.write_run(home, name, steps=1) for name in ("one", "two"))
    for name, words in (("two", "taken"), (two.id, "taken"), ("../x", "letters"), ("", "letters")):
        with pytest.raises(UserError, match=words):
            marks.rename_run(home, one.id, name)
    marks.rename_run(home, one.id, "one")  # its own
    with pytest.raises(UserError, match="no such run"):
        marks.rename_run(home, "20200101-000000-abcd", "three")
    assert find_run(home, "one").id == one.id and not list(one.path.glob(".run-*"))


def test_stars_and_what_was_put_away_survive_a_lost_database(home: Home) -> None:
    one, two = (runs.write_run(home, name, steps=1) for name in ("one", "two"))
    marks.star(home, one.id)
    marks.star(home, two.id)
    marks.star(home, two.id, on=False)
    marks.archive(home, two.id)
    for _ in range(2):
        store = opened(home)
        assert queries.starred(store) == {one.id} and queries.archived(store) == {two.id}
        [(starred, away)] = store.query(
            "SELECT starred, archived FROM run_summary WHERE id = ?", (one.id,)
        )
        assert (starred, away) == (1, 0)
        store.close()
        home.database.unlink()


def test_recipes_are_kept_flat(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=1)
    store = opened(home)
    settings = queries.settings_of(store)[folder.id]
    assert settings == json.loads(json.dumps(folder.read_recipe().flat()))
    assert queries.settings_of(store, [folder.id]) == {folder.id: settings}
    sql = "SELECT value FROM run_settings WHERE run = ? AND key = 'train.learning_rate'"
    assert store.query(sql, (folder.id,)) == [(settings["train.learning_rate"],)]


def test_the_search_finds_names_notes_prompts_errors_and_bad_logs(home: Home) -> None:
    one = runs.write_run(home, "one", steps=2, end=None)
    journal = Journal(one.journal)
    for step in (1, 2):
        journal.append("sample", step=step, prompt="Oak bench, Étagère", text="unsaid")
    journal.append("error", message="CUDA out of memory at 79 GiB", kind="out_of_memory")
    journal.append("state", state="failed", reason="out of memory")
    one.log.write_text("step 1\nthe last gasp of libfoo\n")
    add_note(home, one.id, f"try a smaller batch {HOSTILE}")
    store = opened(home)
    for words in ("one", "smaller", "étagère", "ETAGERE", "oak ben", "memory 79", "gasp"):
        assert texts.search(store, words) == {one.id}, words
    assert texts.search(store, "smaller", ["prompt"]) == set()
    assert texts.search(store, "unsaid") == set(), "answers are not searched"
    assert texts.search(store, 'NEAR(a OR "') == {one.id}, "no word is an operator"
    with pytest.raises(UserError, match="write a word"):
        texts.search(store, " -*' ")
    prompts = store.query("SELECT count(*) FROM texts WHERE kind = 'prompt'")
    assert prompts == [(1,)], "a prompt answered twice is one"
    before = store.query("SELECT run, kind, part, text FROM texts ORDER BY 1, 2, 3")
    reindex(home, store)
    assert store.query("SELECT run, kind, part, text FROM texts ORDER BY 1, 2, 3") == before
    store.connection.execute("INSERT INTO texts_fts (texts_fts) VALUES ('integrity-check')")


def test_a_run_that_is_gone_takes_its_texts_along_but_no_note(home: Home) -> None:
    import shutil

    folder = runs.write_run(home, "one", steps=1)
    add_note(home, folder.id, "precious")
    store = opened(home)
    shutil.rmtree(folder.path)
    ingest_all(home, store, live=False)
    assert store.query("SELECT kind FROM texts") == [("note",)]
    assert queries.settings_of(store) == {}


def test_events_that_make_no_sense_are_counted(home: Home) -> None:
    from engine.history.notes import append_events

    bad: list[tuple[str, dict[str, object]]] = [
        ("rename", {"run": "x"}),
        ("star", {}),
        ("archive", {"run": ["x"]}),
        ("unstar", {"run": None}),
    ]
    append_events(home, bad)
    store = opened(home)
    assert store.query("SELECT unreadable FROM journals WHERE run = ''") == [(len(bad),)]
    with pytest.raises(sqlite3.IntegrityError):
        store.connection.execute("INSERT INTO stars (run, t) VALUES ('x', 1), ('x', 2)")


def test_deleted_runs_come_back_as_they_were(home: Home) -> None:
    from engine.jobs import trash

    folder = runs.write_run(home, "one", steps=2)
    add_note(home, folder.id, "precious")
    marks.star(home, folder.id)
    store = opened(home)
    before = store.query("SELECT * FROM run_summary")
    moved = trash.move_to_trash(home, folder)
    ingest_all(home, store, live=False)
    assert queries.list_runs(store) == [] and [one.id for one in trash.trashed(home)] == [moved.id]
    assert moved.bytes >= sum(f.stat().st_size for f in moved.path.rglob("*") if f.is_file())
    with pytest.raises(UserError, match="no run 'two'"):
        trash.restore(home, "two")
    other = runs.write_run(home, "one", steps=1)
    with pytest.raises(UserError, match="taken by"):
        trash.restore(home, "one")
    trash.delete_run(home, other)
    assert trash.restore(home, "one").id == folder.id
    ingest_all(home, store, live=False)
    assert store.query("SELECT * FROM run_summary") == before
    trash.move_to_trash(home, folder)
    assert trash.empty(home, []) == [] and len(trash.trashed(home)) == 1
    (home.trash / ".gone-x").mkdir()
    assert [one.id for one in trash.empty(home)] == [folder.id]
    assert list(home.trash.iterdir()) == [] and queries.starred(store) == {folder.id}


def test_the_commands(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    from engine.cli import main

    folder = runs.write_run(home, "one", steps=2)

    def say(*words: str, status: int = 0) -> dict[str, object]:
        assert main(["runs", *words, "--json", "--home", str(home.path)]) == status
        out = capsys.readouterr()
        found: dict[str, object] = json.loads(out.out) if not status else {"error": out.err}
        return found

    assert say("rename", "one", "first")["name"] == "first"
    assert "letters" in str(say("rename", "first", "a b", status=1)["error"])
    assert say("star", "first") == {"runs": [folder.id], "starred": True}
    assert say("archive", "first") == {"runs": [folder.id], "archived": True}
    assert say("archive", "--off", "first") == {"runs": [folder.id], "archived": False}
    assert "nobody to ask" in str(say("rm", "first", status=1)["error"])
    assert say("rm", "first", "--yes") == {"run": folder.id, "deleted": True, "purged": False}
    assert say("trash", "--days", "1")["runs"] == []
    assert say("trash")["bytes"] > 0  # type: ignore[operator]
    assert say("restore", "first") == {"run": folder.id, "restored": True}
    say("rm", "first", "--yes")
    assert "nobody to ask" in str(say("trash", "--empty", status=1)["error"])
    assert say("trash", "--empty", "--yes")["emptied"] is True
    assert say("trash")["runs"] == []
    assert "cannot be less" in str(say("trash", "--days", "-1", status=2)["error"])


@pytest.mark.parametrize("name", [".", "..", "---", "-x", "", "a/b", "n" * 65])
def test_no_run_is_named_like_a_folder_or_an_option(home: Home, name: str) -> None:
    folder = runs.write_run(home, "one", steps=1)
    with pytest.raises(UserError, match="name"):
        marks.rename_run(home, folder.id, name)
    assert folder.name == "one"


def test_nothing_takes_the_name_that_a_run_comes_back_with(home: Home) -> None:
    from engine.jobs import trash

    gone, other = runs.write_run(home, "gone", steps=1), runs.write_run(home, "other", steps=1)
    trash.move_to_trash(home, gone)
    with pytest.raises(UserError, match="id of a run in the trash"):
        marks.rename_run(home, other.id, gone.id)
    other.identity.write_text(json.dumps({**other.read_identity(), "sweep": {"id": "gone"}}))
    with pytest.raises(UserError, match="taken by"):
        trash.restore(home, "gone")


def test_a_sweep_that_was_deleted_whole_comes_back_whole(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.cli import main

    folders = [runs.write_run(home, f"tune-{number}", steps=1) for number in range(3)]
    for folder in folders:
        identity = {**folder.read_identity(), "sweep": {"id": "tune", "values": {}}}
        folder.identity.write_text(json.dumps(identity))
    to = ["--json", "--home", str(home.path)]
    assert main(["runs", "rm", "tune", "--yes", *to]) == 0
    taken = runs.write_run(home, "tune-1", steps=1)
    capsys.readouterr()
    assert main(["runs", "restore", "tune", *to]) == 1
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert found["runs"] == [folders[0].id, folders[2].id] and not found["restored"]
    assert f"taken by {taken.id}" in found["errors"][0] and found["errors"][0] in out.err
    marks.rename_run(home, taken.id, "another")
    assert main(["runs", "restore", "tune", *to]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [folders[1].id]


@pytest.mark.parametrize("words", [["rm", "--yes"], ["star"], ["show"], ["rename"], ["note"]])
def test_an_unset_variable_of_a_script_is_no_run(
    home: Home, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Once 'runs rm "$RUN" --yes' deleted the only run of a home."""
    from engine.cli import main

    folder = runs.write_run(home, "one", steps=1)
    more = ["x"] if words[0] in ("rename", "note") else []
    assert main(["runs", *words, "", *more, "--home", str(home.path)]) == 1
    assert "names no run" in capsys.readouterr().err
    with pytest.raises(UserError, match="names no run"):
        find_run(home, "")
    assert folder.path.is_dir() and folder.name == "one"
    assert main(["runs", "note", "one", "  ", "--home", str(home.path)]) == 2
