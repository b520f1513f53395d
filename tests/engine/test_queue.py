"""The queue: one run after the other, each on devices of its own, whoever dies on the way."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from engine import cli
from engine.errors import UsageError, UserError
from engine.history.follow import state_of
from engine.history.ingest import ingest_all
from engine.history.queries import list_runs
from engine.history.store import open_store
from engine.home import Home
from engine.jobs import child, create, dispatch, entries, launch, leases, processes, queue, trash
from engine.jobs.create import Plan, create_queued
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.lock import has_supervisor, is_alive, is_held
from engine.recipe import load_recipe
from tests.engine.fakes import cards, runs

GIB = 1 << 30


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "WORKER", runs.WORKER)
    for module in ("train", "queue"):
        monkeypatch.setattr(f"engine.commands.{module}.check_model", lambda recipe: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = os.umask(0o077)
    yield
    os.umask(before)


def add(home: Home, *names: str, gpus: int = 0, visible: str | None = None) -> list[RunFolder]:
    plans = [Plan(load_recipe("demo"), gpus, name) for name in names]
    return create_queued(home, plans, visible, exact=True)[1]


def go(*folders: RunFolder) -> None:
    for folder in folders:
        (folder.path / "gate").touch()


def waits(home: Home) -> list[tuple[str, str]]:
    return [(place.entry.name, place.waits_for) for place in queue.listing(home).places]


def workers(folder: RunFolder) -> int:
    """How many workers the run ever had."""
    return len([event for event in runs.events(folder, "state") if "pid" in event])


def visible(folder: RunFolder) -> str | None:
    """CUDA_VISIBLE_DEVICES of the run's worker."""
    environment = Path(f"/proc/{runs.worker_pid(folder)}/environ").read_bytes().split(b"\0")
    found = [word.partition(b"=")[2] for word in environment if word.startswith(b"CUDA_VIS")]
    return found[0].decode() if found else None


def dispatcher(home: Home, *more: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "engine.jobs.dispatch", str(home.path)]
    return subprocess.Popen(
        [*command, "--worker", runs.WORKER, *more], env=child.environment(), start_new_session=True
    )


def shell(home: Home, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    try:
        status = cli.main([*words, "--home", str(home.path), "--json"])
    except SystemExit as exit:
        status = int(str(exit.code))
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def test_one_after_the_other_and_nobody_stays(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, gate_at=3, steps=5)
    found = a, b, _ = add(home, "a", "b", "c")
    assert runs.state(b) == "queued" and waits(home)[0] == ("a", "")
    assert dispatch.dispatch(home).started == ["a"]
    assert waits(home) == [("b", "the CPU is used by run a"), ("c", "behind b")]
    runs.wait_for_state(a, "running")
    assert dispatch.dispatch(home).started == [], "one at a time"
    holder = runs.worker_pid(a)
    assert processes.holds_file(holder, home.queue / "leases" / "cpu")
    go(*found)
    rows = [runs.wait(lambda f=f: f.queue_entry.exists() or runs.ended(f), f.id) for f in found]
    runs.wait(lambda: not entries.names(home.queue), "an empty queue")  # supervisors dispatch
    rows = [runs.ended(folder) for folder in found]
    assert [row.state for row in rows] == ["finished"] * 3
    for before, after in pairwise(rows):
        assert (before.ended or 0) <= (after.started or 0)
    assert [workers(folder) for folder in found] == [1, 1, 1]
    log = (home.queue / "dispatch.log").read_text()
    assert [line.split()[2] for line in log.splitlines()] == ["a", "b", "c"], log


def test_each_run_has_gpus_of_its_own_and_none_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards.put(monkeypatch, tmp_path, cards.card(0), cards.card(1))
    home = runs.make_home(tmp_path, gate_at=3, steps=5)
    [a] = add(home, "a", gpus=1)
    [both] = add(home, "both", gpus=2)
    [small] = add(home, "small", gpus=1)
    assert dispatch.dispatch(home).started == ["a"]
    assert waits(home) == [
        ("both", "it wants 2 GPUs, 1 of 2 free: GPU 0 is used by run a"),
        ("small", "behind both"),
    ]
    assert visible(a) == "GPU-0000"
    go(a)
    runs.wait(lambda: not both.queue_entry.exists(), "the start of the big one")
    assert visible(both) == "GPU-0000,GPU-0001"
    assert waits(home) == [("small", "GPU 0 is used by run both; GPU 1 is used by run both")]
    go(both, small)
    assert runs.ended(both).state == "finished"
    runs.wait(lambda: not small.queue_entry.exists(), "the start of the last")
    assert runs.ended(small).state == "finished"


def test_a_gpu_that_others_use_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = cards.card(0, used=12 * GIB, processes=[[1234, 12 * GIB]])
    cards.put(monkeypatch, tmp_path, used)
    home = runs.make_home(tmp_path, steps=2)
    [a] = add(home, "a", gpus=1)
    assert dispatch.dispatch(home, watch=False).foreign
    assert waits(home) == [("a", "GPU 0 is used by process 1234 python3 (12.0 GiB)")]
    watcher = dispatcher(home, "--seconds", "0.02")
    runs.wait(lambda: is_held(home.queue / ".watch"), "a dispatcher that stays")
    assert dispatch.dispatch(home).foreign and a.queue_entry.exists()
    cards.put(monkeypatch, tmp_path, cards.card(0, used=GIB // 4, processes=[[7, GIB // 4]]))
    assert watcher.wait(20) == 0
    assert runs.ended(a).state == "finished"


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        (None, ["GPU 0", "GPU 1 part 0", "GPU 1 part 1"]),
        ("", []),
        ("1", ["GPU 1 part 0"]),
        ("GPU-0000", ["GPU 0"]),
        ("MIG-b, GPU-0", ["GPU 1 part 1", "GPU 0"]),
        ("0,7,MIG-a", ["GPU 0"]),
        ("0,0", ["GPU 0"]),
        ("-1", []),
    ],
)
def test_visible_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str | None, wanted: list[str]
) -> None:
    cut = cards.card(1, parts=[{"uuid": "MIG-a"}, {"uuid": "MIG-b"}])
    cards.put(monkeypatch, tmp_path, cards.card(0), cut)
    assert [device.words for device in leases.devices(word)] == wanted


def test_what_is_in_use_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards.put(
        monkeypatch,
        tmp_path,
        cards.card(0, used=30 * GIB),  # a container hides the processes
        cards.card(1, used=3 * GIB, processes=[[8, None], [9, GIB]]),
        cards.card(2, used=GIB),
    )
    used = [device.used for device in leases.devices(None)]
    assert used == [
        "somebody (30.0 GiB)",
        "process 9 python3 (1.0 GiB) and 1 more",
        "",
    ]


def test_more_gpus_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = cards.card(1, parts=[{"uuid": "MIG-a"}, {"uuid": "MIG-b"}])
    cards.put(monkeypatch, tmp_path, cards.card(0), cut)
    home = runs.make_home(tmp_path)
    for words in (["train", "demo", "--queue"], ["train", "demo"]):
        status, _, err = shell(home, capsys, *words, "--set", "train.num_processes=2")
        assert status == 2 and "wants 2 GPUs, there are 1" in err
    assert launch.run_folders(home) == [] and entries.names(home.queue) == []
    assert leases.wanted("cpu", 8, None) == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert leases.wanted("auto", 8, "") == 0, "no GPU: the one CPU lease"
    [a] = add(home, "a", gpus=3)  # two of them have gone since
    assert dispatch.dispatch(home, watch=False).started == [] and a.queue_entry.exists()
    assert waits(home) == [("a", "it wants 3 GPUs, there is 1")]


def test_started_by_hand_it_takes_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.data.prepare.check_source", lambda recipe: None)
    cards.put(monkeypatch, tmp_path, cards.card(0), cards.card(1, used=9 * GIB))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    home = runs.make_home(tmp_path, gate_at=3, steps=5)
    _, document, _ = shell(home, capsys, "train", "demo", "--detach", "--name", "one")
    one = launch.find_run(home, document["run"])
    assert visible(one) == "GPU-0000", "the one that nobody uses, of those it may use"
    _, document, _ = shell(home, capsys, "train", "demo", "--detach", "--name", "two")
    two = launch.find_run(home, document["run"])
    assert visible(two) == "GPU-0001", "somebody else uses it: that is for the user to know"
    status, _, err = shell(home, capsys, "train", "demo", "--detach", "--name", "three")
    assert status == 2
    assert "GPU 1 is used by run two; GPU 0 is used by run one" in err
    assert "--queue" in err and "--now" in err
    assert len(launch.run_folders(home)) == 2, "nothing was made"
    _, document, _ = shell(home, capsys, "train", "demo", "--detach", "--name", "three", "--now")
    three = launch.find_run(home, document["run"])
    assert visible(three) == "GPU-0001"
    go(one, two, three)
    assert {runs.ended(folder).state for folder in (one, two, three)} == {"finished"}


def test_many_dispatchers_start_each_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards.put(monkeypatch, tmp_path, *(cards.card(number) for number in range(3)))
    home = runs.make_home(tmp_path, gate_at=1, steps=1)
    found = add(home, "a", "b", "c", "d", gpus=1)
    many = [dispatcher(home) for _ in range(4)]
    assert [one.wait(60) for one in many] == [0] * 4
    runs.wait(lambda: all(workers(folder) for folder in found[:3]), "three workers")
    assert sorted(str(visible(folder)) for folder in found[:3]) == [
        *("GPU-0000", "GPU-0001", "GPU-0002")
    ]
    go(*found)
    runs.wait(lambda: not found[3].queue_entry.exists(), "the fourth")
    assert [runs.ended(folder).state for folder in found] == ["finished"] * 4
    assert [workers(folder) for folder in found] == [1] * 4


def _die_at(line: int) -> None:
    """SIGKILL this process at the given line, counted in the modules that dispatch."""
    seen = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if Path(frame.f_code.co_filename).name not in ("dispatch.py", "launch.py", "entries.py"):
            return None
        seen += event == "line"
        if seen == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def test_killed_dispatchers_lose_and_double_nothing(tmp_path: Path) -> None:
    found: list[RunFolder] = []
    line, killed_before, killed_after = random.randint(20, 60), 0, 0
    while True:
        home = runs.make_home(tmp_path / str(line), gate_at=1, steps=1)
        [folder] = add(home, "a")
        pid = os.fork()
        if pid == 0:
            _die_at(line)
            try:
                dispatch.dispatch(home)
            finally:
                sys.settrace(None)
                os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        killed_before += killed and not is_alive(folder)
        killed_after += killed and is_alive(folder)
        dispatch.dispatch(home)
        assert is_alive(folder) and not folder.queue_entry.exists()
        go(folder)
        found.append(folder)
        if not killed:
            break
        line += random.randint(6, 9)
    assert killed_before > 3 and killed_after > 3
    assert [runs.ended(folder).state for folder in found] == ["finished"] * len(found)
    assert [workers(folder) for folder in found] == [1] * len(found)


def test_dying_between_start_and_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = runs.make_home(tmp_path, gate_at=1, steps=1)
    [a] = add(home, "a")
    with monkeypatch.context() as patched:
        patched.setattr(entries, "remove", lambda home, run: sys.exit("killed here"))
        with pytest.raises(SystemExit):
            dispatch.dispatch(home)
    assert a.queue_entry.exists() and is_alive(a)
    assert waits(home) == [], "it runs"
    assert dispatch.dispatch(home).started == [] and not a.queue_entry.exists()
    go(a)
    assert runs.ended(a).state == "finished" and workers(a) == 1
    entries.put(home.queue, entries.Entry(a.id, "a"))  # and when it had ended by then
    assert dispatch.dispatch(home).started == [] and not a.queue_entry.exists()
    assert workers(a) == 1


@pytest.mark.parametrize("victims", ["supervisor", "worker", "both"])
def test_killed_runs_let_the_next_one_start(tmp_path: Path, victims: str) -> None:
    home = runs.make_home(tmp_path, gate_at=2, steps=2)
    a, b = add(home, "a", "b")
    dispatch.dispatch(home)
    runs.wait_for_state(a, "running")
    worker = runs.worker_pid(a)
    supervisor = next(
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if processes.holds_file(pid, a.supervisor_lock)
    )
    if victims != "worker":
        os.kill(supervisor, signal.SIGKILL)
        runs.wait(lambda: not has_supervisor(a), "the supervisor's end")
        assert is_held(home.queue / "leases" / "cpu"), "the worker holds the lease"
        assert dispatch.dispatch(home).started == []
    if victims != "supervisor":
        os.kill(worker, signal.SIGKILL)
    go(a, b)
    assert (
        runs.ended(a).state
        == {
            "supervisor": "finished",
            "worker": "killed",
            "both": "lost",
        }[victims]
    )
    if victims == "both":
        assert dispatch.dispatch(home).started == ["b"], "the kernel has freed the lease"
    runs.wait(lambda: not b.queue_entry.exists(), "the next run")
    assert runs.ended(b).state == "finished"


def test_damaged_and_deleted_entries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = runs.make_home(tmp_path)
    a, b, c = add(home, "a", "b", "c")
    a.queue_entry.write_text('{"run": "half')
    trash.delete_run(home, b)
    assert not b.queue_entry.exists()
    entries.put(home.queue, entries.Entry("20200101-000000-abcd", "gone", order=0.5))
    status, document, err = shell(home, capsys, "queue", "pause")
    assert status == 0 and document["paused"].startswith("paused by hand")
    assert [entry["name"] for entry in document["entries"]] == ["c"]
    assert str(a.queue_entry) in err and "damaged" in err
    assert waits(home) == [("c", "the queue is paused")]
    assert dispatch.dispatch(home).started == []
    status, document, _ = shell(home, capsys, "queue", "run")
    assert status == 1 and document["entries"], "paused stays paused"
    shell(home, capsys, "queue", "resume")
    assert runs.ended(c).state == "finished"
    assert a.queue_entry.exists(), "kept"
    assert sorted(entries.names(home.queue)) == [f"{a.id}.json"]
    shell(home, capsys, "queue", "rm", "a")
    assert not a.queue_entry.exists() and state_of(a).state == "stopped"


def test_off_the_queue_and_through_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = runs.make_home(tmp_path, steps=3)
    queue.pause(home)
    a, b = add(home, "a", "b")
    status, document, _ = shell(home, capsys, "queue", "rm", "a")
    assert status == 0 and document == {"taken_off": [{"run": a.id, "name": "a"}]}
    row = state_of(a)
    assert (row.state, row.reason, row.step) == ("stopped", "taken off the queue", None)
    status, _, err = shell(home, capsys, "queue", "rm", "a")
    assert status == 1 and "not in the queue" in err
    status, document, _ = shell(home, capsys, "stop", "b")
    assert status == 0 and document["state"] == "stopped" and not b.queue_entry.exists()
    status, document, _ = shell(home, capsys, "resume", "a", "--queue")
    assert status == 0 and document["position"] == 1
    status, _, err = shell(home, capsys, "queue", "add", "a")
    assert status == 1 and "in the queue already" in err
    status, _, err = shell(home, capsys, "resume", "a")
    assert status == 1 and "waits in the queue" in err
    store = open_store(home)
    ingest_all(home, store)
    assert {row.name: row.state for row in list_runs(store)} == {"a": "queued", "b": "stopped"}
    store.close()
    shell(home, capsys, "queue", "resume")
    row = runs.ended(a)
    assert (row.state, row.attempt, row.step) == ("finished", 2, 3)
    status, _, err = shell(home, capsys, "resume", "a", "--queue")
    assert status == 1 and "finished" in err


def test_a_child_run_through_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = runs.make_home(tmp_path, fail_at=7, fail="crash", steps=10)
    [a] = add(home, "a")
    dispatch.dispatch(home)
    assert runs.ended(a).state == "failed"
    words = ["resume", "a", "--yes", "--set", "train.max_steps=9", "--name", "b"]
    with monkeypatch.context() as patched:
        cards.put(patched, tmp_path, cards.card(0))
        lease = leases.take(home, 1, None)
        assert isinstance(lease, leases.Leases)
        status, _, err = shell(home, capsys, *words)
        assert status == 2 and "GPU 0 is used by another run" in err
        assert len(launch.run_folders(home)) == 1, "no child was made"
        lease.close()
    runs.make_home(tmp_path, steps=10)
    status, document, _ = shell(home, capsys, *words, "--queue")
    b = launch.find_run(home, "b")
    assert status == 0 and document["run"] == b.id
    row = runs.ended(b)
    assert (row.state, row.attempt, row.resume_step, row.step) == ("finished", 1, 5, 10)
    assert b.read_identity()["parent"] == a.id


def test_a_run_or_a_recipe_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.prepare.check_source", lambda recipe: None)
    home = runs.make_home(tmp_path)
    queue.pause(home)
    _, document, _ = shell(home, capsys, "queue", "add", "demo")
    assert (document["name"], document["position"]) == ("demo", 1)
    status, _, err = shell(home, capsys, "queue", "add", "demo")
    assert status == 2 and "a run and a recipe" in err
    _, document, _ = shell(home, capsys, "train", "demo", "--queue")
    assert (document["name"], document["waits_for"]) == ("demo-2", "behind demo")
    status, _, err = shell(home, capsys, "queue", "add", "nothing")
    assert status == 1 and "no run 'nothing'" in err


def test_places(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path)
    queue.pause(home)
    found = dict(zip("abcd", add(home, *"abcd"), strict=True))

    def order() -> str:
        return "".join(entry.name for entry in entries.read_entries(home)[0])

    for name, where, wanted in (
        ("c", "first", "cabd"),
        ("c", "last", "abdc"),
        ("c", "up", "abcd"),
        ("a", "up", "abcd"),
        ("b", "down", "acbd"),
        ("d", "2", "adcb"),
        ("a", "99", "dcba"),
    ):
        assert queue.move(home, found[name], where) == wanted.index(name) + 1
        assert order() == wanted
    for _ in range(70):  # halving the distance each time: floats come to their end
        [*_, third, last] = order()
        queue.move(home, found[last], "up")
        assert order().endswith(last + third)
    for where in ("0", "-1", "middle", "²"):
        with pytest.raises(UsageError, match="write first, last"):
            queue.move(home, found["a"], where)
    queue.take_off(home, found["a"])
    with pytest.raises(UserError, match="not in the queue"):
        queue.move(home, found["a"], "first")


def test_renumbering_keeps_the_order_however_far_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = runs.make_home(tmp_path)
    for name, order in (("a", -3.0), ("b", 1.0), ("c", 1.5), ("d", 1.75)):
        entries.put(home.queue, entries.Entry(name, name, order=order))
    real, states = entries.put, []

    def put(folder: Path, entry: entries.Entry) -> None:
        real(folder, entry)
        states.append("".join(each.name for each in entries.read_entries(home)[0]))

    monkeypatch.setattr(entries, "put", put)
    entries.renumber(home)
    assert states == ["abcd"] * 4
    assert [entry.order for entry in entries.read_entries(home)[0]] == [2.75, 3.75, 4.75, 5.75]


def test_three_failures_at_once_pause_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = runs.make_home(tmp_path, fail_at=1, fail="disk", steps=2)
    add(home, *"abcde")
    status, document, err = shell(home, capsys, "queue", "run", "--wait")
    assert status == 1 and [entry["name"] for entry in document["entries"]] == ["d", "e"]
    assert "3 runs in a row failed" in document["paused"] and "(a, b, c)" in document["paused"]
    assert "queue resume" in err
    runs.make_home(tmp_path, steps=2)
    shell(home, capsys, "queue", "resume")
    status, document, _ = shell(home, capsys, "queue", "run", "--wait")
    assert (status, document["entries"], document["running"]) == (0, [], [])
    ends = {state_of(folder).name: state_of(folder).state for folder in launch.run_folders(home)}
    assert ends == dict.fromkeys("abc", "failed") | dict.fromkeys("de", "finished")


def test_what_counts_as_a_failure_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = runs.make_home(tmp_path)
    state = entries.State()
    clock = {"now": time.time()}
    monkeypatch.setattr("engine.jobs.journal.time.time", lambda: clock["now"])

    def ended(name: str, seconds: float, *events: tuple[str, dict[str, Any]]) -> list[str]:
        folder = runs.launch.create_run(home, load_recipe("demo"), name)
        journal = Journal(folder.journal)
        journal.append("state", state="starting", phase="starting")
        clock["now"] += seconds
        for type, fields in events:
            journal.append(type, **fields)
        journal.close()
        state.started[folder.id] = 1
        dispatch._account(home, state)
        assert state.started == {}
        return state.failed

    failed = ("state", {"state": "failed", "reason": "x"})
    assert ended("a", 10, failed) == ["a"]
    assert ended("b", 90, failed) == [], "it worked for longer than a minute"
    assert ended("c", 10, failed) == ["c"]
    kill = ("control", {"action": "kill"})
    exit = ("exit", {"exit_code": None, "signal": 9, "signal_name": "SIGKILL"})
    assert ended("d", 1, kill, exit) == [], "somebody wanted that"
    assert ended("e", 1, exit) == ["e"]
    assert ended("f", 1, ("state", {"state": "stopped"})) == []
    for name in "ghi":
        assert not state.paused
        ended(name, 1, failed)
    assert "(g, h, i)" in state.paused


def test_a_run_that_cannot_be_started_stands_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = runs.make_home(tmp_path, steps=1)
    a, b = add(home, "a", "b")
    a.log.mkdir()  # cannot be opened, not even by root
    assert dispatch.dispatch(home).started == ["b"]
    row = state_of(a)
    assert row.state == "failed" and "could not be started" in (row.reason or "")
    assert entries.read_state(home).failed == ["a"]
    assert runs.ended(b).state == "finished"


def test_a_home_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = runs.make_home(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("engine.jobs.lock.fcntl.flock", refuse)
    for action in (lambda: queue.pause(home), lambda: dispatch.dispatch(home)):
        with pytest.raises(UserError, match=r"file locks do not work here .*--home"):
            action()
    with pytest.raises(UserError, match="file locks do not work"):
        add(home, "a")


def test_who_looks_starts_what_waits(tmp_path: Path) -> None:
    home = runs.make_home(tmp_path, steps=1)
    [a] = add(home, "a")
    store = open_store(home)
    ingest_all(home, store)
    assert not a.queue_entry.exists()
    assert runs.ended(a).state == "finished"
    store.close()


def test_files_of_the_recipe_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever frees a device starts the next run, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path("rule.py").write_text("def rule(prompt, completion): return True")
    settings = ['clean.rules=["python"]', "clean.python.file=rule.py"]
    recipe = create.as_kept(load_recipe("demo", settings))
    assert recipe.clean.python.file == str(tmp_path / "rule.py")
    assert recipe.data.source == "builtin:catalogue"


def test_made_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = runs.make_home(tmp_path)
    queue.pause(home)
    real, calls = os.rename, 0

    def counted(*paths: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)

    made = []
    for last in range(1, 16):
        pid = os.fork()
        if pid == 0:
            os.rename = counted
            add(home, *(f"{name}{last}" for name in "abc"))
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        before = {entry.name for entry in entries.read_entries(home)[0]}
        with entries.hold(home):
            create.settle(home)
        mine = [e.name for e in entries.read_entries(home)[0] if e.name.endswith(f"{last}")]
        names = [folder.read_identity()["name"] for folder in launch.run_folders(home)]
        mine = [name for name in mine if name[1:] == str(last)]
        assert mine in ([], [f"{name}{last}" for name in "abc"]), (last, before)
        assert sorted(mine) == sorted(name for name in names if name[1:] == str(last))
        assert not list(home.runs.glob(".*queued-*"))
        made.append((killed, bool(mine)))
        if not killed:
            break
    assert made[0] == (True, False) and (True, True) in made and made[-1] == (False, True)


def test_which_run_took_a_gpu_last(tmp_path: Path) -> None:
    home = Home(tmp_path)
    folder = home.queue / "leases"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "GPU-1").write_text('{"run": "20260101-0000-one", "name": "one"}')
    (folder / "GPU-2").write_text("")
    assert leases.run_on(home, "GPU-1") == "20260101-0000-one"
    assert leases.run_on(home, "GPU-2") is None and leases.run_on(home, "GPU-3") is None
