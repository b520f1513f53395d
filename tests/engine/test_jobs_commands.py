"""The verbs that begin, end and look at runs: their documents, exit statuses and errors."""

import errno
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.commands import following
from engine.history.follow import Follower
from engine.history.row import RunRow
from engine.jobs import launch
from engine.jobs.journal import Journal
from engine.jobs.lock import is_alive
from engine.recipe import load_recipe
from tests.engine.fakes import runs
from tests.engine.fakes.shell import Shell


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)
    monkeypatch.setattr("engine.commands.train.check_model", lambda recipe: None)
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(runs.make_home(tmp_path), capsys)


def test_train_follows_to_the_end_and_tells_of_it(shell: Shell) -> None:
    document = shell.json("train", "demo")
    assert (document["state"], document["steps"], document["exit_code"]) == ("finished", 20, 0)
    assert (document["eval_loss"], document["adapter"]) == (0.2, "adapter")
    assert document["best_checkpoint"] == "checkpoints/step-20"
    status, out, _ = shell("tail", document["run"])
    assert status == 0
    assert "step 20: validation loss 0.2000" in out and "finished" in out.splitlines()[-4]


def test_detach_gives_the_run_and_show_knows_it(shell: Shell) -> None:
    begun = shell.json("train", "demo", "--detach", "--name", "mine")
    assert begun["name"] == "mine" and Path(begun["folder"]).is_dir()
    assert shell.json("tail", "mine")["state"] == "finished"
    shown = shell.json("runs", "show", "mine")
    wanted = {"run": begun["run"], "state": "finished", "attempt": 1, "step": 20, "max_steps": 20}
    wanted |= {"exit_code": 0, "signal": None, "checkpoint": "checkpoints/step-20", "log_tail": []}
    assert {key: shown[key] for key in wanted} == wanted
    assert shell.json("runs")[0]["run"] == begun["run"]
    assert shell.json("queue")["entries"] == []


def test_a_failed_run_gives_status_1_and_its_reason(shell: Shell) -> None:
    runs.make_home(shell.home.path, fail_at=7, fail="crash")
    status, out, _ = shell("train", "demo")
    assert status == 1
    assert "RuntimeError: boom" in out and "\x1b" not in out
    assert "tunebench resume demo" in out
    shown = shell.json("runs", "show", "demo")
    assert any("Traceback" in line for line in shown["log_tail"])
    assert shell.json("resume", "demo")["attempt"] == 2
    status, _, err = shell("resume", "demo")
    assert status == 1 and "finished" in err


def test_stop_waits_for_the_end(shell: Shell) -> None:
    runs.make_home(shell.home.path, gate_at=12)
    run = shell.json("train", "demo", "--detach")["run"]
    folder = launch.find_run(shell.home, run)
    runs.wait_for_state(folder, "running")
    status, _, err = shell("resume", "demo")
    assert status == 1 and "is running" in err
    status, _, err = shell("runs", "rm", "demo", "--yes")
    assert status == 1 and "is running" in err
    assert shell.json("stop", "demo")["state"] == "stopped"
    assert not is_alive(folder)
    status, _, err = shell("stop", "demo")
    assert status == 1 and "is not running" in err
    (folder.path / "gate").touch()
    assert shell.json("resume", "demo")["state"] == "finished"


def test_a_second_run_with_the_same_name_is_refused(shell: Shell) -> None:
    shell.json("train", "demo", "--name", "mine")
    status, out, err = shell("train", "demo", "--name", "mine")
    assert status == 1 and out == ""
    assert "'mine' exists" in err and "--name" in err and len(err.splitlines()) == 1
    assert len(launch.run_folders(shell.home)) == 1


def test_dry_run_starts_nothing(shell: Shell) -> None:
    document = shell.json("train", "demo", "--dry-run", "--set", "train.learning_rate=0.5")
    assert document["recipe"]["train"]["learning_rate"] == 0.5
    assert launch.run_folders(shell.home) == []


def test_wrong_recipes_start_nothing(shell: Shell, tmp_path: Path) -> None:
    for words, wanted in (
        (["train", "nothing-there"], "nothing-there"),
        (["train", "demo", "--set", "train.learning_rate=abc"], "train.learning_rate"),
        (["train", "demo", "--set", "train.learning_rat=1"], "did you mean 'learning_rate'"),
    ):
        status, out, err = shell(*words)
        assert status == 2 and out == "" and wanted in err
    status, _, err = shell("train", "demo", "--set", f"data.source={tmp_path / 'none.jsonl'}")
    assert status == 1 and "none.jsonl" in err
    assert launch.run_folders(shell.home) == []


def test_a_full_disk_is_one_clear_line(shell: Shell) -> None:
    runs.make_home(shell.home.path, fail_at=7, fail="disk")
    document = shell.json("train", "demo", status=1)
    assert document["state"] == "failed" and "the disk is full" in document["reason"]
    assert document["checkpoint"] == "checkpoints/step-5"


def test_notes_tags_differences_and_removal(shell: Shell) -> None:
    shell.json("train", "demo", "--name", "a")
    shell.json("train", "demo", "--name", "b", "--set", "train.learning_rate=0.5")
    shell.json("runs", "note", "a", "better", "than", "b")
    assert shell.json("runs", "tag", "a", "good", "old")["tags"] == ["good", "old"]
    assert shell.json("runs", "tag", "a", "old-")["tags"] == ["good"]
    status, _, err = shell("runs", "tag", "a", "two words")
    assert status == 1 and "'two words'" in err
    assert shell.json("runs", "diff", "a", "b")["recipe"] == {
        "train.learning_rate": [load_recipe("demo").train.learning_rate, 0.5]
    }
    compared = shell.json("runs", "compare", "a", "b")["metrics"]
    assert compared["best_eval_loss"] == [0.2, 0.2] and compared["state"] == ["finished"] * 2
    for path in shell.home.path.glob("runs.db*"):
        path.unlink()
    assert shell.json("reindex")["runs"] == 2
    shown = shell.json("runs", "show", "a")
    assert shown["tags"] == ["good"] and shown["notes"][0]["text"] == "better than b"
    status, _, err = shell("runs", "rm", "b")
    assert status == 1 and "--yes" in err
    assert shell.json("runs", "rm", "b", "--yes")["deleted"]
    assert [run["name"] for run in shell.json("runs")] == ["a"]
    status, _, err = shell("runs", "show", "b")
    assert status == 1 and "no run 'b'" in err


def test_outside_text_is_made_safe(shell: Shell) -> None:
    shell.json("train", "demo", "--name", "a")
    run = launch.find_run(shell.home, "a")
    with run.log.open("a") as log:
        log.write("\x1b]0;title\x07 \u202eevil\n")
    shell.json("runs", "note", "a", "\x1b[2Jgone")
    for words in (["runs", "show", "a"], ["runs"], ["tail", "a"]):
        _, out, _ = shell(*words)
        assert not set(out) & set("\x1b\x07\u202e")


def test_the_progress_line_says_phase_step_losses_speed_and_time_left() -> None:
    row = RunRow(id="x", state="starting", phase="importing torch")
    assert following.progress(row) == "importing torch"
    row = RunRow(id="x", state="running", step=30, max_steps=120, loss=2.34567, eval_loss=2.4)
    row.learning_rate, row.tokens_per_second = 3e-4, 12345.6
    assert following.progress(row, 180.0) == (
        "30/120 25 %  loss 2.3457  validation 2.4000  lr 3.00e-04  12,346 tok/s  3 min 00 s left"
    )
    row.step = 121  # a trainer may make a step too many
    assert following.progress(row).startswith("121/120 100 %  loss")
    row.step, row.max_steps = 1999, 2000
    assert following.progress(row).startswith("1999/2000 99 %  loss"), "not all of it is done"
    row.state = "stopping"
    assert following.progress(row) == "stopping"


def test_the_question_before_a_removal_is_no_part_of_the_document(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.write_run(shell.home, "old", 3)
    for answer, status in (("n\n", 1), ("", 1), ("y\n", 0)):
        stdin = io.StringIO(answer)
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", stdin)
        got, out, err = shell("runs", "rm", "old", "--json")
        assert got == status and "Move old" in err
        assert out == "" if status else json.loads(out)["deleted"] is True
    assert not folder.path.exists()


def test_a_disk_that_refuses_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs.write_run(shell.home, "old", 3, end="stopped")
    folder.supervisor_lock.mkdir()  # cannot be opened for writing, not even by root
    status, out, err = shell("resume", "old", "--json")
    assert (status, out) == (1, "")
    assert "supervisor.lock" in err and len(err.splitlines()) == 1

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/home/with\nnewline")

    monkeypatch.setattr("engine.commands.queue.existing_home", refuse)
    status, out, err = shell("queue", "--json")
    assert (status, out) == (1, "")
    assert "newline: Read-only file system" in err and len(err.splitlines()) == 1


def test_the_time_left_is_by_the_usual_step_and_counts_evaluations(tmp_path: Path) -> None:
    folder = runs.write_run(runs.make_home(tmp_path), "one", steps=0, end=None)
    follower = Follower(folder)
    journal = Journal(folder.journal)
    journal.append("state", state="running", max_steps=20)
    for step, seconds in enumerate((2.0, 1.0, 9.0, 1.0, 1.0), 1):
        journal.append("metrics", step=step, step_seconds=seconds)
    evaluation = {"split": "validation", "which": "during", "loss": 1.0, "seconds": 5.0}
    journal.append("evaluation", step=5, **evaluation)
    journal.close()
    follower.read()
    # The first steps and one that hung say nothing; the demo evaluates at step 20 only.
    assert follower.seconds_left() == pytest.approx(15 * 1.0 + 5.0, abs=0.5)
