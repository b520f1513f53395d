"""The processes of a run in several: whatever dies, none is left and the run's end is true.

The ranks are scripted and need no torch; lead and launcher (accelerate's) are the real ones.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.history.follow import state_of
from engine.history.row import RunRow
from engine.home import Home
from engine.jobs import checkpoints, control, launch, leases
from engine.jobs.folder import RunFolder
from engine.jobs.lock import has_supervisor
from engine.jobs.ranks import RankFiles, check_processes
from engine.recipe import Recipe, load_recipe
from engine.system.gpu import Gpu, GpuState
from tests.engine.fakes import rank_processes, runs
from tests.engine.fakes.rank_processes import of_run, pid_of
from tests.variants import slow_but

SECONDS = 60


def start(home: Home, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(launch, "WORKER", "tests.engine.fakes.scripted_lead")
    settings = ["train.num_processes=2", "model.device=cpu"]
    folder = launch.create_run(home, load_recipe("demo", settings))
    launch.launch(folder)
    return folder


def begun(folder: RunFolder) -> None:
    """Step 9 of 20 is done, a checkpoint of step 5 is there, and both processes are."""
    files = RankFiles(folder)

    def is_so() -> bool:
        done = len(runs.events(folder, "metrics"))
        return done >= 9 and bool(files.process(0) and files.process(1))

    runs.wait(lambda: is_so() or not launch.is_alive(folder), "step 9", SECONDS)
    assert is_so(), folder.log_tail()


def ended(folder: RunFolder) -> RunRow:
    rank_processes.ended(folder, SECONDS)
    return state_of(folder)


def latest(folder: RunFolder) -> int:
    found = checkpoints.latest_whole(folder)
    return checkpoints.step_of(found) if found else 0


slow = pytest.mark.slow

KILLED = {
    "rank 0": ("failed", "process 1 of 2 (rank 0) was killed by SIGKILL"),
    "rank 1": ("failed", "process 2 of 2 (rank 1) was killed by SIGKILL"),
    "launcher": ("failed", "the launcher of the processes was killed by SIGKILL"),
    "lead": ("killed", ""),
}


@pytest.mark.parametrize("which", slow_but(KILLED, "lead"))
def test_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    home = runs.make_home(tmp_path, gate_at=10)
    folder = start(home, monkeypatch)
    begun(folder)
    os.kill(pid_of(folder, which), signal.SIGKILL)
    row = ended(folder)
    state, reason = KILLED[which]
    assert row.state == state
    assert (row.reason or "").startswith(reason)
    assert latest(folder) == 5
    (folder.path / "gate").touch()
    launch.resume(home, folder)
    assert ended(folder).state == "finished"
    assert next(e["step"] for e in runs.events(folder, "metrics") if e["attempt"] == 2) == 6


def test_a_new_supervisor_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = start(runs.make_home(tmp_path, gate_at=10), monkeypatch)
    begun(folder)
    os.kill(pid_of(folder, "supervisor"), signal.SIGKILL)
    runs.wait(lambda: launch.reap() or not has_supervisor(folder), "its end")
    assert launch.adopt(folder)
    (folder.path / "gate").touch()
    assert ended(folder).state == "finished"


@pytest.mark.parametrize("how", [pytest.param("control", marks=slow), "signal to all"])
def test_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    folder = start(runs.make_home(tmp_path, gate_at=10), monkeypatch)
    begun(folder)
    if how == "control":
        control.request(folder, "stop")
    else:
        for pid in of_run(folder):
            os.kill(pid, signal.SIGTERM)
    row = ended(folder)
    assert (row.state, latest(folder)) == ("stopped", 10)
    assert [e["step"] for e in runs.events(folder, "state") if e["state"] == "stopped"] == [10]
    asked = runs.events(folder, "control")
    assert [(e["action"], e["taken"]) for e in asked] == (
        [("stop", True)] if how == "control" else []
    )


def test_stopped_while_the_processes_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = start(runs.make_home(tmp_path), monkeypatch)
    runs.wait(lambda: folder.ranks.is_dir(), "the launcher", SECONDS)
    control.request(folder, "stop")
    row = ended(folder)
    assert row.state == "stopped" and not runs.events(folder, "metrics")


CRASHED = ("crash", "crash", "process 2 of 2 (rank 1): RuntimeError: boom")
SILENT = ("silent", "crash", "process 2 of 2 (rank 1) ended without a word")


@pytest.mark.parametrize(
    ("how", "kind", "reason"),
    [
        ("memory", "out_of_memory", "process 2 of 2 (rank 1): "),
        pytest.param(*("user", "user", "data.source: nothing there"), marks=slow),
        pytest.param(*CRASHED, marks=slow),
        ("exit", "crash", "process 2 of 2 (rank 1) ended with exit code 7"),
        pytest.param(*SILENT, marks=slow),
    ],
)
def test_the_first_cause_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, kind: str, reason: str
) -> None:
    folder = start(runs.make_home(tmp_path, gate_at=10, ranks={"1": how}), monkeypatch)
    row = ended(folder)
    assert row.state == "failed" and row.reason.startswith(reason)
    (error,) = runs.events(folder, "error")
    assert error["kind"] == kind
    log = folder.log.read_text("utf-8")
    assert ("rank 1: " in log) == (how in ("memory", "crash"))
    assert "ChildFailedError" not in log and "torch.distributed" not in log


# ---- what is refused before anything starts -----------------------------------------------------

Make = Callable[..., Recipe]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = tuple(Gpu(index, f"GPU-{index}", "H200") for index in range(2))
    monkeypatch.setattr(leases, "read_gpus", lambda: GpuState(True, gpus=gpus))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["train.fsdp=true"], "train.fsdp"),
        (["train.fsdp=true", "train.num_processes=2"], "train.fsdp"),
        (["model.backend=unsloth", "train.num_processes=2"], "model.backend"),
        (["train.num_processes=3"], "train.num_processes"),
        (
            ["train.num_processes=2", "lora.enabled=false", "train.optim=paged_adamw_8bit"],
            "train.optim",
        ),
    ],
)
def test_refused(two_gpus: None, settings: list[str], key: str) -> None:
    with pytest.raises(UserError, match=rf"^{key}: "):
        check_processes(load_recipe("demo", settings))


@pytest.mark.parametrize(
    "settings",
    [
        ["train.num_processes=2"],
        ["train.num_processes=2", "lora.enabled=false", "train.optim=adamw_torch_8bit"],
        ["train.num_processes=8", "model.device=cpu"],
    ],
)
def test_not_refused(two_gpus: None, settings: list[str]) -> None:
    check_processes(load_recipe("demo", settings))


@pytest.mark.parametrize("listed", ["1", "1,7", "-1", "0,1"])
def test_only_listed_gpus_count(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    recipe = load_recipe("demo", ["train.num_processes=2", "model.device=cuda"])
    if listed in ("1", "1,7"):
        with pytest.raises(UserError, match=r"^train\.num_processes: .*VISIBLE_DEVICES=1"):
            check_processes(recipe)
    else:
        check_processes(recipe)
