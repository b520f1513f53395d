"""``runs import`` of Unsloth Studio's database, made here with its tables (as of 2026-11)."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.history import queries
from tests.engine.importing import Imports

RUNS = """
CREATE TABLE training_runs (
  id TEXT NOT NULL PRIMARY KEY, status TEXT NOT NULL DEFAULT 'running', model_name TEXT NOT NULL,
  dataset_name TEXT NOT NULL, config_json TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,
  total_steps INTEGER, final_step INTEGER, final_loss REAL, output_dir TEXT, error_message TEXT,
  duration_seconds REAL, loss_sparkline TEXT, display_name TEXT, resume_blocked INTEGER DEFAULT 0,
  resumed_from_run_id TEXT)"""
METRICS = """
CREATE TABLE training_metrics (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, step INTEGER NOT NULL, loss REAL,
  learning_rate REAL, grad_norm REAL, eval_loss REAL, epoch REAL, num_tokens INTEGER,
  elapsed_seconds REAL, UNIQUE (run_id, step))"""
CONFIG = {
    "model_name": "unsloth/Llama-3.2-3B", "training_type": "LoRA/QLoRA", "load_in_4bit": True,
    "max_seq_length": 512, "hf_dataset": "org/products", "format_type": "alpaca",
    "num_epochs": 2, "learning_rate": "0.0003", "batch_size": 4, "gradient_accumulation_steps": 2,
    "warmup_steps": 5, "max_steps": 0, "save_steps": 0, "weight_decay": 0.01, "random_seed": 7,
    "packing": False, "optim": "adamw_8bit", "lr_scheduler_type": "cosine", "lora_r": 32,
    "lora_alpha": 64, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"],
    "hf_token": "hf_verysecret", "wandb_token": "verysecret", "unheard_of": {"a": 1},
}  # fmt: skip


@pytest.fixture
def imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imports:
    return Imports(tmp_path, capsys)


class Studio:
    """A ``studio.db`` to write runs into."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "studio.db"
        self.connection = sqlite3.connect(self.path)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(RUNS)
        self.connection.execute(METRICS)

    def run(self, id: str, steps: int = 30, **columns: Any) -> None:
        row = {
            "id": id, "status": "completed", "model_name": CONFIG["model_name"],
            "dataset_name": "org/products", "config_json": json.dumps(CONFIG),
            "started_at": "2026-11-22T10:00:00+00:00", "ended_at": "2026-11-22T10:05:00+00:00",
            "total_steps": 30, "final_step": steps, "output_dir": "/data/out/lora",
            "duration_seconds": 300.0, **columns,
        }  # fmt: skip
        marks = ", ".join("?" * len(row))
        sql = f"INSERT INTO training_runs ({', '.join(row)}) VALUES ({marks})"
        self.connection.execute(sql, list(row.values()))
        for step in range(1, steps + 1):
            evaluated = 3 / step if step % 10 == 0 else None
            values = (
                id,
                step,
                2 + 1 / step,
                1e-4 / step,
                evaluated,
                step / 15,
                step * 9,
                step * 10,
            )
            self.connection.execute(
                "INSERT INTO training_metrics (run_id, step, loss, learning_rate, eval_loss, "
                "epoch, num_tokens, elapsed_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        self.connection.commit()


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_a_run_with_its_curves_settings_and_times(imports: Imports, studio: Studio) -> None:
    studio.run("run-a", display_name="my run", error_message=None)
    made = imports(studio.path)  # the database is open elsewhere, and its last rows are in the WAL
    assert (made["name"], made["state"], made["from"]) == ("my-run", "finished", "studio")
    assert imports.curve(made, "loss") == {s: 2 + 1 / s for s in range(1, 31)}
    assert imports.curve(made, "learning_rate") == {s: 1e-4 / s for s in range(1, 31)}
    assert imports.curve(made, "eval_loss") == {s: 3 / s for s in (10, 20, 30)}
    row = imports.row(made)
    assert (row.created, row.ended) == (1_795_341_600.0, 1_795_341_900.0)
    assert (row.step, row.max_steps) == (30, 30)
    assert [e["t"] - 1_795_341_600 for e in imports.events(made, "metrics")][:2] == [10, 20]
    assert made["weights"] == "/data/out/lora"
    wanted = {
        "model.model_name_or_path": "unsloth/Llama-3.2-3B", "model.load_in_4bit": True,
        "data.source": "org/products", "train.max_length": 512, "train.learning_rate": 3e-4,
        "train.per_device_train_batch_size": 4, "train.num_train_epochs": 2, "train.seed": 7,
        "train.lr_scheduler_type": "cosine", "lora.r": 32, "lora.lora_alpha": 64,
        "lora.target_modules": ["q_proj", "v_proj"], "train.max_steps": -1,
    }  # fmt: skip
    assert {key: made["settings"][key] for key in wanted} == wanted
    for path in imports.folder(made).path.iterdir():
        assert b"verysecret" not in path.read_bytes()


@pytest.mark.parametrize(
    ("columns", "state", "words"),
    [
        ({"status": "completed", "steps": 20}, "stopped", "calls it completed, at step 20 of 30"),
        ({"status": "completed", "total_steps": None}, "finished", ""),
        ({"status": "stopped", "steps": 20}, "stopped",
         "stopped in Unsloth Studio at step 20 of 30"),
        ({"status": "error", "steps": 3, "error_message": "CUDA out\nof memory"}, "failed",
         "CUDA out of memory (at step 3 of 30)"),
        ({"status": "running", "steps": 5, "ended_at": None}, "lost", "has it as running"),
        ({"status": "paused\x1b[31m"}, "stopped", "has it as 'paused"),
    ],
    ids=lambda value: value.get("status", "")[:6] if isinstance(value, dict) else None,
)  # fmt: skip
def test_ends_as_they_were(
    columns: dict[str, Any], state: str, words: str, imports: Imports, studio: Studio
) -> None:
    studio.run("run-a", **columns)
    made = imports(studio.path.parent)  # by the folder that it lies in
    row = imports.row(made)
    assert made["state"] == row.state == state
    assert words in (made["reason"] or "") and (row.reason or "") == (made["reason"] or "").replace(
        "\x1b", "\u241b"
    )


def test_many_runs_once_each_and_who_went_on_from_whom(imports: Imports, studio: Studio) -> None:
    studio.run("run-a", steps=10, status="stopped")
    studio.run("run-b", started_at="2026-11-23T10:00:00", resumed_from_run_id="run-a")
    made = imports(studio.path)
    first, second = made["runs"]
    assert imports.row(second).parent == first["run"]
    studio.run("run-c", started_at="2026-11-24T10:00:00", resumed_from_run_id="run-b")
    third = imports(studio.path)["runs"]
    assert [run["already"] for run in third] == [True, True, False]
    assert imports.row(third[2]).parent == second["run"]
    assert len(queries.list_runs(imports.store())) == 3
    imports(studio.path, "--name", "x", status=1)
    assert "holds 3 runs, which cannot all be named 'x'" in imports.err


def test_values_of_any_kind(imports: Imports, studio: Studio) -> None:
    """SQLite's columns take anything."""
    studio.run(
        "run-a", steps=0, config_json=b"\xff\x00", started_at="yesterday", ended_at=b"\x01",
        total_steps="many", final_step="x", duration_seconds="nan", model_name=b"\xfe/m\x1b[2J",
        dataset_name=7, display_name="../../\x1b]0;t\x07<b>[red]", output_dir=3.5,
    )  # fmt: skip
    for step, loss in ((1, "nan"), (2, b"\x01"), ("three", 1.0), (-4, 1.0), (5, float("inf"))):
        sql = "INSERT INTO training_metrics (run_id, step, loss) VALUES ('run-a', ?, ?)"
        studio.connection.execute(sql, (step, loss))
    studio.connection.commit()
    made = imports(studio.path)
    assert made["name"] == "0-t-b-red"
    assert set(imports.curve(made, "loss")) == {1, 5}
    assert "config_json cannot be read" in made["notes"][0]
    assert "\x1b" not in imports.folder(made).recipe_file.read_text()


def test_what_is_no_database_of_studio(imports: Imports, studio: Studio, tmp_path: Path) -> None:
    studio.run("run-a")
    studio.connection.close()
    good = studio.path.read_bytes()
    other = tmp_path / "other.db"
    for data, words in (
        (b"SQLite format 3\0" + b"\xff" * 5000, "cannot be read as a database"),
        (good[:5000], "cannot be read as a database"),
        (b"plain text", "is no trainer_state.json, event file, W&B run or SQLite database"),
    ):
        other.write_bytes(data)
        imports(other, status=1)
        assert str(other) in imports.err and words in imports.err
    for sql, words in (
        ("CREATE TABLE a (b)", "has no table training_runs"),
        ("CREATE VIEW training_runs AS SELECT 1 AS id", "has no table training_runs"),
        (f"{RUNS};", "has no table training_metrics"),
        (f"{RUNS}; CREATE TABLE training_metrics (a)", "training_metrics has no column run_id"),
        (f"CREATE TABLE training_runs (id); {METRICS}", "training_runs has no column status"),
        (f"{RUNS}; {METRICS}", "training_runs is empty"),
    ):
        other.unlink()
        with sqlite3.connect(other) as connection:
            connection.executescript(sql)
        connection.close()
        imports(other, status=1)
        assert words in imports.err and str(other) in imports.err
    assert imports.runs() == []


def test_the_database_stays_as_it_was(imports: Imports, studio: Studio, tmp_path: Path) -> None:
    studio.run("run-a")
    studio.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    studio.connection.close()
    folder = tmp_path / "kept"
    folder.mkdir()
    shutil.copy(studio.path, folder)
    before = (folder / "studio.db").read_bytes()
    assert imports(folder)["state"] == "finished"
    assert (folder / "studio.db").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["studio.db"]


def test_half_a_database_gives_no_half_run(imports: Imports, studio: Studio) -> None:
    """A page that is damaged is met while the journal is written: nothing of the run stays."""
    studio.run("run-a", steps=3000)
    studio.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    studio.connection.close()
    data = bytearray(studio.path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = b"\xff" * 20_000
    studio.path.write_bytes(bytes(data))
    imports(studio.path, status=1)
    assert "cannot be read as a database (" in imports.err and imports.runs() == []
