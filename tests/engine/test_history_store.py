"""runs.db is only an index: deleted, broken, locked or shared, nothing of a run is lost."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy
import pytest

from engine.errors import UserError
from engine.history import ingest as ingest_module
from engine.history import queries, store
from engine.history.datasets import ingest_datasets
from engine.history.follow import state_of
from engine.history.ingest import ingest, ingest_all, reindex
from engine.history.notes import add_note, add_tag, remove_tag
from engine.history.row import RunRow, fold, seconds
from engine.history.settings import read_settings
from engine.history.store import Store, open_store
from engine.history.tables import COLUMNS, HOME_TABLES, RUN_TABLES
from engine.home import Home, open_home
from engine.jobs.journal import Journal, whole
from tests.engine.fakes import runs

ROOT = Path(__file__).parents[2]
TABLES = ("runs", *RUN_TABLES, *HOME_TABLES, "datasets")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path)


def content(opened: Store) -> dict[str, list[tuple[Any, ...]]]:
    return {name: sorted(opened.query(f"SELECT * FROM {name}"), key=repr) for name in TABLES}


def test_ingest_takes_each_line_once(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=3, end=None)
    opened = open_store(home)
    assert ingest_all(home, opened, live=False) == {folder.id}
    assert ingest(home, opened, live=False) == set()
    journal = Journal(folder.journal)
    journal.append("metrics", step=4, loss=float("nan"), grad_norm=float("inf"))
    assert ingest(home, opened, live=False) == {folder.id}
    found = queries.series(opened, folder.id, ["loss", "grad_norm", "learning_rate"])
    assert found["loss"][0].tolist() == [1, 2, 3, 4]
    assert found["loss"][1].dtype == numpy.float64
    assert found["loss"][1].tolist()[:3] == [4.0, 2.0, 4.0 / 3] and numpy.isnan(found["loss"][1][3])
    assert numpy.isnan(found["grad_norm"][1]).tolist() == [True]
    assert found["learning_rate"][0].size == 0
    row = queries.get_run(opened, "one")
    assert row.loss != row.loss and row.grad_norm == float("inf") and row.step == 4


def test_a_pause_between_attempts_is_not_counted() -> None:
    row = RunRow(id="one")

    def tell(t: float, attempt: int, **fields: Any) -> None:
        fold(row, {"type": "state", "t": t, "attempt": attempt, **fields})

    tell(99, 1, state="queued")
    assert seconds(row, 110) is None
    tell(100, 1, state="starting")
    assert seconds(row, 110) == 10 and seconds(row) is None
    tell(130, 1, state="stopped")
    assert seconds(row, 500) == seconds(row) == 30
    tell(1000, 2, state="queued")
    assert seconds(row, 1005) == 30
    tell(1010, 2, state="starting")
    tell(1012, 2, state="running", max_steps=5)
    assert seconds(row, 1020) == 40
    # The second attempt vanished without an end: it counts up to its last word.
    tell(2000, 3, state="starting")
    assert seconds(row, 2004) == 36


def test_the_best_of_an_undone_step_is_forgotten(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=2, end=None)
    journal = Journal(folder.journal)
    for step, loss in ((1, 0.9), (2, 0.5)):
        journal.append("evaluation", step=step, split="validation", which="during", loss=loss)
    again = Journal(folder.journal, attempt=2)
    kept = {"best_eval_loss": 0.9, "best_step": 1}
    again.append("state", state="running", max_steps=2, resume_step=1, **kept)
    row = state_of(folder)
    assert (row.best_eval_loss, row.best_step) == (0.9, 1)


def test_a_torn_last_line_waits_and_unreadable_lines_are_counted(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=2, end=None)
    with folder.journal.open("ab") as file:
        file.write(b'not json\n{"v":1,"t":1,"type":"metrics","attempt":1,"step":3,"lo')
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    assert queries.get_run(opened, "one").step == 2
    with folder.journal.open("ab") as file:
        file.write(b'ss":0.5}\n')
    ingest_all(home, opened, live=False)
    assert queries.get_run(opened, "one").loss == 0.5
    sql = "SELECT unreadable, lines FROM journals WHERE run = ?"
    assert opened.query(sql, (folder.id,)) == [(1, 5)]


def test_a_journal_of_nonsense_does_not_stop_the_viewer(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=1, end=None)
    lines = (
        b'{"type":"metrics","attempt":1}',
        b'{"type":"metrics","attempt":"x","step":2,"loss":{"a":1}}',
        b'{"type":"metrics","attempt":1,"step":99999999999999999999,"loss":1}',
        b'{"type":"evaluation","attempt":1,"step":[],"loss":1}',
        b'{"type":"state","attempt":1,"state":{"a":[1]},"t":"soon"}',
        b'{"type":"memory","attempt":1,"peak_bytes":"lots","used_bytes":[]}',
        b'{"type":"state","attempt":1,"state":"running","max_steps":1e400,"versions":[1]}',
        b"[]",
    )
    with folder.journal.open("ab") as file:
        file.write(b"\n".join(lines) + b"\n")
    Journal(folder.journal).append("metrics", step=7, loss=0.25)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    row = queries.get_run(opened, "one")
    assert (row.step, row.loss) == (7, 0.25)


WRONG = {
    "a name in the place of a time": {"created": "yesterday"},
    "a time that no calendar has": {"created": 10**30},
    "objects": {"created": {"a": 1}, "parent": {"b": 2}, "recipe": [1], "sweep": {"values": 3}},
    "nothing that is JSON": "{",
    "nested deeper than any reader goes": "[" * 100_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_a_run_json_of_nonsense_hides_no_other_run(home: Home, what: str) -> None:
    """Once one such file made every list, and so the whole history, unreadable."""
    good, bad = runs.write_run(home, "good", 2), runs.write_run(home, "bad", 2)
    wrong = WRONG[what]
    identity = json.dumps({**bad.read_identity(), **wrong}) if isinstance(wrong, dict) else wrong
    bad.identity.write_text(identity)
    history = open_store(home)
    ingest_all(home, history)
    rows = {row.id: row for row in queries.list_runs(history)}
    assert rows.keys() == {good.id, bad.id} and rows[good.id].name == "good"
    row = rows[bad.id]
    assert row.state == "finished" and isinstance(row.created, float | None)
    assert row.sweep is None and isinstance(row.parent, str | None)


@pytest.mark.parametrize("value", ['"abc"', "{}", "[[1]]", "true", "1e300", "9{400}", "1e999"])
def test_values_of_another_kind_in_a_journal_stop_no_list(home: Home, value: str) -> None:
    folder = runs.write_run(home, "odd", 2, end=None)
    value = value.replace("9{400}", "9" * 400)
    keys = {
        "metrics": ("step", "loss", "epoch", "memory_bytes", "peak_memory_bytes", "t", "attempt"),
        "evaluation": ("step", "loss", "split", "t"),
        "checkpoint": ("step", "path", "bytes"),
        "memory": ("used_bytes", "peak_bytes"),
        "state": ("t", "max_steps", "state", "dataset", "train_rows", "best_eval_loss", "gpu"),
        "exit": ("exit_code", "signal", "t"),
    }
    with folder.journal.open("a") as file:
        for kind, names in keys.items():
            usual = {"v": 1, "t": 1.8e9, "type": kind, "attempt": 1, "step": 3, "path": "p"}
            for name in names:
                text = json.dumps({**usual, "state": "running", "max_steps": 4, name: "@"})
                file.write(text.replace('"@"', value) + "\n")
    history = open_store(home)
    ingest_all(home, history)
    [row] = queries.list_runs(history)
    for column in fields(RunRow):
        found = getattr(row, column.name)
        number = column.type in (float | None, int | None, int)
        assert found is None or isinstance(found, int | float if number else str), column.name
    assert time.localtime(row.last_event)
    assert all(isinstance(one["path"], str) for one in queries.checkpoints(history, row.id))


def test_a_recipe_nested_too_deep_hides_no_other_run(home: Home) -> None:
    good, bad = runs.write_run(home, "good", 2), runs.write_run(home, "bad", 2)
    bad.recipe_file.write_text("x = " + "[" * 100_000)
    history = open_store(home)
    ingest_all(home, history)
    assert {row.id for row in queries.list_runs(history)} == {good.id, bad.id}
    with pytest.raises(UserError, match="not valid TOML"):
        bad.read_recipe()
    assert state_of(bad).state == "finished"
    with pytest.raises(UserError, match=r"lora\.r"):
        good.read_recipe().with_settings(["lora.r=" + "[" * 100_000])


def test_a_recipe_with_nan_in_it_hides_no_other_run(home: Home) -> None:
    """TOML can write it, JSON cannot: the index keeps what every reader of JSON takes."""
    folder = runs.write_run(home, "odd", 2)
    with folder.recipe_file.open("a") as file:
        file.write("\n[extra]\none = nan\nmany = [inf, {a = -inf}]\n")
    history = open_store(home)
    ingest_all(home, history)
    settings = read_settings(history)
    assert settings.get(folder.id, "extra.one") == "NaN"
    assert settings.get(folder.id, "extra.many") == ["Infinity", {"a": "-Infinity"}]
    assert history.query("SELECT json_valid(settings) FROM recipes") == [(1,)]


def test_the_latest_attempt_counts_per_step(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=9, end=None)
    journal = Journal(folder.journal, attempt=2)
    journal.append("state", state="queued")
    journal.append("state", state="running", max_steps=12, resume_step=5)
    journal.append("metrics", step=6, loss=0.125)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    steps, losses = queries.series(opened, folder.id, ["loss"])["loss"]
    assert steps.tolist() == [1, 2, 3, 4, 5, 6] and losses[-1] == 0.125
    row = queries.get_run(opened, "one")
    assert (row.attempt, row.step, row.resume_step, row.state) == (2, 6, 5, "running")


def test_the_best_loss_is_the_trainers_own(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=2, end=None)
    journal = Journal(folder.journal)
    validation = {"split": "validation", "rows": 1, "tokens": 1}
    journal.append("evaluation", step=2, which="during", loss=0.5, **validation)
    journal.append("evaluation", step=3, which="asked", loss=0.1, **validation)
    journal.append("evaluation", step=4, which="during", loss=float("nan"), **validation)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    row = queries.get_run(opened, "one")
    assert (row.best_eval_loss, row.best_step) == (0.5, 2)
    journal.append("state", state="finished", steps=4, eval_loss=0.4)
    ingest_all(home, opened, live=False)
    assert queries.get_run(opened, "one").best_eval_loss == 0.4


def test_a_replaced_journal_is_read_from_its_beginning(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=9)
    opened = open_store(home)
    ingest_all(home, opened)
    inode = folder.journal.stat().st_ino
    other = runs.write_run(home, "two", steps=30)
    folder.journal.write_bytes(other.journal.read_bytes())  # the same inode, longer
    assert folder.journal.stat().st_ino == inode
    assert folder.id in ingest_all(home, opened)
    assert queries.series(opened, folder.id, ["loss"])["loss"][0].size == 30
    os.replace(other.journal, folder.journal)
    ingest_all(home, opened)
    assert queries.get_run(opened, folder.id).step == 30


def test_a_deleted_journal_leaves_a_lost_run_and_a_deleted_run_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "GRACE_SECONDS", 0.0)
    folder = runs.write_run(home, "one", steps=9)
    opened = open_store(home)
    ingest_all(home, opened)
    folder.journal.unlink()
    assert folder.id in ingest_all(home, opened)
    row = queries.get_run(opened, "one")
    assert (row.state, row.step) == ("lost", None)
    for path in folder.path.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    folder.path.rmdir()
    assert ingest_all(home, opened) == {folder.id}
    assert queries.list_runs(opened) == []
    assert all(not rows for name, rows in content(opened).items() if name != "datasets")


def test_a_run_that_nobody_holds_is_lost(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=9, end=None)
    opened, other = open_store(home), open_store(home)
    ingest_all(home, other, live=False)
    assert queries.get_run(other, "one").state == "running"
    assert ingest_all(home, opened) == {folder.id}
    row = queries.get_run(opened, "one")
    assert (row.state, row.ended) == ("lost", row.last_event)
    assert ingest(home, other, live=False) == {folder.id}  # what the first viewer found
    Journal(folder.journal).append("metrics", step=10, loss=1.0)  # it was not so after all
    ingest(home, opened, live=False)
    assert queries.get_run(opened, "one").state == "running"


def test_ingest_is_bounded_and_says_that_there_is_more(home: Home) -> None:
    folder = runs.write_run(home, "big", steps=30_000)
    runs.write_run(home, "small", steps=3)
    opened = open_store(home)
    ingest(home, opened, limit_lines=10_000)
    assert opened.more
    assert 0 < queries.series(opened, folder.id, ["loss"])["loss"][0].size < 30_000
    calls = 0
    while opened.more:
        ingest(home, opened, limit_lines=10_000)
        calls += 1
    assert 1 <= calls <= 4
    assert queries.get_run(opened, "big").step == 30_000
    assert queries.get_run(opened, "small").state == "finished"


def test_reindex_equals_what_was_ingested_line_by_line(home: Home) -> None:
    for number in range(3):
        runs.write_run(home, f"run-{number}", steps=20)
    opened = open_store(home)
    ingest_all(home, opened)
    first = queries.get_run(opened, "run-0").id
    journal = Journal(home.runs / first / "events.jsonl", attempt=2)
    for step in range(5, 9):
        journal.append("metrics", step=step, loss=9.0)
        ingest_all(home, opened, live=False)
    journal.append("exit", exit_code=1, signal=None)
    add_note(home, first, "a note")
    add_tag(home, first, "good")
    add_tag(home, first, "bad")
    remove_tag(home, first, "bad")
    ingest_all(home, opened)
    before = content(opened)
    assert reindex(home, opened) == 3
    assert content(opened) == before
    assert [note["text"] for note in queries.notes(opened, first)] == ["a note"]
    assert queries.tags(opened, first) == ["good"]


def test_deleting_runs_db_loses_nothing_also_under_an_open_viewer(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=20)
    add_note(home, folder.id, "a note")
    opened = open_store(home)
    ingest_all(home, opened)
    before = content(opened)
    for path in home.path.glob("runs.db*"):
        path.unlink()
    assert ingest_all(home, opened) == {folder.id, ""}
    assert content(opened) == before
    opened.close()
    home.database.unlink()  # and only the file itself, with another's log left behind
    opened = open_store(home)
    ingest_all(home, opened)
    assert content(opened) == before


@pytest.mark.parametrize("damage", ["text", "zeros", "middle", "truncated"])
def test_a_broken_runs_db_is_moved_aside_and_rebuilt(home: Home, damage: str) -> None:
    for number in range(5):
        runs.write_run(home, f"run-{number}", steps=500)
    opened = open_store(home)
    ingest_all(home, opened)
    before = content(opened)
    opened.close()
    data = home.database.read_bytes()
    broken = {
        "text": b"this is no database\n" * 1000,
        "zeros": bytes(len(data)),
        "middle": data[:8192] + b"\xa5" * (len(data) - 16384) + data[-8192:],
        "truncated": data[: len(data) // 2],
    }[damage]
    home.database.write_bytes(broken)
    opened = open_store(home)
    ingest_all(home, opened)
    assert len(queries.list_runs(opened)) == 5
    assert content(opened) == before
    assert len(opened.warnings) == 1 and "rebuilt from the journals" in opened.warnings[0]
    assert len(list(home.path.glob("runs.db.broken-*"))) >= 1


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_runs_db_emptied_under_an_open_viewer_locks_nobody_out(home: Home, left: int) -> None:
    """Once every command waited ten seconds for it, for as long as the workbench was open."""
    folder = runs.write_run(home, "one", 3)
    viewer = open_store(home)
    ingest_all(home, viewer)
    os.truncate(home.database, left)
    ingest_all(home, viewer)
    assert [row.id for row in queries.list_runs(viewer)] == [folder.id]
    script = (
        "import sys; from pathlib import Path; from engine.home import open_home\n"
        "from engine.history.store import open_store\n"
        "store = open_store(open_home(Path(sys.argv[1])), 0.5)\n"
        "print(store.in_memory, store.query('SELECT count(*) FROM runs'))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(home.path)], capture_output=True, text=True, check=True
    )
    assert told.stdout.split("\n")[0] == "False [(1,)]"


def test_a_locked_runs_db_is_read_but_not_written(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=5, end=None)
    opened = open_store(home, busy_seconds=0.05)
    ingest_all(home, opened, live=False)
    other = sqlite3.connect(home.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    Journal(folder.journal).append("metrics", step=6, loss=1.0)
    assert ingest(home, opened, live=False) == set() and opened.more
    assert queries.get_run(opened, "one").step == 5
    other.execute("ROLLBACK")
    assert ingest(home, opened, live=False) == {folder.id}
    assert queries.get_run(opened, "one").step == 6


def test_a_newer_schema_is_refused(home: Home) -> None:
    open_store(home).close()
    with sqlite3.connect(home.database) as connection:
        sql = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, '')"
        connection.execute(sql, ("tunebench", "m999_future"))
    with pytest.raises(UserError, match=r"newer tunebench.*m999_future"):
        open_store(home)


def test_a_database_of_before_the_estimate_keeps_its_runs_and_gets_the_column(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=5, end=None)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    opened.close()
    with sqlite3.connect(home.database) as old:
        old.execute("ALTER TABLE runs DROP COLUMN estimated_peak_bytes")
        old.execute("DELETE FROM _sqlite_migrations WHERE name = 'm006_estimated_memory'")
    old.close()
    opened = open_store(home)
    row = queries.get_run(opened, "one")
    assert row.step == 5 and row.estimated_peak_bytes is None
    journal = Journal(folder.journal, 2)
    journal.append("state", state="starting", phase="starting")
    journal.append("state", state="running", max_steps=9, estimated_peak_bytes=17_000_000_000)
    ingest_all(home, opened, live=False)
    assert queries.get_run(opened, "one").estimated_peak_bytes == 17_000_000_000


def test_migrations_and_the_quick_list_of_them_agree(home: Home) -> None:
    from engine.history.migrations import migrations

    assert tuple(migration.name for migration in migrations._migrations) == store.MIGRATIONS
    opened = open_store(home)
    columns = [row[1] for row in opened.query("PRAGMA table_info(runs)")]
    assert tuple(columns) == COLUMNS
    assert [row[2] for row in opened.query("PRAGMA table_info(runs)") if row[1] == "loss"] in (
        ["FLOAT"],
        ["REAL"],
    )
    assert RunRow(id="x").state == "queued"


def test_two_viewers_that_ingest_at_once_double_and_lose_nothing(home: Home) -> None:
    """Both open, migrate and ingest while journals grow; the sum is what one alone sees."""
    folders = [runs.write_run(home, f"run-{number}", steps=50, end=None) for number in range(6)]
    script = (
        "import sys\n"
        "from engine.home import open_home\n"
        "from engine.history.store import open_store\n"
        "from engine.history.ingest import ingest\n"
        "home = open_home(sys.argv[1])\n"
        "store = open_store(home)\n"
        "print('open', flush=True)\n"
        "while not (home.path / 'done').exists():\n"
        "    ingest(home, store, live=False)\n"
        "while ingest(home, store, live=False) or store.more:\n"
        "    pass\n"
    )
    viewers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(home.path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for viewer in viewers:
        assert viewer.stdout is not None and viewer.stdout.readline() == b"open\n"

    def grow(index: int) -> None:
        journal = Journal(folders[index].journal)
        for step in range(51, 301):
            journal.append("metrics", step=step, loss=1.0)
            if step % 50 == 0:
                journal.append("warning", message=f"at {step}")

    threads = [threading.Thread(target=grow, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (home.path / "done").touch()
    for viewer in viewers:
        assert viewer.wait(30) == 0
    opened = open_store(home)
    assert ingest(home, opened, live=False) == set()
    for folder in folders:
        assert queries.series(opened, folder.id, ["loss"])["loss"][0].size == 300
        texts = [event["text"] for event in queries.events(opened, folder.id)]
        assert texts[2:] == [f"at {step}" for step in range(100, 301, 50)]
        assert texts[:2] == ["queued", "running"]


def test_a_viewer_imports_neither_pandas_nor_sqlite_utils_once_the_schema_is_there(
    home: Home,
) -> None:
    open_store(home).close()
    script = (
        "import sys\n"
        "from engine.home import open_home\n"
        "from engine.history.store import open_store\n"
        "from engine.history.ingest import ingest\n"
        "from engine.history.queries import list_runs\n"
        "home = open_home(sys.argv[1])\n"
        "store = open_store(home)\n"
        "ingest(home, store), list_runs(store)\n"
        "heavy = {'pandas', 'sqlite_utils', 'pyarrow', 'torch', 'numpy', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script, str(home.path)]
    assert subprocess.check_output(command, cwd=ROOT) == b"[]\n"
    for path in home.path.glob("runs.db*"):
        path.unlink()
    output = subprocess.check_output(command, cwd=ROOT).decode()  # this time it migrates
    assert "sqlite_utils" in output and "pandas" not in output


def test_nothing_new_in_200_runs_costs_next_to_nothing(home: Home) -> None:
    for number in range(200):
        runs.write_run(home, f"run-{number}", steps=2)
    opened = open_store(home)
    began = time.perf_counter()
    ingest_all(home, opened)
    whole = time.perf_counter() - began
    times = []
    for _ in range(20):
        began = time.perf_counter()
        assert ingest(home, opened) == set()
        times.append(time.perf_counter() - began)
    opened.close()
    began = time.perf_counter()
    opened = open_store(home)
    ingest(home, opened)
    assert len(queries.list_runs(opened)) == 200
    again = time.perf_counter() - began
    print(
        f"200 runs: first {whole * 1e3:.1f} ms, nothing new {min(times) * 1e3:.2f} ms, "
        f"opened again with the list {again * 1e3:.1f} ms"
    )
    assert min(times) < 0.1


def test_a_phase_told_while_running_neither_begins_anew_nor_undoes_steps(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=9, end=None)
    journal = Journal(folder.journal, attempt=2)
    journal.append("state", state="running", max_steps=9, resume_step=8)
    journal.append("metrics", step=9, loss=1.0)
    journal.append("state", state="running", phase="saving the adapter", resume_step=9)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    row = queries.get_run(opened, "one")
    assert (row.step, row.max_steps, row.phase) == (9, 9, "saving the adapter")
    assert row.resume_step == 8
    assert queries.series(opened, folder.id, ["loss"])["loss"][0].size == 9


def test_a_full_disk_leaves_the_history_readable(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=2000)
    opened = open_store(home)
    opened.connection.execute("PRAGMA max_page_count = 40")  # as if the disk had no more room
    ingest_all(home, opened)
    assert queries.get_run(opened, "one").step == 2000
    assert queries.series(opened, folder.id, ["loss"])["loss"][0].size == 2000
    assert "read into memory" in opened.warnings[0]
    assert ingest(home, opened) == set()


def test_a_runs_db_that_cannot_be_opened_leaves_the_history_readable(home: Home) -> None:
    runs.write_run(home, "one", steps=20)
    home.database.mkdir()
    opened = open_store(home)
    ingest_all(home, opened)
    assert queries.get_run(opened, "one").step == 20 and len(opened.warnings) == 1


def test_a_rebuilding_that_cannot_be_written_is_no_success(home: Home) -> None:
    runs.write_run(home, "one", steps=20)
    opened = open_store(home, busy_seconds=0.05)
    ingest_all(home, opened)
    other = sqlite3.connect(home.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match=r"runs\.db: cannot be rebuilt \(database is locked"):
        reindex(home, opened)
    other.execute("ROLLBACK")
    assert reindex(home, opened) == 1
    opened.go_on_in_memory("readonly")
    with pytest.raises(UserError, match=r"runs\.db: cannot be written"):
        reindex(home, opened)


def write_manifest(home: Home, name: str, values: dict[str, object] | None = None) -> Path:
    report = {name: 1 for name in ("rows_read", "rows_kept", "train", "validation", "test")}
    manifest = {"fingerprint": "f00d", "name": name, "created": 1.0, "source": {}, "clean": {}}
    path = home.datasets / name / "dataset.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest | {"report": report | {"seconds": 1.0}} | (values or {})))
    return path


def dataset_lines(store: Store) -> list[tuple[object, ...]]:
    return store.query("SELECT name, path IS NOT NULL FROM datasets ORDER BY name")


def test_two_datasets_of_one_fingerprint_are_written_down_once(home: Home) -> None:
    write_manifest(home, "one")
    two = write_manifest(home, "two")
    opened = open_store(home)
    assert ingest_datasets(home, opened)
    assert not ingest_datasets(home, opened), "they took the line from each other for ever"
    assert dataset_lines(opened) == [("two", 1)]
    two.unlink()
    assert ingest_datasets(home, opened)
    assert dataset_lines(opened) == [("one", 1)]
    assert not ingest_datasets(home, opened)
    ingest_all(home, opened)
    assert dataset_lines(opened) == [("one", 1)]


@pytest.mark.parametrize(
    "damage",
    [{"fingerprint": ["x"]}, {"fingerprint": None}, {"name": {}}, {"created": 10**400}, "["],
)
def test_a_damaged_manifest_stops_nobody(home: Home, damage: dict[str, object] | str) -> None:
    write_manifest(home, "one")
    if isinstance(damage, str):
        write_manifest(home, "two").write_text(damage * 100_000)
    else:
        write_manifest(home, "two", {"fingerprint": "bad"} | damage)
    opened = open_store(home)
    assert ingest_datasets(home, opened)
    assert dataset_lines(opened) == [("one", 1)]
    assert not ingest_datasets(home, opened), "looked at once"


USUAL = {
    "v": 1, "t": 5.0, "type": "metrics", "attempt": 1, "step": 1, "epoch": 0.1, "loss": 2.5,
    "learning_rate": 1e-4, "grad_norm": 1.5, "step_seconds": 0.5, "tokens": 100,
    "tokens_per_second": 200.0, "mean_token_accuracy": None, "memory_bytes": 7,
    "peak_memory_bytes": 9,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, {"loss": 2.5, "tokens": 100, "mean_token_accuracy": None, "extra": None}),
        ({"rewards": 0.5}, {"loss": 2.5, "extra": '{"rewards": 0.5}'}),
        ({"loss": [1, 2]}, {"loss": "[1, 2]", "grad_norm": 1.5}),
        ({"loss": "NaN", "grad_norm": "-Infinity"}, {"loss": "NaN", "grad_norm": "-Infinity"}),
        ({"tokens": 2**64 - 1, "loss": 0.5}, {"tokens": float(2**64 - 1), "loss": 0.5}),
        ({"tokens": 2**70}, {"tokens": float(2**70)}),
        ({"memory_bytes": True}, {"memory_bytes": 1}),
        ({"t": {"a": 1}}, {"t": '{"a": 1}', "loss": 2.5}),
        ({"attempt": None}, {"attempt": 1}),
    ],
)
def test_a_line_of_any_kind_is_stored_as_it_says(
    home: Home, changed: dict[str, Any], found: dict[str, Any]
) -> None:
    folder = runs.write_run(home, "one", steps=0, end=None)
    lines = [{**USUAL, **changed}, {**USUAL, "step": 2}]
    with folder.journal.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    names = ", ".join(found)
    assert opened.query(f"SELECT {names} FROM metrics ORDER BY step")[0] == tuple(found.values())
    assert opened.query("SELECT count(*) FROM metrics") == [(2,)]


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"metrics","step":1,"loss":NaN,"grad_norm":-Infinity,"tokens":1e400}',
        b'{"type":"metrics","step":1,"loss":"NaN","grad_norm":"-Infinity","tokens":"Infinity"}',
    ],
)
def test_numbers_that_json_has_not_are_read_as_the_journal_writes_them(line: bytes) -> None:
    event = whole(line)
    assert (event["loss"], event["grad_norm"], event["tokens"]) == ("NaN", "-Infinity", "Infinity")


def test_of_lone_surrogates_a_question_mark_stays() -> None:
    assert whole(b'{"a":"x\\ud800y","b":"\\ud83d\\ude00"}') == {"a": "x?y", "b": "\U0001f600"}
    assert whole(b'"\xed\xa0\x80"') == "?"


def test_the_peak_of_all_lines_and_the_last_of_the_latest_attempt_tell_the_run(home: Home) -> None:
    folder = runs.write_run(home, "one", steps=0, end=None)
    told = [(1, 1, 50, 3.0), (1, 2, 90, 2.0), (2, 2, 40, 1.5), (1, 3, 95, 9.0), (2, 3, "x", 1.0)]
    with folder.journal.open("a") as file:
        for attempt, step, peak, loss in told:
            line = {"attempt": attempt, "step": step, "peak_memory_bytes": peak, "loss": loss}
            file.write(json.dumps({**USUAL, **line}) + "\n")
    opened = open_store(home)
    ingest_all(home, opened, live=False)
    row = queries.get_run(opened, "one")
    assert (row.attempt, row.step, row.loss, row.peak_memory_bytes) == (2, 3, 1.0, 90)
    losses = queries.series(opened, folder.id, ["loss"])["loss"][1]
    assert losses.tolist() == [3.0, 1.5, 1.0]
