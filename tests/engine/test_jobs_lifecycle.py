"""Whatever becomes of worker, supervisor or terminal, the journal tells the run's true end."""

import errno
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import UserError
from engine.history.ingest import ingest_all
from engine.history.queries import get_run
from engine.history.store import open_store
from engine.jobs import checkpoints, control, launch, processes, worker
from engine.jobs.folder import RunFolder
from engine.jobs.lock import acquire, has_supervisor, is_alive
from tests.engine.fakes import runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripted_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def supervisor_pid(folder: RunFolder) -> int:
    """The process that holds the supervisor's lock and is not the test itself."""
    holders = (
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
    )
    wanted = folder.supervisor_lock
    return runs.wait(
        lambda: next((pid for pid in holders if processes.holds_file(pid, wanted)), 0),
        "a supervisor",
    )


def go(folder: RunFolder) -> None:
    (folder.path / "gate").touch()


def in_history(folder: RunFolder) -> str:
    home = worker.Home(folder.path.parent.parent)
    store = open_store(home)
    try:
        ingest_all(home, store)
        return get_run(store, folder.id).state
    finally:
        store.close()


def test_a_run_finishes_and_says_so(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path))
    row = runs.ended(folder)
    assert (row.state, row.exit_code, row.signal, row.step) == ("finished", 0, None, 20)
    assert row.checkpoint == "checkpoints/step-20"
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for path in folder.path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("fail", "state", "code", "kind", "words"),
    [
        ("user", "failed", 1, "user", "data.source: nothing there"),
        ("memory", "failed", 1, "out_of_memory", "out of memory in training"),
        ("disk", "failed", 1, "disk_full", "free some space"),
        ("crash", "failed", 1, "crash", "RuntimeError: boom"),
        ("exit", "failed", 7, None, "exit status 7"),
        ("silent", "failed", 0, None, "exit status 0"),
    ],
)
def test_failures_say_what_happened(
    tmp_path: Path, fail: str, state: str, code: int, kind: str | None, words: str
) -> None:
    folder = runs.start(runs.make_home(tmp_path, fail_at=7, fail=fail))
    row = runs.ended(folder)
    assert (row.state, row.exit_code, row.error_kind) == (state, code, kind)
    assert words in (row.reason or "")
    assert ("Traceback" in folder.log.read_text()) == (kind not in (None, "user"))
    assert row.checkpoint == "checkpoints/step-5"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_worker_that_dies_by_a_signal(tmp_path: Path, name: str) -> None:
    folder = runs.start(runs.make_home(tmp_path, fail_at=7, fail=name))
    row = runs.ended(folder)
    assert (row.state, row.exit_code, row.signal_name) == ("killed", None, name)
    assert row.signal == getattr(signal, name)
    assert in_history(folder) == "killed"


def test_stop_finishes_the_step_and_saves(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    number = control.request(folder, "stop")
    row = runs.ended(folder)
    assert (row.state, row.exit_code) == ("stopped", 3)
    assert row.step is not None and row.checkpoint == f"checkpoints/step-{row.step}"
    assert "stopping" in [event["state"] for event in runs.events(folder, "state")]
    taken = [(e["number"], e["action"]) for e in runs.events(folder, "control")]
    assert taken == [(number, "stop")]


def test_stop_before_the_first_step_is_at_once(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at="starting"))
    control.request(folder, "stop")  # perhaps before the worker has begun
    row = runs.ended(folder)
    assert (row.state, row.step, row.exit_code) == ("stopped", None, 3)
    assert [e["action"] for e in runs.events(folder, "control")] == ["stop"]


def test_sigterm_to_the_supervisor_stops_the_run(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    os.kill(supervisor_pid(folder), signal.SIGTERM)
    assert runs.ended(folder).state == "stopped"


def test_interrupt_and_hangup_do_nothing_to_worker_and_supervisor(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    for pid in (runs.worker_pid(folder), supervisor_pid(folder)):
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGINT)
    go(folder)
    assert runs.ended(folder).state == "finished"


def test_what_came_too_late_is_not_said_to_be_done(tmp_path: Path) -> None:
    folder = runs.write_run(runs.make_home(tmp_path), "one", steps=2, end=None)
    journal = worker.WorkerJournal(folder, 1, worker.Stop())
    for action in ("save", "note", "stop"):
        control.request(folder, action)
    requests = worker.Requests(folder, journal)
    assert [control.action for control in requests.take(ended=True)] == ["save", "note", "stop"]
    journal.close()
    taken = {event["action"]: event["taken"] for event in runs.events(folder, "control")}
    assert taken == {"save": False, "note": True, "stop": True}


def test_kill_is_at_once_and_acknowledged(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    control.request(folder, "kill")
    row = runs.ended(folder)
    assert (row.state, row.signal_name, row.reason) == ("killed", "SIGKILL", "killed on request")
    assert [e["action"] for e in runs.events(folder, "control")] == ["kill"]


def test_descendants_in_sessions_of_their_own_are_ended(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12, fork=True))
    runs.wait_for_state(folder, "running")
    child = int((folder.path / "forked").read_text())
    assert processes.start_ticks(child) is not None
    runs.wait(lambda: not processes.holds_file(child, folder.lock), "the child without the lock")
    os.kill(runs.worker_pid(folder), signal.SIGKILL)
    assert runs.ended(folder).state == "killed"
    assert processes.start_ticks(child) is None


def test_a_second_launch_is_refused(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    with pytest.raises(UserError, match="is running"):
        launch.launch(folder)
    with pytest.raises(UserError, match="is running"):
        launch.resume(worker.Home(tmp_path), folder)
    go(folder)
    assert runs.ended(folder).state == "finished"
    assert len([e for e in runs.events(folder, "state") if "pid" in e]) == 1


def test_a_killed_supervisor_is_replaced_by_one_that_adopts(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, gate_at=12)
    folder = runs.start(home)
    runs.wait_for_state(folder, "running")
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    runs.wait(lambda: not has_supervisor(folder), "the supervisor's end")
    assert is_alive(folder)
    assert in_history(folder) == "running"  # looking starts the new supervisor
    runs.wait(lambda: has_supervisor(folder), "a new supervisor")
    assert not launch.adopt(folder)
    go(folder)
    row = runs.ended(folder)
    assert (row.state, row.exit_code, row.step) == ("finished", None, 20)
    assert [e["by"] for e in runs.events(folder, "exit")] == ["adopted"]


@pytest.mark.parametrize("action", ["stop", "kill"])
def test_an_adopted_run_obeys(tmp_path: Path, action: str) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    runs.wait(lambda: not has_supervisor(folder), "the supervisor's end")
    assert launch.adopt(folder)
    control.request(folder, action)
    row = runs.ended(folder)
    assert row.state == {"stop": "stopped", "kill": "killed"}[action]
    assert row.exit_code is None


def test_worker_and_supervisor_killed_together_are_lost(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, gate_at=12))
    runs.wait_for_state(folder, "running")
    pid = runs.worker_pid(folder)
    os.kill(supervisor_pid(folder), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    assert runs.ended(folder).state == "lost"
    assert in_history(folder) == "lost"


def test_resume_counts_attempts_and_goes_on_from_the_last_whole_checkpoint(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, fail_at=13, fail="SIGKILL")
    folder = runs.start(home)
    assert runs.ended(folder).state == "killed"
    torn = folder.checkpoints / "step-10" / "state.json"
    torn.write_text("{}")  # another size and digest than the manifest's
    control.request(folder, "stop")  # meant for the attempt that is over
    assert launch.resume(home, folder) == 2
    row = runs.ended(folder)
    assert (row.state, row.attempt, row.step, row.resume_step) == ("finished", 2, 20, 5)
    assert row.signal is None
    assert in_history(folder) == "finished"
    with pytest.raises(UserError, match="finished"):
        launch.resume(home, folder)
    steps = [(e["attempt"], e["step"]) for e in runs.events(folder, "metrics")]
    assert steps == [(1, n) for n in range(1, 13)] + [(2, n) for n in range(6, 21)]


def test_of_many_that_resume_at_once_one_does(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, fail_at=13, fail="SIGKILL")
    folder = runs.start(home)
    assert runs.ended(folder).state == "killed"
    runs.make_home(tmp_path, gate_at=12)

    def resume(_: int) -> int | UserError:
        try:
            return launch.resume(home, folder)
        except UserError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(resume, range(6)))
    assert [result for result in results if isinstance(result, int)] == [2]
    go(folder)
    assert runs.ended(folder).state == "finished"
    assert len([e for e in runs.events(folder, "state") if "pid" in e]) == 2


def test_a_worker_that_cannot_write_its_end_never_claims_to_have_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = runs.make_home(tmp_path)
    folder = launch.create_run(home, runs.load_recipe("demo"))
    script = (
        "import errno, os, sys\n"
        "from engine.jobs import worker\n"
        "from engine.jobs.journal import Journal\n"
        "real = Journal._write\n"
        "def write(self, data):\n"
        "    if b'finished' in data or b'failed' in data or b'error' in data:\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(self, data)\n"
        "Journal._write = write\n"
        "sys.exit(worker.main([sys.argv[1]], train=lambda context: {'steps': 1}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder.path)], cwd=ROOT, timeout=30)
    assert done.returncode == errno.ENOSPC  # its supervisor takes it from there
    assert not folder.reserve.exists()
    assert "finished" not in folder.journal.read_text()


def test_a_worker_on_a_full_disk_says_so_with_the_last_bytes_there_are(tmp_path: Path) -> None:
    """Journal and log are full; what the reserve frees is enough for the end."""
    folder = launch.create_run(runs.make_home(tmp_path), runs.load_recipe("demo"))
    script = (
        "import errno, sys\n"
        "from engine.jobs import worker\n"
        "from engine.jobs.journal import Journal\n"
        "real = Journal._write\n"
        "def write(self, data):\n"
        "    if b'metrics' in data or (b'failed' in data and self.reserve.exists()):\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(self, data)\n"
        "Journal._write = write\n"
        "def train(context):\n"
        "    Journal.reserve = context.folder.reserve\n"
        "    context.journal.append('metrics', step=1)\n"
        "sys.exit(worker.main([sys.argv[1]], train=train))\n"
    )
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", script, str(folder.path)]
        done = subprocess.run(command, cwd=ROOT, timeout=30, stdout=full, stderr=full)
    assert done.returncode in (1, 120)  # 120: Python could not flush its output
    row = runs.ended(folder)
    assert (row.state, row.error_kind) == ("failed", "disk_full")
    assert not folder.reserve.exists()


def test_closing_the_terminal_leaves_the_run_alone(tmp_path: Path) -> None:
    """The foreground command in a session with a terminal, which then hangs up."""
    home = runs.make_home(tmp_path, gate_at=12)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(
            sys.executable,
            [sys.executable, "-m", "tests.engine.fakes.foreground", str(tmp_path)],
        )
    folder = runs.wait(lambda: launch.run_folders(home)[-1:], "a run")[0]
    runs.wait_for_state(folder, "running")
    os.close(terminal)  # the kernel sends SIGHUP to the whole foreground group
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGHUP
    assert is_alive(folder)
    go(folder)
    row = runs.ended(folder)
    assert (row.state, row.step) == ("finished", 20)


def test_ctrl_c_stops_the_followed_run(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, gate_at=12)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.fakes.foreground", str(tmp_path), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    folder = runs.wait(lambda: launch.run_folders(home)[-1:], "a run")[0]
    runs.wait_for_state(folder, "running")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    document = json.loads(output)
    assert (document["run"], document["state"]) == (folder.id, "stopped")
    assert process.returncode == 3


def test_a_taken_name_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path)
    recipe = runs.load_recipe("demo")
    first = launch.create_run(home, recipe, "mine")
    with pytest.raises(UserError, match=f"{first.id}.*--name"):
        launch.create_run(home, recipe, "mine")
    names = [launch.create_run(home, recipe).read_identity()["name"] for _ in range(3)]
    assert names == ["demo", "demo-2", "demo-3"]
    assert launch.find_run(home, "min") == first
    with pytest.raises(UserError, match="could be any of"):
        launch.find_run(home, first.id[:8])
    with pytest.raises(UserError, match="no run 'other'"):
        launch.find_run(home, "other")


def test_the_supervisor_waits_for_a_viewer_that_probes(tmp_path: Path) -> None:
    folder = launch.create_run(runs.make_home(tmp_path), runs.load_recipe("demo"))
    held = acquire(folder.lock)
    assert held is not None
    assert acquire(folder.lock, 0.05) is None
    assert is_alive(folder) and not has_supervisor(folder)
    os.close(held)
    assert not is_alive(folder)


def test_rotation_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    folder = launch.create_run(runs.make_home(tmp_path), runs.load_recipe("demo"))
    for step in range(1, 6):
        temporary = folder.checkpoints / ".new"
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "weights").write_bytes(bytes([step]) * 1000)
        size = checkpoints.publish(temporary, folder.checkpoints / f"step-{step}", step=step)
        assert size == 1000
    (folder.checkpoints / "step-4" / "inner" / "weights").unlink()
    (folder.checkpoints / ".step-9").mkdir()
    assert [p.name for p in checkpoints.whole(folder)] == ["step-1", "step-2", "step-3", "step-5"]
    checkpoints.rotate(folder, 2, best=folder.checkpoints / "step-1")
    left = sorted(path.name for path in folder.checkpoints.iterdir())
    assert left == ["step-1", "step-3", "step-5"]
    (folder.checkpoints / "step-5" / "inner" / "weights").write_bytes(b"x" * 1000)
    assert checkpoints.latest_whole(folder) == folder.checkpoints / "step-3"
