"""Sweeps: many runs of one recipe, made together, queued, told of as one."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.history.ingest import ingest_all
from engine.history.queries import get_sweep, list_sweeps
from engine.history.store import open_store
from engine.jobs import child, launch, queue, sweep
from engine.jobs.lock import is_alive
from engine.recipe import load_recipe
from tests.engine.fakes import cards, runs
from tests.engine.fakes.shell import Shell

RATES = "train.learning_rate=1e-4,3e-4"


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)
    monkeypatch.setattr("engine.data.prepare.check_source", lambda recipe: None)
    for module in ("train", "group"):
        monkeypatch.setattr(f"engine.commands.{module}.check_model", lambda recipe: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(runs.make_home(tmp_path, steps=5), capsys)


def parse(*options: str, name: str | None = None) -> sweep.Sweep:
    return sweep.parse(load_recipe("demo"), options, name)


def test_names_and_values() -> None:
    found = parse("lora.r=8,16", RATES)
    assert found.name == "demo-sweep"
    assert [point.name for point in found.points] == [
        *("demo-r8-lr1e-4", "demo-r8-lr3e-4", "demo-r16-lr1e-4", "demo-r16-lr3e-4")
    ]
    assert found.points[1].values == {"lora.r": 8, "train.learning_rate": 3e-4}
    assert found.points[2].recipe.lora.r == 16
    mine = parse("lora.target_modules=['q_proj', 'v_proj'],\"all-linear\"", name="mine")
    assert [point.name for point in mine.points] == [
        *("mine-modulesq_proj_v_proj", "mine-modulesall-linear")
    ]
    assert mine.points[0].recipe.lora.target_modules == ["q_proj", "v_proj"]
    both = parse("lora.bias=none,all", "train.seed=1", "generate.seed=2,3")
    assert both.points[0].name == "demo-biasnone-train-seed1-generate-seed2"
    long = parse(f"model.model_name_or_path=/x/{'y' * 70},/z/{'y' * 70},b")
    assert [point.name for point in long.points] == ["demo-1", "demo-2", "demo-modelb"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["lora.r=8,zero"], "--sweep lora.r=zero: lora.r: Input should be a valid integer"),
        (["lora.r=8,-1"], "--sweep lora.r=-1: lora.r: Input should be greater"),
        (["lora.q=8"], "unknown key 'lora.q'"),
        (["train.eval_steps=7,8", "train.save_steps=8"], "train.eval_steps=7 train.save_steps=8: "),
        (["lora.r=8,,16"], "--sweep lora.r=8,,16: an empty value"),
        (["lora.r="], "an empty value"),
        (["lora.r"], "section.key=value"),
        (["name=a,b"], "section.key=value"),
        (["lora.r=8", "lora.r=16"], "lora.r is set twice"),
        (["lora.lora_alpha=8,8.0"], "lora.lora_alpha=8.0: the same value twice"),
    ],
)
def test_what_is_wrong_is_named(options: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(*options)
    assert words in str(caught.value)


def test_datasets_that_differ_have_names_of_their_own() -> None:
    names = [point.recipe.data.name for point in parse("split.seed=1,2", "lora.r=8,16").points]
    assert names == ["catalogue-seed1"] * 2 + ["catalogue-seed2"] * 2
    assert {point.recipe.data.name for point in parse("lora.r=8,16").points} == {"catalogue"}
    named = parse("data.name=a,b", "split.seed=1")
    assert [point.recipe.data.name for point in named.points] == ["a", "b"]


def test_a_sweep_is_followed_to_its_end_and_told_as_one(shell: Shell) -> None:
    document = shell.json("train", "demo", "--sweep", "lora.r=8,16", "--sweep", RATES)
    assert document["sweep"] == "demo-sweep" and document["paused"] is None
    assert [run["state"] for run in document["runs"]] == ["finished"] * 4
    assert all(run["eval_loss"] == 0.8 for run in document["runs"])
    identity = launch.find_run(shell.home, "demo-r16-lr1e-4").read_identity()
    values = {"lora.r": 16, "train.learning_rate": 1e-4}
    assert identity["sweep"] == {"id": "demo-sweep", "values": values}

    runs.write_run(shell.home, "alone", 3)
    _, out, _ = shell("runs")
    assert len(out.splitlines()) == 3
    line = next(line for line in out.splitlines() if "demo-sweep" in line)
    assert "sweep of 4" in line and "4 finished" in line and "best 0.8000 demo-r8-lr1e-4" in line
    _, out, _ = shell("runs", "list", "--all")
    assert len(out.splitlines()) == 6
    assert {run["sweep"] for run in shell.json("runs")} == {None, "demo-sweep"}

    best = launch.find_run(shell.home, "demo-r16-lr1e-4")
    with best.journal.open("a") as journal:
        evaluation = {"type": "evaluation", "split": "validation", "which": "during"}
        journal.write(json.dumps({**evaluation, "t": 1, "attempt": 1, "step": 5, "loss": 0.1}))
        journal.write("\n")
    shown = shell.json("runs", "show", "demo-sweep")
    assert shown["states"] == {"finished": 4}
    assert [run["best_eval_loss"] for run in shown["runs"]] == [0.1, 0.8, 0.8, 0.8]
    _, out, _ = shell("runs", "show", "demo-sweep")
    head, first, *_ = out.splitlines()
    assert head.split() == ["run", "r", "learning_rate", "valid.", "train", "steps", "state"]
    assert first.split()[:4] == ["demo-r16-lr1e-4", "16", "0.0001", "0.1000"]
    compared = shell.json("runs", "compare", "demo-sweep", "alone")
    assert len(compared["runs"]) == 5 and compared["runs"][0] == best.id
    changed = shell.json("runs", "diff", "demo-sweep")["recipe"]
    assert set(changed) == {"lora.r", "train.learning_rate"}
    assert shell.json("tail", "demo-sweep")["sweep"] == "demo-sweep"

    status, _, err = shell("runs", "rm", "demo-sweep")
    assert status == 1 and "4 runs of demo-sweep" in err
    assert len(shell.json("runs", "rm", "demo-sweep", "--yes")["runs"]) == 4
    assert [run["name"] for run in shell.json("runs")] == ["alone"]


def test_nothing_is_made_when_something_is_wrong(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, _, err = shell("train", "demo", "--sweep", "lora.r=8,x")
    assert status == 2 and "lora.r=x" in err
    many = ",".join(map(str, range(1, 66)))
    status, _, err = shell("train", "demo", "--sweep", f"train.seed={many}")
    assert status == 2 and "65 runs" in err and "--yes" in err
    status, _, err = shell("train", "demo", "--sweep", "lora.r=8", "--set", "lora.r=4")
    assert status == 2 and "set twice" in err
    runs.write_run(shell.home, "mine-r16", 1)
    status, _, err = shell("train", "demo", "--name", "mine", "--sweep", "lora.r=8,16")
    assert status == 1 and "'mine-r16' exists" in err
    cards.put(monkeypatch, tmp_path, cards.card(0))
    status, _, err = shell("train", "demo", "--sweep", "train.num_processes=1,2")
    assert status == 2 and "num-processes2: train.num_processes: the run wants 2 GPUs" in err
    document = shell.json("train", "demo", "--dry-run", "--sweep", "lora.r=8,16")
    assert [run["values"] for run in document["runs"]] == [{"lora.r": 8}, {"lora.r": 16}]
    assert [f.read_identity()["name"] for f in launch.run_folders(shell.home)] == ["mine-r16"]
    assert not queue.listing(shell.home).places
    assert not list(shell.home.runs.glob(".*queued-*"))


def test_the_same_sweep_again_gets_other_names(shell: Shell) -> None:
    queue.pause(shell.home)
    for wanted in ("", "-2"):
        document = shell.json("train", "demo", "--sweep", "lora.r=8,16", "--detach")
        assert document["sweep"] == f"demo-sweep{wanted}"
        assert [run["name"] for run in document["runs"]] == [
            f"demo-r8{wanted}",
            f"demo-r16{wanted}",
        ]
    status, _, err = shell("train", "demo", "--name", "demo-sweep", "--detach")
    assert status == 1 and "exists already" in err
    store = open_store(shell.home)
    ingest_all(shell.home, store)
    found = list_sweeps(store)
    assert [(each.id, each.states, each.best) for each in found] == [
        ("demo-sweep-2", {"queued": 2}, None),
        ("demo-sweep", {"queued": 2}, None),
    ]
    assert found[0].keys == ("lora.r",)
    assert get_sweep(store, "demo-swe") is None
    store.close()


def test_taken_off_and_stopped_by_the_sweeps_name(shell: Shell) -> None:
    runs.make_home(shell.home.path, gate_at=4, steps=5)
    document = shell.json("train", "demo", "--sweep", "lora.r=2,4,8", "--detach")
    first, *_ = [launch.find_run(shell.home, run["run"]) for run in document["runs"]]
    runs.wait_for_state(first, "running")
    status, _, err = shell("runs", "rm", "demo-sweep", "--yes")
    assert status == 1 and "is running" in err
    assert len(launch.run_folders(shell.home)) == 3
    off = shell.json("queue", "rm", "demo-sweep")["taken_off"]
    assert [each["name"] for each in off] == ["demo-r4", "demo-r8"] and is_alive(first)
    status, _, err = shell("queue", "rm", "demo-sweep")
    assert status == 1 and "no run of sweep" in err
    shell.json("resume", "demo-r8", "--queue")
    stopped = shell.json("stop", "demo-sweep")["runs"]
    assert [(each["name"], each["state"]) for each in stopped] == [
        ("demo-r2", "stopped"),
        ("demo-r8", "stopped"),
    ]
    status, _, err = shell("stop", "demo-sweep")
    assert status == 1 and "has ended" in err
    assert shell.json("tail", "demo-sweep", status=3)["runs"][0]["state"] == "stopped"


def test_a_queue_that_stands_still_ends_the_following(shell: Shell) -> None:
    runs.make_home(shell.home.path, fail_at=1, fail="crash")
    document = shell.json("train", "demo", "--sweep", "lora.r=1,2,3,4,5", status=1)
    assert "3 runs in a row failed" in document["paused"]
    assert [run["state"] for run in document["runs"]] == ["failed"] * 3 + ["queued"] * 2


def test_ctrl_c_leaves_them_queued(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, gate_at=1, steps=1)
    module = "tests.engine.fakes.foreground"
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(home.path), "--sweep", "lora.r=8,16"],
        env=child.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folders = runs.wait(lambda: launch.run_folders(home)[1:] and launch.run_folders(home), "runs")
    named = {folder.read_identity()["name"]: folder for folder in folders}
    runs.wait_for_state(named["demo-r8"], "running")
    assert isinstance(process.stdout, io.TextIOBase)
    while "demo-r8 running" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "tunebench queue rm demo-sweep" in err and "tunebench stop demo-sweep" in err
    assert is_alive(named["demo-r8"]) and named["demo-r16"].queue_entry.exists()
    for folder in folders:
        (folder.path / "gate").touch()
    runs.wait(lambda: not named["demo-r16"].queue_entry.exists(), "the second")
    assert [runs.ended(folder).state for folder in folders] == ["finished"] * 2
