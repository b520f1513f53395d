"""runs prune: what is kept by which rule, what is never touched, and a crash in the middle."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import cli
from engine.errors import UsageError, UserError
from engine.history import queries, retention
from engine.history.ingest import ingest_all
from engine.history.marks import star
from engine.history.notes import add_tag
from engine.history.retention import Pruned, carry_out, freed, plan, rule_of
from engine.history.row import RunRow
from engine.history.store import open_store
from engine.home import Home, open_home
from engine.jobs import checkpoints, launch
from engine.jobs.folder import RunFolder
from engine.jobs.handover import Forget, hand_over
from engine.jobs.journal import Journal
from engine.jobs.lock import acquire
from engine.jobs.queue import enqueue
from tests.engine.fakes import runs

BOTH = frozenset({"best", "last"})
SIZE = 100_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def checkpoint(folder: RunFolder, step: int, best: int | None) -> Path:
    path = folder.checkpoints / f"step-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_bytes(os.urandom(SIZE))
    (path / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
    checkpoints.write_manifest(path, step=step)
    return path


def make(home: Home, name: str, best: int | None = 8, end: str | None = "finished") -> RunFolder:
    """A run with checkpoints of the steps 4, 8, 12, 16 and a result."""
    folder = runs.write_run(home, name, steps=20, end=None)
    journal = Journal(folder.journal)
    for step in (4, 8, 12, 16):
        checkpoint(folder, step, best)
        path = f"checkpoints/step-{step}"
        journal.append("checkpoint", step=step, path=path, bytes=SIZE, best=step == best)
    folder.adapter.mkdir()
    (folder.adapter / "weights").write_bytes(b"result")
    if end:
        journal.append("state", state=end, steps=20)
        journal.append("exit", exit_code=0, signal=None)
    journal.close()
    return folder


def rows(home: Home) -> list[RunRow]:
    store = open_store(home)
    ingest_all(home, store, live=False)
    found = queries.list_runs(store)
    store.close()
    return found


def planned(home: Home, keep: frozenset[str] = BOTH) -> dict[str, Pruned]:
    found = rows(home)
    return {each.name: each for each in plan(home, found, keep, found)}


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def there(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.checkpoints.iterdir())


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("best,last", ["step-8", "step-16"]),
        ("best", ["step-8"]),
        ("last", ["step-16"]),
        ("none", []),
    ],
)
def test_a_rule_keeps_what_it_says(keep: str, kept: list[str], home: Home) -> None:
    folder = make(home, "one")
    one = planned(home, rule_of(keep))["one"]
    assert names(one.kept) == kept
    assert {*names(one.removed)} == {"step-4", "step-8", "step-12", "step-16"} - {*kept}
    assert one.bytes >= len(one.removed) * SIZE
    size = one.bytes
    assert carry_out(home, one) == size
    assert there(folder) == sorted(kept)
    assert (folder.adapter / "weights").read_bytes() == b"result"
    assert [path.name for path in checkpoints.whole(folder, content=True)] == kept
    assert not planned(home, rule_of(keep)).get("one", Pruned(folder, "one")).removed


@pytest.mark.parametrize("text", ["", "beast", "none,last", "best;last"])
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write best, last, best,last or none"):
        rule_of(text)


def test_a_run_that_can_be_resumed_keeps_its_last(home: Home) -> None:
    make(home, "one", end="failed")
    one = planned(home, frozenset({"best"}))["one"]
    assert names(one.kept) == ["step-8", "step-16"] and "resumed" in one.why


def test_without_a_result_one_checkpoint_stays(home: Home) -> None:
    shutil.rmtree(make(home, "one").adapter)
    one = planned(home, frozenset())["one"]
    assert names(one.kept) == ["step-16"] and "holds what it learned" in one.why


def test_where_nothing_tells_the_best_nothing_goes(home: Home) -> None:
    make(home, "one", best=None)
    one = planned(home, frozenset({"best"}))["one"]
    assert not one.removed and "nothing tells" in one.why
    assert names(planned(home)["one"].kept) == ["step-16"]


def test_the_trainers_own_best_is_kept_beside_the_journals(home: Home) -> None:
    folder = make(home, "one")
    state = folder.checkpoints / "step-16" / "trainer_state.json"
    state.write_text(json.dumps({"best_global_step": 4}))
    checkpoints.write_manifest(folder.checkpoints / "step-16", step=16)
    assert names(planned(home)["one"].kept) == ["step-4", "step-8", "step-16"]


def test_damaged_ones_and_leftovers_go(home: Home) -> None:
    folder = make(home, "one")
    (folder.checkpoints / "step-12" / "weights").write_bytes(b"torn")
    for name in (".tmp-20-77", ".gone-step-2"):
        (folder.checkpoints / name).mkdir()
        (folder.checkpoints / name / "weights").write_bytes(b"half")
    one = planned(home)["one"]
    assert {*names(one.removed)} == {"step-4", "step-12", ".tmp-20-77", ".gone-step-2"}
    carry_out(home, one)
    assert there(folder) == ["step-16", "step-8"]


def test_what_is_to_be_kept_is_read_first(home: Home) -> None:
    folder = make(home, "one")
    with (folder.checkpoints / "step-16" / "weights").open("r+b") as file:
        file.write(b"?")  # as long as before
    with pytest.raises(UserError, match="step-16: is to be kept, and is damaged"):
        carry_out(home, planned(home)["one"])
    assert len(there(folder)) == 4


def test_a_living_run_is_not_touched(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "LOCK_SECONDS", 0.1)
    folder = make(home, "one")
    one = planned(home)["one"]
    held = acquire(folder.lock)
    assert held is not None
    try:
        assert planned(home)["one"].why == "is running" and not planned(home)["one"].removed
        with pytest.raises(UserError, match="is running"):
            carry_out(home, one)
    finally:
        os.close(held)
    assert len(there(folder)) == 4
    carry_out(home, one)
    assert len(there(folder)) == 2


def test_a_run_in_the_queue_is_not_touched(home: Home) -> None:
    folder = make(home, "one", end="stopped")
    one = planned(home)["one"]
    enqueue(home, folder)
    assert planned(home)["one"].why == "waits in the queue"
    with pytest.raises(UserError, match="waits in the queue"):
        carry_out(home, one)
    assert len(there(folder)) == 4


def test_a_run_that_went_on_meanwhile_is_looked_at_again(home: Home) -> None:
    folder = make(home, "one")
    one = planned(home)["one"]
    checkpoint(folder, 20, 20)
    with pytest.raises(UserError, match="other checkpoints by now"):
        carry_out(home, one)
    assert len(there(folder)) == 5


def test_what_a_living_child_goes_on_from_stays(home: Home) -> None:
    parent = make(home, "parent")
    child = make(home, "child")
    identity = child.read_identity() | {"parent": parent.id}
    child.identity.write_text(json.dumps(identity))
    assert names(planned(home, frozenset({"best"}))["parent"].kept) == ["step-8"]
    held = acquire(child.lock)
    assert held is not None
    found = planned(home, frozenset({"best"}))
    os.close(held)
    assert names(found["parent"].kept) == ["step-8", "step-16"]
    assert "another run goes on from it" in found["parent"].why


def test_hard_links_free_nothing_until_the_last_one_goes(home: Home) -> None:
    parent = make(home, "parent")
    child = runs.write_run(home, "child", steps=3)
    last = parent.checkpoints / "step-16"
    hand_over(child, last, None, Forget())
    linked = child.checkpoints / "step-16"
    assert freed([last]) < SIZE, "the child has its weights too"
    assert SIZE <= freed([last, linked]) < 2 * SIZE, "counted once"
    sparse = parent.checkpoints / "step-12" / "hole"
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    assert freed([parent.checkpoints / "step-12"]) < 2 * SIZE, "real blocks"


@pytest.mark.parametrize("at", ["rename", "delete"])
def test_killed_in_the_middle_nothing_half_looks_whole(
    at: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every single rename, and after every single file that was deleted."""
    folder = make(home, "one")
    original = home.path.parent / "original"
    shutil.copytree(folder.checkpoints, original)
    before = {path.name for path in checkpoints.whole(folder, content=True)}
    for moment in range(1, 20):
        shutil.rmtree(folder.checkpoints)
        shutil.copytree(original, folder.checkpoints)
        dies = _Killed(moment)
        with monkeypatch.context() as patch:
            if at == "rename":
                patch.setattr(retention.os, "rename", dies.wrapped(os.rename))
            else:
                patch.setattr(shutil.os, "unlink", dies.wrapped(os.unlink))
            try:
                carry_out(home, planned(home)["one"])
                done = True
            except _Killed.Now:
                done = False
        whole = {path.name for path in checkpoints.whole(folder)}
        assert whole == {path.name for path in checkpoints.whole(folder, content=True)}
        assert {"step-8", "step-16"} <= whole <= before
        for path in folder.checkpoints.iterdir():
            assert path.name.startswith(".") or path.name in whole
        carry_out(home, planned(home)["one"])
        assert there(folder) == ["step-16", "step-8"]
        if done:
            break
    assert done and moment > 2


class _Killed:
    """Dies at the nth call: nothing after it happens, no clearing up either."""

    class Now(BaseException):
        pass

    def __init__(self, moment: int) -> None:
        self.left = moment

    def wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise self.Now
            return real(*values, **named)

        return call


def prune(home: Home, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    command = ["runs", "prune", "--home", str(home.path), "--json", *arguments]
    assert cli.main(command) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_only_tells_until_it_is_told_to(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (make(home, name) for name in ("one", "two", "three"))
    star(home, one.id)
    add_tag(home, two.id, "keep")
    told = prune(home, capsys, "--keep", "best,last")
    assert not told["removed"] and len(told["runs"]) == 3 and told["frees"] >= 6 * SIZE
    assert all(len(there(folder)) == 4 for folder in (one, two, three))
    assert [run["run"] for run in prune(home, capsys, "--keep", "last", "--starred")["runs"]] == [
        one.id
    ]
    by_tag = prune(home, capsys, "--keep", "last", "--tag", "keep")["runs"]
    assert [run["name"] for run in by_tag] == ["two"]
    asked = prune(home, capsys, "--keep", "last", "--where", "name~t and not tag:keep")["runs"]
    assert [run["name"] for run in asked] == ["three"]
    assert cli.main(["runs", "prune", "two", "--keep", "best", "--home", str(home.path)]) == 0
    words = capsys.readouterr().out
    assert "keep best of 1 run: frees" in words and "--yes" in words
    done = prune(home, capsys, "--keep", "best,last", "--starred", "--yes")
    assert done["removed"] and done["frees"] >= 2 * SIZE and done["runs"][0]["removed_now"]
    assert there(one) == ["step-16", "step-8"] and len(there(two)) == 4


def test_the_command_goes_on_past_a_run_that_cannot_be_pruned(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = make(home, "bad"), make(home, "good")
    with (bad.checkpoints / "step-16" / "weights").open("r+b") as file:
        file.write(b"?")
    command = ["runs", "prune", "--keep", "last", "--yes", "--json", "--home", str(home.path)]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    told = {run["name"]: run for run in json.loads(captured.out)["runs"]}
    assert "damaged" in told["bad"]["error"] and "damaged" in captured.err
    assert told["good"]["removed_now"] and there(good) == ["step-16"] and len(there(bad)) == 4


def test_wrong_usage(home: Home) -> None:
    assert cli.main(["runs", "prune", "--keep", "worst", "--home", str(home.path)]) == 2
    with pytest.raises(SystemExit):
        cli.main(["runs", "prune", "--home", str(home.path)])
