"""The queue on its screen: who waits and for what, moved, held and let go by keys; for real."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.home import Home
from engine.jobs import launch, queue
from engine.jobs.create import Plan, create_queued
from engine.jobs.entries import read_entries, read_state
from engine.jobs.folder import RunFolder
from engine.jobs.lock import is_alive
from engine.recipe import load_recipe
from tests.engine.fakes import runs as fakes
from tests.tui.conftest import HOSTILE, NOW, SIZES, FrozenFeed, row, running, settle
from tests.tui.grids import grid
from tests.tui.test_runs import texts
from tests.tui.wares import press, until
from tui import queueacts
from tui.app import WorkbenchApp
from tui.feed import Changed, Snapshot, StoreFeed
from tui.queueacts import Look, Waiting
from tui.screens.confirm import ConfirmScreen
from tui.screens.queue import QueueScreen

MakeApp = Callable[..., WorkbenchApp]

LOOK = Look(
    (
        Waiting("20251122-0805-grid", "grid-r16-lr0.0003", 1,
                "GPU 0 is used by run grid-r16-lr0.0001", 1, 1, NOW - 600),
        Waiting("20251122-0806-grid", "grid-r16-lr0.001", 2, "behind grid-r16-lr0.0003", 3, 1,
                NOW - 500),
        Waiting("20251122-0807-grid", "cpu-run", 3, "behind grid-r16-lr0.001", 1, 0, NOW - 5),
        Waiting("broken", "broken.json", 0, "damaged; passed over"),
    )
)  # fmt: skip
LOOKS = {
    "waiting": LOOK,
    "paused": Look(LOOK.waiting[:1], "paused by hand since 2025-11-22 08:00"),
    "empty": Look(),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("look", LOOKS)
def test_layout(
    look: str,
    size: tuple[int, int],
    frozen_app: MakeApp,
    snap_compare: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def open_it(pilot: Any) -> None:
        await settle(pilot)
        await pilot.press("Q")
        await settle(pilot)

    monkeypatch.setattr(queueacts, "look", lambda home: LOOKS[look])
    details = [running(), *grid()] if look != "empty" else []
    app = frozen_app(*details, mode="runs")
    assert snap_compare(app, terminal_size=size, run_before=open_it)


async def test_hostile_names_and_reasons(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tui.test_hostile import check, hostile_detail

    nasty = Look((Waiting("a", HOSTILE, 1, HOSTILE), Waiting("b", HOSTILE, 0, HOSTILE)), HOSTILE)
    monkeypatch.setattr(queueacts, "look", lambda home: nasty)
    app = frozen_app(hostile_detail("running"), mode="runs")
    for size in SIZES:
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await press(pilot, "right_square_bracket")
            assert isinstance(app.screen, QueueScreen)
            assert check(app).count("EVIL") > 4
            await press(pilot, "D")
            assert "EVIL" in check(app)
        app = frozen_app(hostile_detail("running"), mode="runs")


# --- a real queue


@pytest.fixture
def waiting(home: Home) -> list[RunFolder]:
    """Three runs in a queue that is held."""
    plans = [Plan(load_recipe("demo"), 0, name) for name in "abc"]
    _, folders = create_queued(home, plans, None, exact=True)
    queue.pause(home)
    return folders


@pytest.fixture
def app(frozen_app: MakeApp, waiting: list[RunFolder]) -> WorkbenchApp:
    rows = [row(one.name, "queued", id=one.id, started=None) for one in waiting]
    stopped = row("old", "stopped", ended=NOW)
    return frozen_app(feed=FrozenFeed(Snapshot([*rows, stopped], {}, True)), mode="runs")


def order(home: Home) -> str:
    return "".join(entry.name for entry in read_entries(home)[0])


async def to_queue(pilot: Any) -> QueueScreen:
    await settle(pilot)
    await press(pilot, "Q")
    screen = pilot.app.screen
    assert isinstance(screen, QueueScreen)
    await until(pilot, lambda: screen.seen is not None)
    await settle(pilot)
    return screen


async def test_moving_runs_through_the_queue(app: WorkbenchApp, home: Home) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await to_queue(pilot)
        assert "the queue is paused" in texts(app) and "behind a" in texts(app)
        await pilot.press("J")
        await until(pilot, lambda: order(home) == "bac")
        await until(pilot, lambda: screen.entry is not None and screen.entry.position == 2)
        assert screen.entry is not None and screen.entry.name == "a", "the cursor went along"
        await pilot.press("K")
        await until(pilot, lambda: order(home) == "abc")
        await press(pilot, "G")
        await pilot.press("B")
        await until(pilot, lambda: order(home) == "cab")
        await press(pilot, "plus")
        await until(pilot, lambda: order(home) == "acb")


async def test_taking_off_asks_and_the_run_ends_as_stopped(
    app: WorkbenchApp, home: Home, waiting: list[RunFolder]
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await to_queue(pilot)
        await press(pilot, "j", "D")
        assert isinstance(app.screen, ConfirmScreen) and "Take b off" in texts(app)
        await press(pilot, "y", "enter")
        await until(pilot, lambda: order(home) == "ac")
        assert fakes.state(waiting[1]) == "stopped"


async def test_an_entry_that_cannot_be_read_is_shown_with_its_file(
    app: WorkbenchApp, home: Home, waiting: list[RunFolder]
) -> None:
    waiting[0].queue_entry.write_text('{"run": "')
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await to_queue(pilot)
        assert waiting[0].queue_entry.name[:20] in texts(app) and "damaged; passed over" in texts(
            app
        )
        await press(pilot, "G")
        assert not screen.check_action("earlier", ())
        await press(pilot, "D", "y", "enter")
        await until(pilot, lambda: not waiting[0].queue_entry.exists())
        assert fakes.state(waiting[0]) == "stopped" and order(home) == "bc"


async def test_enter_opens_the_run_and_esc_goes_back_to_the_table(
    app: WorkbenchApp, waiting: list[RunFolder]
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await to_queue(pilot)
        await press(pilot, "j", "enter")
        assert app.screen.chosen().name == "b"  # type: ignore[attr-defined]
        assert app.screen.query_one("#detail").display
        await press(pilot, "escape", "right_square_bracket")
        assert isinstance(app.screen, QueueScreen)
        await press(pilot, "left_square_bracket")
        assert app.screen.query_one("#table").display


# --- runs that really start, by a worker without torch


@pytest.fixture
def scripted(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(launch, "WORKER", fakes.WORKER)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (home.path / "script.json").write_text(json.dumps({"steps": 5, "gate_at": 3}))
    yield home
    for folder in launch.run_folders(home):
        (folder.path / "gate").touch()
    for folder in launch.run_folders(home):
        fakes.wait(lambda f=folder: not is_alive(f), f"the end of {folder.id}")


async def test_space_lets_the_queue_go_on_and_a_run_that_ended_is_put_in(
    app: WorkbenchApp, scripted: Home, waiting: list[RunFolder]
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await to_queue(pilot)
        await press(pilot, "j", "D", "y", "enter")
        await until(pilot, lambda: order(scripted) == "ac")
        await press(pilot, "space")
        await until(pilot, lambda: order(scripted) == "c")
        assert not read_state(scripted).paused and is_alive(waiting[0])
        await until(pilot, lambda: screen.seen and len(screen.seen.waiting) == 1)
        assert "used by run a" in " ".join(texts(app).split())
        said = queueacts.enqueue(scripted, waiting[1].id)
        assert said == "b: number 2 in the queue" and order(scripted) == "cb"
        await press(pilot, "space")
        await until(pilot, lambda: bool(read_state(scripted).paused))
        assert queueacts.stop_all(scripted, [one.id for one in waiting]) == (
            "1 asked to stop, 2 taken off the queue"
        )
        fakes.wait(lambda: not is_alive(waiting[0]), "the end of a")
        assert [fakes.state(one) for one in waiting] == ["stopped"] * 3


@pytest.mark.parametrize("paused", [True, False])
def test_a_workbench_that_is_opened_after_a_restart_goes_on_unless_paused(
    paused: bool, scripted: Home, waiting: list[RunFolder]
) -> None:
    """Nothing runs, entries wait, and the feed is the first one to look."""
    if not paused:
        state_file = scripted.queue / ".state.json"
        state_file.write_text(json.dumps({**json.loads(state_file.read_text()), "paused": ""}))
    seen: list[Changed] = []
    feed = StoreFeed(scripted)
    feed.start(seen.append)
    try:
        if paused:
            fakes.wait(lambda: seen and len(seen[-1].snapshot.rows) == 3, "the history")
            assert order(scripted) == "abc" and not any(map(is_alive, waiting))
        else:
            fakes.wait(lambda: order(scripted) == "bc", "the first run's start")
            fakes.wait(lambda: fakes.state(waiting[0]) == "running", "its worker")
            assert not is_alive(waiting[1]), "one at a time"
    finally:
        feed.stop()
        queue.pause(scripted)
        queueacts.stop_all(scripted, [one.id for one in waiting])


def test_deleting_all_deletes_none_while_one_is_alive(
    scripted: Home, waiting: list[RunFolder]
) -> None:
    from engine.errors import UserError

    queueacts.unpause(scripted)
    ids = [one.id for one in waiting]
    with pytest.raises(UserError, match="is running"):
        queueacts.delete_all(scripted, ids)
    assert all(one.path.exists() for one in waiting)
    queueacts.stop_all(scripted, ids)
    fakes.wait(lambda: not is_alive(waiting[0]), "the end of a")
    assert queueacts.delete_all(scripted, ids) == "3 runs moved to the trash"
    assert not any(one.path.exists() for one in waiting)
