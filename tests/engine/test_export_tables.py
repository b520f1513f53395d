"""The history as CSV, JSON and Parquet: the same values in each, and no spreadsheet runs them."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import cli
from engine.cells import guarded, unguarded
from engine.errors import UserError
from engine.export.table_files import write_csv
from engine.export.tables import WHATS, Column, Table
from engine.export.written import written
from engine.history.notes import add_note
from engine.home import Home, open_home
from engine.text import safe
from tests.engine import exporting
from tests.engine.fakes import runs

ROOT = Path(__file__).parents[2]
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = exporting.hostile_home(tmp_path_factory.mktemp("exports"))
    exporting.opened(home).close()
    return home


def export(home: Home, *words: str) -> int:
    return cli.main(["runs", "export", *words, "--home", str(home.path)])


def columns_of(path: Path) -> dict[str, list[Any]]:
    """The rows of a JSON export by column."""
    rows = json.loads(path.read_text())
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("what", WHATS)
def test_all_formats_hold_the_same(home: Home, tmp_path: Path, what: str) -> None:
    for ending in ("csv", "json", "parquet"):
        assert export(home, "--to", str(tmp_path / f"out.{ending}"), "--what", what) == 0
    expected = columns_of(tmp_path / "out.json")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names == [*expected]
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == [guarded(name) for name in expected]
    for place, (name, values) in enumerate(expected.items()):
        kind = str(table.schema.field(name).type)
        cells = [row[place] for row in rows]
        column = table.column(name).to_pylist()
        for value, cell, typed in zip(values, cells, column, strict=True):
            assert from_csv(cell, value) == value, (name, cell)
            assert from_parquet(typed, kind, value) == value, (name, typed)
        assert not [cell for cell in cells if cell.startswith(RISKY) and not is_number(cell)], name


def from_csv(cell: str, like: Any) -> Any:
    """A cell as the JSON export has it."""
    if cell == "":
        return like if like in (None, "") else cell
    if isinstance(like, bool):
        return {"true": True, "false": False}[cell]
    if isinstance(like, int | float):
        return type(like)(cell)
    return json.loads(unguarded(cell)) if isinstance(like, list | dict) else unguarded(cell)


def from_parquet(value: Any, kind: str, like: Any) -> Any:
    if kind == "double" and isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return json.loads(value) if isinstance(like, dict) and kind == "string" else value


def is_number(cell: str) -> bool:
    try:
        float(cell)
        return True
    except ValueError:
        return False


def test_a_row_a_run_has_recipe_marks_tags_and_versions(home: Home, tmp_path: Path) -> None:
    export(home, "--to", str(tmp_path / "runs.json"))
    rows = {row["id"]: row for row in json.loads((tmp_path / "runs.json").read_text())}
    first, second, third = (rows[f"20251122-00000{number}-run"] for number in range(3))
    assert first["name"] == exporting.TRAVERSAL and second["name"] == exporting.FORMULA
    assert first["tags"] == sorted(["keep", "=1+1", "@x", "<b>bold</b>", "../up"])
    assert first["notes"] == list(exporting.HOSTILE)
    assert (first["starred"], second["starred"], third["archived"]) == (False, True, True)
    assert [first["train.learning_rate"], second["train.learning_rate"]] == [1e-4, 2e-4]
    assert first["lora.r"] == 16 and third["lora.r"] is None
    assert first["versions.torch"] == exporting.FORMULA
    types = pq_types(home, tmp_path)
    assert types["train.learning_rate"] == "double" and types["lora.r"] == "int64"
    assert types["starred"] == types["train.packing"] == "bool"
    assert types["tags"].startswith("list") and types["best_eval_loss"] == "double"


def pq_types(home: Home, tmp_path: Path) -> dict[str, str]:
    export(home, "--to", str(tmp_path / "runs.parquet"))
    schema = pq.read_schema(tmp_path / "runs.parquet")
    return {field.name: str(field.type) for field in schema}


def test_measured_values_carry_their_intervals(home: Home, tmp_path: Path) -> None:
    export(home, "--to", str(tmp_path / "e.json"), "--what", "evaluations")
    rows = json.loads((tmp_path / "e.json").read_text())
    [bleu] = [r for r in rows if r["metric"] == "bleu" and r["which"] == exporting.BREAKOUT]
    assert (bleu["kind"], bleu["value"], bleu["low"], bleu["high"]) == ("answers", 9.0, 8.0, 10.0)
    after = [r for r in rows if r["which"] == "after" and r["metric"] == "loss"]
    assert len(after) == 3 and all(r["low"] is None and r["split"] == "test" for r in after)


def test_named_runs_only_and_each_once(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    ref = "20251122-000001-run"
    assert export(home, ref, exporting.FORMULA, "--to", "-", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert [row["id"] for row in rows] == [ref]


@pytest.mark.parametrize(
    "words, told, status",
    [
        (["--to", "a.xlsx"], "--to a.xlsx: the format is not known by the name", 2),
        (["--to", "-"], "say --format", 2),
        (["--to", "-", "--format", "csv", "--json"], "leave --json out", 2),
        (["--to", "a.html", "--what", "metrics"], "a report (html) has no rows", 2),
        (["--to", "a.html"], "name the runs", 2),
        (["--to", "nowhere/a.csv"], "there is no folder", 1),
        (["--to", "here.csv"], "is there already; name another file, or add --force", 1),
        (["--to", "link.csv", "--force"], "no ordinary file", 1),
        (["--to", "folder.csv", "--force"], "no ordinary file", 1),
        (["no-such-run", "--to", "a.csv"], "no run 'no-such-run'", 1),
        ([exporting.SQL, "--to", "a.csv"], "no run", 1),
        ([f"{exporting.TRAVERSAL}/x", "--to", "a.html"], "no run", 1),
    ],
)
def test_what_cannot_be_is_said(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], words: list[str], told: str, status: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("here.csv").write_text("mine")
    Path("link.csv").symlink_to("here.csv")
    Path("folder.csv").mkdir()
    assert export(home, *words) == status
    said = capfd.readouterr()
    assert told in said.err and not said.out
    assert Path("here.csv").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"here.csv", "link.csv", "folder.csv"}


def test_written_over_only_when_told_to(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mine")
    assert export(home, "--to", str(path), "--force") == 0
    assert path.read_text().startswith("id,name,") and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("place", ["journal.jsonl", "runs.db", "runs/{run}/run.json"])
def test_nothing_of_the_home_is_written_over_even_when_told_to(tmp_path: Path, place: str) -> None:
    home = open_home(tmp_path)
    folder = runs.write_run(home, "one", 1)
    add_note(home, folder.id, "precious")
    path = tmp_path / place.format(run=folder.id)
    if not path.exists():
        path.write_bytes(b"")
    for kind in ("csv", "json"):
        assert export(home, "--to", str(path), "--format", kind, "--force") == 1
    assert export(home, "one", "--to", str(path), "--format", "md", "--force") == 1
    assert b"precious" in home.journal.read_bytes() and folder.name == "one"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mine")
    with pytest.raises(RuntimeError), written(path, force=True) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "mine" and [*tmp_path.iterdir()] == [path]


def test_whoever_comes_first_keeps_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(UserError, match="is there already"), written(path) as file:
        file.write(b"ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and [*tmp_path.iterdir()] == [path]


def test_nothing_of_a_terminal_gets_to_a_terminal() -> None:
    """``clean`` is what the command gives where standard output is one."""
    out = io.BytesIO()
    table = Table([Column("a", "text")], iter([[exporting.TERMINAL], ["\t=1"]]))
    write_csv(table, out, safe)
    assert b"\x1b" not in out.getvalue() and "\u202e" not in out.getvalue().decode()


@given(st.text())
def test_the_guard_can_be_taken_off_again(text: str) -> None:
    cell = guarded(text)
    assert unguarded(cell) == text
    assert not cell.startswith(RISKY) or is_number(cell)


def test_numbers_stay_numbers() -> None:
    for text in ("-1", "+2.5", "-1e-4", "-Infinity", "-.5"):
        assert guarded(text) == text
    for text in ("-1+2", "-", "+a", "--1", "-1 ", "=1", "'=1"):
        assert guarded(text) == f"'{text}"


def test_neither_pandas_nor_torch_is_needed(home: Home, tmp_path: Path) -> None:
    code = (
        "import sys; from engine import cli\n"
        f"assert cli.main(['runs', 'export', '--to', {str(tmp_path / 'a.parquet')!r}]) == 0\n"
        f"assert cli.main(['runs', 'export', {'20251122-000000-run'!r}, '--to', "
        f"{str(tmp_path / 'a.html')!r}]) == 0\n"
        "print([m for m in ('pandas', 'torch', 'transformers', 'textual') if m in sys.modules])"
    )
    environ = {**os.environ, "TUNEBENCH_HOME": str(home.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environ
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
