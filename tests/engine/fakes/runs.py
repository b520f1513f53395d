"""Makes homes, runs and journals for tests, and waits for what happens to them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.history.follow import state_of
from engine.history.row import RunRow
from engine.home import Home, open_home
from engine.jobs import launch
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_all
from engine.jobs.lock import is_alive
from engine.recipe import load_recipe

WORKER = "tests.engine.fakes.scripted"


def make_home(path: Path, **script: Any) -> Home:
    """A home whose runs are trained by the scripted worker."""
    home = open_home(path)
    (path / "script.json").write_text(json.dumps(script))
    return home


def wait(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Wait until ``condition()`` is true and return its value; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.005)
    return value


def start(home: Home, name: str | None = None) -> RunFolder:
    folder = launch.create_run(home, load_recipe("demo"), name)
    launch.launch(folder)
    return folder


def ended(folder: RunFolder) -> RunRow:
    """The run once nobody holds its locks any more."""
    wait(lambda: not is_alive(folder), f"the end of {folder.id}")
    return state_of(folder)


def events(folder: RunFolder, type: str) -> list[dict[str, Any]]:
    return [event for event in read_all(folder.journal) if event["type"] == type]


def state(folder: RunFolder) -> str:
    states = events(folder, "state")
    return states[-1]["state"] if states else ""


def wait_for_state(folder: RunFolder, wanted: str) -> None:
    wait(lambda: state(folder) == wanted, f"{folder.id} {wanted}")


def worker_pid(folder: RunFolder) -> int:
    """The worker's process id, once it has noted it."""
    found = wait(lambda: [e for e in events(folder, "state") if "pid" in e], "a worker")
    return found[-1]["pid"]


def write_run(home: Home, name: str, steps: int, end: str | None = "finished") -> RunFolder:
    """A run as files only: a journal of ``steps`` steps, and no process."""
    folder = launch.create_run(home, load_recipe("demo"), name)
    journal = Journal(folder.journal)
    journal.append("state", state="running", max_steps=steps, resume_step=0, fingerprint="f")
    for step in range(1, steps + 1):
        journal.append("metrics", step=step, loss=4.0 / step, tokens_per_second=10.0, oddity="x")
    if end:
        journal.append("evaluation", step=steps, split="validation", which="during", loss=0.5)
        journal.append("sample", step=steps, prompt="p", text="t")
        journal.append("checkpoint", step=steps, path=f"checkpoints/step-{steps}", best=True)
        journal.append("memory", device="host", used_bytes=5, total_bytes=9, peak_bytes=7)
        journal.append("state", state=end, steps=steps, train_loss=1.0)
        journal.append("exit", exit_code=0, signal=None, signal_name=None, by="supervisor")
    journal.close()
    return folder
