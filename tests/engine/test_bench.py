"""``tunebench bench`` with real processes on the CPU: results, failures, interrupts, history."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.cells import cell_len

from engine.bench import contestants
from engine.bench.contestants import Contestant
from engine.bench.rows import IGNORED, make_rows, read_rows
from engine.bench.shapes import SHAPES
from engine.bench.table import WIDTH
from engine.data.prepare import prepare
from engine.data.tokens import Formatter
from engine.history.benches import latest_bench
from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import Home, open_home
from engine.jobs.lock import locked
from engine.recipe import Recipe, load_recipe
from engine.train.rows import encode
from tests.engine.fakes import runs
from tests.engine.fakes.shell import Shell

ROOT = Path(__file__).parents[2]
SHORT = ("--device", "cpu", "--batch", "4", "--max-length", "160", "--steps", "6")
BROKEN = Contestant("broken", "broken", "trl", ("lora.target_modules=['nowhere']",))
KEYS = {
    *("id", "t", "state", "seconds", "host", "device", "device_name", "gpu", "driver", "card"),
    *("recipe", "settings", "model", "shape", "random_weights", "parameters", "lora_r", "quick"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "steps"),
    *("warm_up_steps", "limit_factor", "limit_tokens_per_second", "versions", "git_commit"),
    *("rows", "results", "left_out", "notes"),
}
RESULT_KEYS = {
    *("contestant", "label", "kind", "settings", "rows", "state", "reason", "steps"),
    *("counted_steps", "step_seconds", "step_seconds_mean", "step_seconds_min"),
    *("step_seconds_max", "padded_tokens_per_second", "tokens_per_second"),
    *("trained_tokens_per_second", "to_best", "to_limit", "peak_memory_bytes"),
    *("first_step_after_seconds", "importing_seconds", "loading_seconds", "first_step_seconds"),
    *("warm_up_extra_seconds", "phases", "first_loss", "last_loss", "facts", "others"),
}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(open_home(tmp_path / "home"), capsys)


def left_of(home: Home) -> list[list[str]]:
    """Command lines of living processes that name this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        ours = any(str(home.path) in word for word in words)
        if ours and process.info["status"] != "zombie" and process.pid != os.getpid():
            found.append(words)
    return found


@pytest.mark.slow
def test_measures_all_in_turn_and_a_failure_is_a_line(
    shell: Shell, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bench, looked at from all sides: three contestants' processes take half a minute."""
    known = {contestant.id: contestant for contestant in contestants.CONTESTANTS}
    chosen = (BROKEN, known["tunebench"], known["bare"], known["trl-16bit"], known["unsloth"])
    monkeypatch.setattr(contestants, "CONTESTANTS", chosen)
    command = ("bench", *SHORT, "--rows", "corpus", "--recipe", "demo")
    command += ("--set", f"model.model_name_or_path={tiny_model}")
    document = shell.json(*command)
    assert set(document) == KEYS and document["state"] == "finished"
    assert document["device"] == "cpu" and document["gpu"] is None
    assert not document["random_weights"] and document["parameters"] > 50_000
    assert document["card"]["flops_per_second"] > 1e8
    rate = document["card"]["flops_per_second"] / (4 * document["parameters"])
    assert document["limit_tokens_per_second"] == pytest.approx(rate)
    corpus = document["rows"]["corpus"]
    assert 0 < corpus["trained_tokens"] < corpus["tokens"] < 160

    results = {one["contestant"]: one for one in document["results"]}
    assert list(results) == ["broken", "tunebench", "bare", "trl-16bit"]
    assert all(set(one) == RESULT_KEYS for one in results.values())
    broken = results.pop("broken")
    assert broken["state"] == "failed" and "nowhere" in broken["reason"]
    assert broken["step_seconds"] is broken["to_best"] is None
    for name, one in results.items():
        assert (one["state"], one["steps"], one["counted_steps"]) == ("finished", 6, 4), name
        seconds = one["step_seconds"]
        assert one["padded_tokens_per_second"] == pytest.approx(4 * 160 / seconds)
        assert one["tokens_per_second"] == pytest.approx(4 * corpus["tokens"] / seconds)
        trained = 4 * corpus["trained_tokens"] / seconds
        assert one["trained_tokens_per_second"] == pytest.approx(trained)
        assert one["to_limit"] == pytest.approx(one["tokens_per_second"] / rate)
        assert one["peak_memory_bytes"] > 50e6
        assert one["first_step_after_seconds"] > one["importing_seconds"] > 0
        assert one["loading_seconds"] > 0
        assert 3 < one["last_loss"] < one["first_loss"] < 9, name
    best = max(one["tokens_per_second"] for one in results.values())
    for one in results.values():
        assert one["to_best"] == pytest.approx(one["tokens_per_second"] / best)
    assert {"contestant": "unsloth", "rows": None, "why": "unsloth needs a CUDA GPU"} in document[
        "left_out"
    ]
    assert left_of(shell.home) == []

    host = os.uname().nodename
    for _ in range(2):  # and again from nothing but the journal
        store = open_store(shell.home)
        ingest_all(shell.home, store, live=False)
        assert latest_bench(store, host, set()) == document
        assert [row for (row,) in store.query("SELECT state FROM benches")] == ["finished"]
        store.close()
        assert shell.json("reindex")["runs"] == 0, "runs of a bench are not the user's"
        for suffix in ("", "-wal", "-shm"):
            Path(f"{shell.home.database}{suffix}").unlink(missing_ok=True)

    from engine.bench.table import table

    lines = table(document)
    assert max(map(cell_len, lines)) <= WIDTH
    text = "\n".join(lines)
    assert "broken: " in text and "nowhere" in text
    assert "Left out: unsloth: unsloth needs a CUDA GPU" in text


@pytest.mark.parametrize(
    ("only", "module"),
    [pytest.param("tunebench", "worker", marks=pytest.mark.slow), ("bare", "rival")],
)
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(
    only: str, module: str, tmp_path: Path, tiny_model: Path
) -> None:
    home = open_home(tmp_path / "home")
    command = [sys.executable, "-P", "-m", "engine.cli", "bench", "--home", str(home.path)]
    command += [*SHORT[:-1], "100000", "--only", only, "--rows", "corpus", "--recipe", "demo"]
    command += ["--set", f"model.model_name_or_path={tiny_model}", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        scratch = home.path / "cache/bench"

        def begun() -> bool:
            if only == "tunebench":
                journals = list(scratch.glob("runs/*/events.jsonl"))
                return any('"step":12,' in path.read_text() for path in journals)
            return any(f"engine.bench.{module}" in words for words in left_of(home))

        runs.wait(lambda: begun() or process.poll() is not None, "the contestant", 90)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    document = json.loads(out)
    (result,) = document["results"]
    assert document["state"] == result["state"] == "interrupted"
    if only == "tunebench":
        assert result["counted_steps"] >= 2 and result["to_best"] == 1
    runs.wait(lambda: not left_of(home), "the end of all its processes")


def test_quick_leaves_out_and_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.bench.run.QUICK_SECONDS", 0.0)
    document = shell.json("bench", *SHORT, "--quick", "--shape", "tiny", status=1)
    assert document["quick"] and document["results"] == []
    assert document["random_weights"] and document["parameters"] == 650_048
    told = {(left["contestant"], left["rows"]): left["why"] for left in document["left_out"]}
    assert told["tunebench", "corpus"] == told["bare", "corpus"] == "no time was left"
    assert told["tunebench-4bit", "corpus"] == told[None, "full"] == "not with --quick"
    assert not shell.home.journal.exists(), "nothing was measured, nothing is kept"


def test_one_bench_of_a_home_at_a_time(shell: Shell) -> None:
    scratch = open_home(shell.home.path / "cache/bench")
    with locked(scratch.path / "lock"):
        status, _, err = shell("bench", *SHORT)
    assert status == 1 and "another bench of this home runs" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "tunebench,unslot"], "no such contestant"),
        (["--steps", "0"], "--steps 0"),
        (["--recipe", "nowhere.toml"], "no such recipe"),
        (["--set", "train.nothing=1", "--recipe", "demo"], "unknown key"),
        (["--shape", "7b"], "invalid choice"),
    ],
)
def test_wrong_words_are_told_at_once(words: list[str], told: str, shell: Shell) -> None:
    began = time.monotonic()
    status, _, err = shell("bench", *words)
    assert status == 2 and told in err
    assert time.monotonic() - began < 5


def test_the_choices_of_shape_are_those_there_are() -> None:
    from engine.cli import build_parser

    for shape in SHAPES:
        assert build_parser().parse_args(["bench", "--shape", shape]).shape == shape


@pytest.mark.parametrize("name", ["corpus", "full"])
def test_rivals_get_the_very_rows_of_the_run(
    name: str, tmp_path: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    home, scratch = open_home(tmp_path / "home"), open_home(tmp_path / "scratch")
    recipe = tiny_recipe("train.max_length=96")
    made = make_rows(name, home, scratch, recipe, 300, own=False)
    dataset = prepare(scratch, made.recipe)
    assert dataset.count("validation") and dataset.count("test")
    whole = encode(
        dataset.split("train"),
        Formatter.of(made.recipe),
        completion_only_loss=True,
        shape=dataset.shape,
    ).dataset
    rows = read_rows(made.file)
    assert [row.tolist() for row in rows.input_ids] == whole["input_ids"][:]
    assert [row.tolist() for row in rows.labels] == whole["labels"][:]
    assert made.rows == len(rows.labels) > 200
    assert made.tokens == pytest.approx(np.mean([len(row) for row in rows.input_ids]))
    trained = sum(int((row != IGNORED).sum()) for row in rows.labels)
    assert made.trained == pytest.approx(trained / made.rows)
    if name == "full":
        assert {len(row) for row in rows.input_ids} == {96}


def test_rows_of_the_recipes_own_data(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    home, scratch = open_home(tmp_path / "home"), open_home(tmp_path / "scratch")
    made = make_rows("corpus", home, scratch, tiny_recipe(), 300, own=True)
    texts = prepare(scratch, made.recipe).split("train")["completion"].to_pylist()
    assert len(texts) > 200 and all(" is made to " in text for text in texts)


def test_who_takes_part_depends_on_recipe_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestants, "_installed", lambda: {"unsloth", "bitsandbytes"})
    recipe = contestants.bench_recipe(load_recipe("amazon-titles"), 40)[0]
    entrants, left = contestants.choose(contestants.CONTESTANTS, recipe, "cuda")
    told = {one.id: one.why for one in left}
    assert told == {"tunebench-4bit": "the same as tunebench"}
    labels = {entrant.contestant.id: entrant.label for entrant in entrants}
    assert labels["bare"] == "bare loop 16-bit"
    assert all(len(label) <= 22 for label in labels.values())
    assert contestants.planned_steps(load_recipe("amazon-titles"), 40) == 4688

    monkeypatch.setattr(contestants, "_installed", lambda: {"bitsandbytes"})
    told = {one.id: one.why for one in contestants.choose(
        contestants.CONTESTANTS, recipe, "cuda")[1]}  # fmt: skip
    assert "not installed" in told["unsloth"] and "not installed" in told["tunebench-unsloth"]

    whole = recipe.with_settings(["model.load_in_4bit=false", "lora.enabled=false"])
    entrants, left = contestants.choose(contestants.CONTESTANTS, whole, "cpu")
    assert "cannot be trained" in {one.id: one.why for one in left}["trl-4bit"]
    assert "bare loop 32-bit" in [entrant.label for entrant in entrants]

    packed = load_recipe("demo", ["train.packing=true", "model.add_tokens=['<a>']"])
    own, notes = contestants.bench_recipe(packed, 40)
    assert not own.train.packing and "train.packing" in notes[0]
    left = contestants.choose(contestants.CONTESTANTS, own, "cpu")[1]
    assert "model.add_tokens" in {one.id: one.why for one in left}["bare"]
