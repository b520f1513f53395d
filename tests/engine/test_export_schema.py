"""``runs.db`` as others see it: documented whole, and open to their tools as it is."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
import sqlite_utils

from engine import cli
from engine.history import described, schema
from engine.history.store import MIGRATIONS
from tests.engine import exporting
from tests.engine.fakes import runs

PAGE = Path(schema.__file__).with_name("SCHEMA.md")


def test_the_page_is_up_to_date() -> None:
    """Otherwise: ``tunebench runs schema > engine/history/SCHEMA.md``."""
    assert PAGE.read_text(encoding="utf-8") == schema.page()


def test_every_table_and_column_has_words_and_no_other() -> None:
    found = {relation.name: relation for relation in schema.relations()}
    assert {*found} == {*described.WORDS}
    assert {*found} == {name for names in described.GROUPS.values() for name in names}
    for name, (words, columns) in described.WORDS.items():
        assert words and all(columns.values())
        assert [column.name for column in found[name].columns] == [*columns], name


def test_a_database_of_a_home_has_what_the_page_says(tmp_path: Path) -> None:
    store = exporting.opened(exporting.hostile_home(tmp_path))
    there = store.query(
        "SELECT name FROM pragma_table_list WHERE type != 'shadow' AND name NOT LIKE 'sqlite_%' "
        "AND schema = 'main'"
    )
    assert {name for (name,) in there} == {relation.name for relation in schema.relations()}


def test_printed_and_as_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", "schema"]) == 0
    assert capfd.readouterr().out == PAGE.read_text(encoding="utf-8")
    assert cli.main(["runs", "schema", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert tuple(document["migrations"]) == MIGRATIONS
    [runs] = [one for one in document["relations"] if one["name"] == "runs"]
    assert {key: runs["columns"][0][key] for key in ("name", "type", "key")} == {
        "name": "id",
        "type": "TEXT",
        "key": 1,
    }


def test_sqlite_utils_opens_it_as_it_is(tmp_path: Path) -> None:
    home = exporting.hostile_home(tmp_path)
    exporting.opened(home).close()
    with sqlite3.connect(f"file:{home.database}?mode=ro", uri=True) as connection:
        db = sqlite_utils.Database(connection)
        assert [row["name"] for row in db["runs"].rows_where(order_by="created")] == [
            *exporting.NAMES
        ]
        assert {*db.view_names()} == {"run_summary", "run_settings", "sweep_summary"}
        assert db["texts"].detect_fts() == "texts_fts"
        found = [row["text"] for row in db["texts"].search("drop", where="kind = 'note'")]
        assert found == [exporting.SQL]
        summary = {row["id"]: row for row in db["run_summary"].rows}
        assert summary["20251122-000001-run"]["starred"] == 1
        [rate] = db.query(
            "SELECT value FROM run_settings WHERE run = ? AND key = 'train.learning_rate'",
            ["20251122-000001-run"],
        )
        assert rate == {"value": 2e-4}
        assert db["metrics"].count == 3 * exporting.STEPS


def test_the_examples_of_the_page_do_what_they_are_there_for(tmp_path: Path) -> None:
    home = exporting.hostile_home(tmp_path)
    runs.write_run(home, "begun", steps=0, end=None)
    exporting.opened(home).close()
    starred, best = re.findall(r'"(SELECT [^"]*)"', PAGE.read_text(encoding="utf-8"))
    with sqlite3.connect(f"file:{home.database}?mode=ro", uri=True) as connection:
        assert len(connection.execute(starred).fetchall()) == 1
        found = connection.execute(best).fetchall()
        [(without,)] = connection.execute(
            "SELECT count(*) FROM runs WHERE best_eval_loss IS NULL"
        ).fetchall()
    losses = [loss for _, loss in found]
    assert without >= 1 and len(found) == 3 and losses == sorted(losses)
