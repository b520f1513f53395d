"""kill -9 of the worker, of its supervisor and of the workbench, at ten random moments each.

What else can happen to a run is in ``test_faults.py``. Real training on the CPU, a short form of
the demo. Every time: the history says the true end,
``resume`` finishes the run, and the loss of every step equals the undisturbed run's.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.home import Home, open_home
from engine.jobs import launch
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.recipe import load_recipe
from tests.engine.faults import losses, supervisor_pid
from tests.tui.test_terminal import Tmux

pytestmark = pytest.mark.slow

SETTINGS = [
    *("data.catalogue_rows=3000", "train.max_steps=24", "train.eval_steps=8"),
    *("train.save_steps=8", "evaluate.validation_rows=32", "evaluate.test_rows=32"),
]
MOMENTS = 10
TOLERANCE = 1e-5
SECONDS = 300.0
ENDS = ("finished", "stopped", "failed", "killed", "lost")


def tunebench(home: Home, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tui", *words, "--home", str(home.path), "--json"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def start(home: Home) -> RunFolder:
    folder = launch.create_run(home, load_recipe("demo", SETTINGS))
    launch.launch(folder)
    return folder


def until(true: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return value


def worker_pid(folder: RunFolder) -> int | None:
    pids = [e["pid"] for e in read_all(folder.journal) if e["type"] == "state" and "pid" in e]
    return pids[-1] if pids else None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[int, float], float]:
    """(home, losses, seconds from launch to end) of a run that nobody killed."""
    home = open_home(tmp_path_factory.mktemp("home"))
    began = time.monotonic()
    folder = start(home)
    until(lambda: launch.wait_until_dead(folder, 1), "the end")
    assert tunebench(home, "runs", "show", folder.id)["state"] == "finished"
    assert len(losses(folder)) == 24
    return home, losses(folder), time.monotonic() - began


def moments(seed: int) -> list[float]:
    return [random.Random(f"{seed}-{n}").uniform(0.02, 0.9) for n in range(MOMENTS)]


def check_finished(home: Home, folder: RunFolder, expected: dict[int, float]) -> None:
    shown = tunebench(home, "runs", "show", folder.id)
    assert shown["state"] == "finished", shown
    found = losses(folder)
    assert found.keys() == expected.keys()
    worst = max(abs(found[step] - expected[step]) for step in expected)
    print(f"{folder.id}: attempt {shown['attempt']}, largest difference {worst:.2e}")
    assert worst <= TOLERANCE


@pytest.mark.parametrize("share", moments(1), ids="{:.2f}".format)
def test_worker_killed(undisturbed: tuple[Home, dict[int, float], float], share: float) -> None:
    home, expected, seconds = undisturbed
    folder = start(home)
    moment = time.monotonic() + share * seconds
    pid = until(lambda: worker_pid(folder), "the worker")
    until(lambda: time.monotonic() >= moment, "the moment")
    os.kill(pid, signal.SIGKILL)
    until(lambda: launch.wait_until_dead(folder, 1), "the end")
    shown = tunebench(home, "runs", "show", folder.id)
    last = [e.get("state") for e in read_all(folder.journal) if e["type"] == "state"][-1]
    if last == "finished":  # it was killed while it left
        assert shown["state"] == "finished"
    else:
        assert (shown["state"], shown["signal"]) == ("killed", signal.SIGKILL)
        assert tunebench(home, "resume", folder.id)["state"] == "finished"
    check_finished(home, folder, expected)


@pytest.mark.parametrize("share", moments(2), ids="{:.2f}".format)
def test_supervisor_killed(undisturbed: tuple[Home, dict[int, float], float], share: float) -> None:
    home, expected, seconds = undisturbed
    folder = start(home)
    moment = time.monotonic() + share * seconds
    pid = supervisor_pid(folder)
    until(lambda: time.monotonic() >= moment, "the moment")
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pytest.fail("the run had ended before the moment came: make it longer")
    # A viewer gives the worker a new supervisor, and the run goes on as if nothing had been.
    until(lambda: tunebench(home, "runs", "show", folder.id)["state"] in ENDS, "the end")
    until(lambda: launch.wait_until_dead(folder, 1), "the end of the processes")
    check_finished(home, folder, expected)


@pytest.mark.parametrize("share", moments(3), ids="{:.2f}".format)
def test_workbench_killed(
    undisturbed: tuple[Home, dict[int, float], float], share: float, tmp_path: Path
) -> None:
    home, expected, seconds = undisturbed
    recipe = tmp_path / "short.toml"
    recipe.write_text(load_recipe("demo", SETTINGS).to_toml(), encoding="utf-8")
    before = {folder.id for folder in launch.run_folders(home)}
    tmux = Tmux()
    try:
        tmux.start(home)
        tmux.wait("learning_rate")
        tmux.keys("e", "BTab")
        tmux.wait("leave the field")
        tmux.keys("C-u")
        tmux.type(str(recipe))
        tmux.keys("Enter")
        tmux.wait(r"max_steps +24 ")
        tmux.keys("Escape")
        tmux.wait("s start")
        tmux.keys("s")
        tmux.wait("Start demo")
        tmux.keys("Enter")
        new = until(
            lambda: [f for f in launch.run_folders(home) if f.id not in before], "the new run"
        )
        moment = time.monotonic() + share * seconds
        until(lambda: time.monotonic() >= moment, "the moment")
        os.kill(tmux.pid(), signal.SIGKILL)
        until(lambda: launch.wait_until_dead(new[0], 1), "the end")
        tmux.fresh()
        tmux.start(home)
        tmux.wait(rf"finished +{new[0].read_identity()['name']}")
    finally:
        tmux.run("kill-server")
    check_finished(home, new[0], expected)
