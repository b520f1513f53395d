"""Files that vanish while a run writes to them, and what the run's end tells of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.commands.endings import ending_lines, standing_checkpoints
from engine.history.follow import Follower, state_of
from engine.history.ingest import ingest_all
from engine.history.queries import get_run
from engine.history.row import RunRow
from engine.history.store import open_store
from engine.home import Home
from engine.jobs import launch, processes, supervisor
from engine.jobs.folder import RunFolder
from engine.jobs.host_memory import OomKills
from engine.jobs.journal import Journal, read_all
from engine.jobs.lock import is_alive
from tests.engine.fakes import runs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripted_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)
    before = os.umask(0o077)
    yield
    os.umask(before)


def go(folder: RunFolder) -> None:
    (folder.path / "gate").touch()


def in_history(folder: RunFolder) -> tuple[RunRow, list[int]]:
    """The run's row, and the steps whose metrics runs.db has."""
    store = open_store(Home(folder.path.parent.parent))
    try:
        ingest_all(Home(folder.path.parent.parent), store)
        sql = "SELECT step FROM metrics WHERE run = ? ORDER BY step"
        return get_run(store, folder.id), [row[0] for row in store.query(sql, (folder.id,))]
    finally:
        store.close()


def at_the_gate(tmp_path: Path, **script: Any) -> RunFolder:
    """A run that has made eleven steps and waits."""
    folder = runs.start(runs.make_home(tmp_path, gate_at=12, **script))
    runs.wait(
        lambda: [e for e in runs.events(folder, "metrics") if e["step"] == 11], "the eleventh step"
    )
    return folder


class TestAJournal:
    def lines(self, path: Path) -> list[tuple[Any, ...]]:
        return [(e["type"], e.get("step"), e.get("state")) for e in read_all(path)]

    def filled(self, path: Path) -> Journal:
        journal = Journal(path)
        journal.append("state", state="starting", pid=7)
        journal.append("state", state="running", max_steps=9)
        for step in (1, 2, 3):
            journal.append("metrics", step=step)
        return journal

    ALL = (
        ("state", None, "starting"),
        ("state", None, "running"),
        ("metrics", 1, None),
        ("metrics", 2, None),
        ("metrics", 3, None),
    )

    def test_removed_is_written_again_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        journal = self.filled(path)
        path.unlink()
        journal.append("evaluation", step=3)
        assert self.lines(path) == [
            *self.ALL,
            ("warning", None, None),
            ("evaluation", 3, None),
        ]
        assert "removed" in next(e["message"] for e in read_all(path) if e["type"] == "warning")

    def test_moved_is_written_again_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        journal = self.filled(path)
        path.rename(tmp_path / "elsewhere")
        journal.sync()
        assert self.lines(path) == [*self.ALL, ("warning", None, None)]

    def test_replaced_by_an_older_copy_gets_what_is_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        journal = self.filled(path)
        shutil.copy(path, tmp_path / "copy")
        journal.append("metrics", step=4)
        (tmp_path / "copy").rename(path)
        journal.append("evaluation", step=4)
        assert self.lines(path) == [
            *self.ALL,
            ("metrics", 4, None),
            ("warning", None, None),
            ("evaluation", 4, None),
        ]

    def test_two_writers_bring_it_back_once(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        journal, other = self.filled(path), Journal(path, beside=True)
        path.unlink()
        other.append("exit", exit_code=0)
        journal.append("evaluation", step=3)
        assert self.lines(path) == [
            *self.ALL,
            ("warning", None, None),
            ("exit", None, None),
            ("evaluation", 3, None),
        ]

    def test_emptied_says_what_is_lost_and_which_run_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        journal = self.filled(path)
        os.truncate(path, 0)
        journal.append("evaluation", step=3)
        assert self.lines(path) == [
            ("warning", None, None),
            *self.ALL[:2],
            ("evaluation", 3, None),
        ]
        assert "emptied" in (message := next(read_all(path))["message"])
        assert message.endswith("what was written before is lost")

    def test_a_line_torn_by_another_writer_is_ended(self, tmp_path: Path) -> None:
        path = tmp_path / "events.jsonl"
        self.filled(path)
        beside = Journal(path, beside=True)
        with path.open("ab") as file:
            file.write(b'{"v": 1, "type": "metr')
        beside.append("exit", exit_code=None)
        assert self.lines(path)[-1] == ("exit", None, None)


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_journal_lost_while_the_run_goes_on(tmp_path: Path, how: str) -> None:
    folder = at_the_gate(tmp_path)
    assert in_history(folder)[1] == list(range(1, 12))
    if how == "removed":
        folder.journal.unlink()
    else:
        os.truncate(folder.journal, 0)
    go(folder)
    row = runs.ended(folder)
    assert (row.state, row.step, row.exit_code, row.max_steps) == ("finished", 20, 0, 20)
    assert how in runs.events(folder, "warning")[0]["message"]
    row, steps = in_history(folder)
    assert (row.state, row.max_steps) == ("finished", 20)
    # Emptied: what came after the last sync, at most a second before, may have been lost as well.
    assert steps == list(range(1, 21)) if how == "removed" else steps[-1] == 20


def test_who_follows_a_run_sees_an_emptied_journal_anew(tmp_path: Path) -> None:
    folder = runs.write_run(runs.make_home(tmp_path), "run", 7, end=None)
    follower = Follower(folder)
    assert len(follower.read()) == 9 and follower.row.step == 7
    os.truncate(folder.journal, 0)
    journal = Journal(folder.journal)
    journal.append("state", state="running", max_steps=9, resume_step=0)
    journal.append("metrics", step=1)
    assert [event["type"] for event in follower.read()] == ["state", "metrics"]
    assert (follower.row.step, follower.row.max_steps, follower.row.name) == (1, 9, "run")


def test_a_journal_removed_before_the_worker_is_killed(tmp_path: Path) -> None:
    """Nobody but the supervisor is left to write it again."""
    folder = at_the_gate(tmp_path)
    folder.journal.unlink()
    worker = next(
        pid
        for pid in processes.descendants(os.getpid())
        if "scripted" in Path(f"/proc/{pid}/cmdline").read_text()
        and "supervisor" not in Path(f"/proc/{pid}/cmdline").read_text()
    )
    os.kill(worker, signal.SIGKILL)
    row = runs.ended(folder)
    assert (row.state, row.signal_name, row.step) == ("killed", "SIGKILL", 11)
    assert row.checkpoint == "checkpoints/step-10"
    assert in_history(folder)[1] == list(range(1, 12))


def test_a_journal_removed_after_the_end_leaves_a_lost_run(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path))
    assert runs.ended(folder).state == "finished"
    assert in_history(folder)[0].state == "finished"
    folder.journal.unlink()
    row, _ = in_history(folder)
    assert row.state == "lost" and "events.jsonl) was removed" in (row.reason or "")


def test_a_folder_removed_while_the_run_goes_on(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, steps=1_000_000))
    runs.wait(lambda: runs.events(folder, "metrics"), "the first step")
    family = processes.descendants(os.getpid())
    assert family
    gone = folder.path.with_name(".gone")
    folder.path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    # Zombies count as gone: a supervisor is reaped by the next launch.
    runs.wait(lambda: not set(family) & set(processes.descendants(os.getpid())), "their end")
    assert not is_alive(folder) and not folder.path.exists()
    assert state_of(folder).reason == "the run's folder was removed"


@pytest.mark.parametrize(
    ("after", "state", "words", "oom_kill"),
    [
        (OomKills(1, 1), "killed", "killed by the kernel for want of host memory", True),
        (OomKills(0, 1), "killed", "killed by SIGKILL from outside", False),
        (OomKills(None, None), "killed", "(perhaps for want of host memory)", None),
    ],
)
def test_who_sent_sigkill(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: OomKills,
    state: str,
    words: str,
    oom_kill: bool | None,
) -> None:
    folder = runs.write_run(runs.make_home(tmp_path), "run", 7, end=None)
    _checkpoint(folder, 5)
    monkeypatch.setattr(supervisor, "read_oom_kills", lambda: after)
    ended = {"exit_code": None, "signal": 9, "signal_name": "SIGKILL"}
    supervisor.note_end(folder, 1, ended, OomKills(0, 0))
    row = state_of(folder)
    assert (row.state, row.checkpoint) == (state, "checkpoints/step-5")
    assert words in (row.reason or "") and (row.reason or "").endswith("checkpoint step-5")
    assert runs.events(folder, "exit")[0]["oom_kill"] is oom_kill
    assert [label for label, _ in ending_lines(row, folder)] == (
        ["tried", "next", "start it", "that is"] if oom_kill else []
    )


def _checkpoint(folder: RunFolder, step: int) -> None:
    from engine.jobs import checkpoints

    temporary = folder.checkpoints / ".new"
    temporary.mkdir(parents=True)
    (temporary / "weights").write_bytes(b"x")
    checkpoints.publish(temporary, folder.checkpoints / f"step-{step}", step=step)


def test_a_library_that_left_with_a_line_in_the_log(tmp_path: Path) -> None:
    """bitsandbytes prints and calls exit(1): there is no exception to be told."""
    folder = runs.write_run(runs.make_home(tmp_path), "run", 7, end=None)
    folder.log.write_text("step\nError out of memory at line 380 in file /src/csrc/ops.cu\n")
    ended = {"exit_code": 1, "signal": None, "signal_name": None}
    supervisor.note_end(folder, 1, ended, OomKills(0, 0))
    row = state_of(folder)
    assert (row.state, row.error_kind) == ("failed", "out_of_memory")
    event = json.loads(row.error or "")
    assert event["suggestion"]["settings"]["train.per_device_train_batch_size"] == 16


@pytest.mark.parametrize(("code", "kind"), [(28, "disk_full"), (30, "read_only"), (1, None)])
def test_the_exit_status_tells_what_the_journal_could_not(
    tmp_path: Path, code: int, kind: str | None
) -> None:
    folder = runs.write_run(runs.make_home(tmp_path), "run", 7, end=None)
    ended = {"exit_code": code, "signal": None, "signal_name": None}
    supervisor.note_end(folder, 1, ended, OomKills(0, 0))
    row = state_of(folder)
    assert (row.state, row.error_kind) == ("failed", kind)


def test_an_out_of_memory_is_told_in_plain_lines(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, fail_at=7, fail="memory"))
    row = runs.ended(folder)
    lines = dict(ending_lines(row, folder))
    assert lines["tried"] == "training on 32 rows of up to 96 tokens at a time, the model whole"
    assert "free of" in lines["missing"] and "this run" in lines["missing"]
    assert lines["next"].startswith("halve the batch and double accumulation: 16 x 2 rows a step")
    assert lines["start it"] == "tunebench resume demo --suggested"
    assert lines["that is"].startswith(
        "tunebench resume demo --set train.per_device_train_batch_size=16"
    )
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "runs", "show", "demo", "--home", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert all(words in done.stdout for words in lines.values()), done.stdout + done.stderr
    assert '"kind"' not in done.stdout


def test_checkpoints_deleted_by_hand_are_not_named(tmp_path: Path) -> None:
    folder = runs.start(runs.make_home(tmp_path, fail_at=18, fail="SIGKILL"))
    row = runs.ended(folder)
    assert row.checkpoint == "checkpoints/step-15"
    shutil.rmtree(folder.checkpoints / "step-15")
    standing_checkpoints(row, folder)
    assert (row.checkpoint, row.best_checkpoint) == ("checkpoints/step-10", None)
    shutil.rmtree(folder.checkpoints)
    standing_checkpoints(row, folder)
    assert row.checkpoint is None


HUNGRY = "held = []\nwhile True: held.append(bytearray(1 << 20))"


def test_the_kernel_really_kills(tmp_path: Path) -> None:
    """In a cgroup with 512 MiB: the counter of the killed process's own cgroup goes up."""
    command = ["systemd-run", "--quiet", "--wait", "--collect", "--pipe"]
    command += ["-p", "MemoryMax=512M", "-p", "MemorySwapMax=0", f"--working-directory={ROOT}"]
    if not Path("/run/systemd/system").is_dir() or not shutil.which("systemd-run"):
        pytest.skip("no systemd here to make a cgroup with")
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("systemd makes no cgroup for this user")
    script = (
        "import subprocess, sys\n"
        "from engine.jobs.host_memory import read_oom_kills\n"
        "before = read_oom_kills()\n"
        f"code = subprocess.run([sys.executable, '-c', {HUNGRY!r}]).returncode\n"
        "print(code, read_oom_kills().since(before))\n"
    )
    done = subprocess.run(
        [*command, "-p", "OOMPolicy=continue", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["-9", "True"], done.stderr
