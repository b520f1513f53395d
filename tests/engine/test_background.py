"""Cleaning in a process of its own: progress, ends of every kind, nothing half-made."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.data import background
from engine.data.dataset import list_datasets
from engine.errors import UserError
from engine.home import Home, open_home
from engine.recipe import Recipe


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def recipe(source: Path, **data: str) -> Recipe:
    return Recipe.model_validate({"name": "r", "data": {"source": str(source), **data}})


def source(folder: Path, count: int) -> Path:
    path = folder / "rows.jsonl"
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"title": f"t {number}", "content": f"c {number} x"}) + "\n")
    return path


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end, pause = time.monotonic() + seconds, threading.Event()
    while not true():
        assert time.monotonic() < end, "nothing happened in time"
        pause.wait(0.02)


def pid_known(job: Path) -> bool:
    return background.read_state(job).pid > 0


def test_a_dataset_comes_of_it(home: Home, tmp_path: Path) -> None:
    job, process = background.start(home, recipe(source(tmp_path, 500), name="mine"))
    assert background.jobs(home) == [job]
    assert process.wait(60) == 0
    state = background.read_state(job)
    assert (state.state, state.dataset, state.error) == ("done", "mine", "")
    assert [info.name for info in list_datasets(home)] == ["mine"]
    background.forget(job)
    assert background.jobs(home) == [] and not job.exists()


def test_modules_in_the_current_folder_are_not_imported(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orjson.py").write_text("raise SystemExit('the wrong orjson')")
    monkeypatch.chdir(tmp_path)
    job, process = background.start(home, recipe(source(tmp_path, 500)))
    assert process.wait(60) == 0
    assert background.read_state(job).state == "done"


def test_what_is_wrong_with_the_source_is_said_before(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no-such\.jsonl"):
        background.start(home, recipe(tmp_path / "no-such.jsonl"))
    assert background.jobs(home) == []


def test_what_is_wrong_with_the_rows_is_said_after(home: Home, tmp_path: Path) -> None:
    made = recipe(source(tmp_path, 20), prompt_column="headline")
    job, process = background.start(home, made)
    assert process.wait(60) != 0
    state = background.read_state(job)
    assert state.state == "failed" and "headline" in state.error and "\n" not in state.error
    assert list_datasets(home) == []


def test_cancelling(home: Home, tmp_path: Path) -> None:
    job, process = background.start(home, recipe(source(tmp_path, 300_000)))
    until(lambda: pid_known(job))
    background.cancel(job)
    assert process.wait(60) == 130
    assert background.read_state(job).state == "cancelled"
    assert list_datasets(home) == []
    assert not [path for path in home.datasets.iterdir() if path.name.endswith(".tmp")]


def test_a_killed_worker_is_lost_not_done(home: Home, tmp_path: Path) -> None:
    job, process = background.start(home, recipe(source(tmp_path, 300_000)))
    until(lambda: pid_known(job))
    assert background.read_state(job).state == "running"
    background.forget(job)
    assert job.exists(), "a running job is not forgotten"
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    state = background.read_state(job)
    assert state.state == "lost" and "without a word" in state.error


def test_the_worker_outlives_who_started_it(home: Home, tmp_path: Path) -> None:
    """Its own session, no terminal, files for its output."""
    job, process = background.start(home, recipe(source(tmp_path, 100_000)))
    until(lambda: pid_known(job))
    assert os.getsid(process.pid) == process.pid
    for number in (0, 1, 2):
        assert "/dev/pts" not in os.readlink(f"/proc/{process.pid}/fd/{number}")
    background.cancel(job)
    process.wait(60)


def test_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    assert background.read_state(tmp_path / "none").state == "lost"
    (tmp_path / "state.json").write_text("{")
    assert background.read_state(tmp_path).state == "lost"
    (tmp_path / "state.json").write_text(
        json.dumps({"name": "n", "state": "done", "of a later version": 1})
    )
    assert background.read_state(tmp_path).state == "done"


def test_it_is_cheap_to_import() -> None:
    script = (
        "import sys, engine.data.background; "
        "print([m for m in ('pyarrow', 'torch', 'numpy', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_viewer_reads_frugally_and_others_do_as_they_like() -> None:
    script = (
        "import os; from engine.data.frugal import read_frugally; read_frugally(); import pyarrow; "
        "print(pyarrow.default_memory_pool().backend_name, pyarrow.cpu_count(), "
        "'ARROW_DEFAULT_MEMORY_POOL' in os.environ)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["system", "1", "False"]


def test_what_a_viewer_freed_goes_back_to_the_system() -> None:
    script = (
        "import re; from engine.data.frugal import allocate_frugally, give_back; "
        "rss = lambda: int(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1]); "
        "allocate_frugally(); before = rss(); "
        "made = [bytes(600) for _ in range(50_000)]; kept = bytes(600); high = rss(); "
        "del made; give_back(); print(high - before > 25_000, rss() - before < 15_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]
