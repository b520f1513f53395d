"""Sweeps on the Runs screen: one line that opens, a page of their own, actions on all runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.tui.conftest import (
    NOW,
    SIZES,
    FrozenFeed,
    finished,
    row,
    running,
    settle,
    snapshot_of,
)
from tests.tui.grids import grid, many
from tests.tui.test_runs import texts
from tui import acts, queueacts
from tui.app import WorkbenchApp
from tui.feed import RunDetail, Snapshot
from tui.runcolumns import Look, column_named
from tui.runquestion import Asked
from tui.runtable import Group, in_order, key_of, lines
from tui.screens.confirm import ConfirmScreen
from tui.widgets.chart import Chart
from tui.widgets.rows import Rows

MakeApp = Callable[..., WorkbenchApp]


def shown() -> list[RunDetail]:
    return [running(), *grid(), finished()]


def with_keys(*keys: str) -> Callable[[Any], Any]:
    async def press(pilot: Any) -> None:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)

    return press


LAYOUTS = {
    "closed": ("j",),
    "open": ("j", "space"),
    "validation": ("j", "enter"),
    "train": ("j", "enter", "right_square_bracket"),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout: str, size: tuple[int, int], frozen_app: MakeApp, snap_compare: Any) -> None:
    app = frozen_app(*shown(), mode="runs")
    assert snap_compare(app, terminal_size=size, run_before=with_keys(*LAYOUTS[layout]))


# --- the table


def named(snapshot: Snapshot, wanted: str = "", order: str = "created", *opened: str) -> list[str]:
    return [
        f"[{line.sweep.id} {len(line.shown)}]" if isinstance(line, Group) else line.name
        for line in made(snapshot, wanted, order, *opened)
    ]


def made(snapshot: Snapshot, wanted: str, order: str, *opened: str) -> list[Any]:
    asked = Asked()
    asked.write(wanted, snapshot)
    rows = asked.select(snapshot)
    column = None if order == "created" else column_named(order, set())
    rows = in_order(rows, column, Look(NOW, snapshot.facts))
    return lines(snapshot, rows, "sweep", set(opened), wanted, order)


def best_first() -> list[str]:
    rows = [one.row for one in grid()]
    column = column_named("best_eval_loss", set())
    return [one.id for one in in_order(rows, column, Look(NOW, Snapshot().facts))]


def test_a_sweep_is_one_line_where_its_newest_run_would_be() -> None:
    snapshot = snapshot_of(*shown())
    assert named(snapshot) == ["demo-2", "[grid 8]", "demo"]
    opened = named(snapshot, "", "created", "grid")
    assert opened[:4] == ["demo-2", "[grid 8]", "grid-r8-lr0.0001", "grid-r8-lr0.0003"]
    assert len(opened) == 11


def test_a_sweep_sorts_by_its_best_run_its_name_and_its_liveliest_state() -> None:
    other = [replace(one.row, best_eval_loss=3.5) for one in grid("zoo")]
    snapshot = Snapshot([running().row, *other, *(one.row for one in grid()), finished().row])
    assert named(snapshot, "", "best_eval_loss") == ["[grid 8]", "demo", "demo-2", "[zoo 8]"]
    assert named(snapshot, "", "name") == ["demo", "demo-2", "[grid 8]", "[zoo 8]"]
    assert named(snapshot, "", "name", "grid")[2:4] == ["[grid 8]", "grid-r16-lr0.0001"]
    by_state = named(snapshot, "", "state")
    assert by_state.index("[grid 8]") < by_state.index("demo")
    inside = [
        one for one in made(snapshot, "", "best_eval_loss", "grid") if key_of(one)[0] == "run"
    ]
    assert [one.id for one in inside[:8]] == best_first()


def test_the_filter_finds_sweeps_by_name_and_by_their_runs_and_then_opens_them() -> None:
    snapshot = snapshot_of(*shown())
    assert named(snapshot, "grid") == ["[grid 8]"], "by its own name: it stays closed"
    assert named(snapshot, "r16 queued") == [
        "[grid 3]", "grid-r16-lr0.0003", "grid-r16-lr0.001", "grid-r16-lr0.003",
    ]  # fmt: skip
    assert named(snapshot, "demo") == ["demo-2", "demo"]


async def test_it_opens_and_closes_and_the_cursor_stays_where_it_belongs(
    frozen_app: MakeApp,
) -> None:
    app = frozen_app(*shown(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        table = app.screen.query_one("#table", Rows)
        for opening, closing in (("l", "h"), ("space", "h"), ("right", "left")):
            await pilot.press("home", "j", opening)
            await settle(pilot)
            assert table.count == 11 and table.cursor == 1
            await pilot.press("j", "j")
            await settle(pilot)
            assert app.screen.chosen().name == "grid-r8-lr0.0003"  # type: ignore[attr-defined]
            await pilot.press(closing)
            await settle(pilot)
            assert table.count == 3 and table.cursor == 1, "closed from one of its runs"
            assert app.screen.group().id == "grid"  # type: ignore[attr-defined]


async def test_enter_shows_the_sweep_then_a_run_and_esc_goes_back_the_same_way(
    frozen_app: MakeApp,
) -> None:
    feed = FrozenFeed(snapshot_of(*shown()))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("j", "enter")(pilot)
        best = best_first()
        assert len(feed.watched) == 6 and set(best[:5]) <= feed.watched
        names = [line.name for line in app.screen.query_one("#losses", Chart).lines]
        assert names[:2] == ["r=8 lr=3e-3", "r=8 lr=3e-4"] and len(names) == 5
        await with_keys("j")(pilot)
        assert app.screen.check_action("repeat", ()) and app.screen._one.id == best[1]  # type: ignore[attr-defined]
        await with_keys("enter")(pilot)
        assert feed.watched == {best[1]}
        await with_keys("escape", "escape")(pilot)
        assert app.screen.query_one("#table").display
        assert app.screen.group().id == "grid"  # type: ignore[attr-defined]


async def test_a_deleted_sweep_closes_its_page(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(*shown()))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("j", "enter")(pilot)
        feed.say(snapshot_of(running()))
        await settle(pilot)
        assert app.screen.query_one("#table", Rows).count == 1
        assert app.screen.query_one("#table").display


async def test_sixty_four_runs_and_ten_thousand_are_shown_at_once(frozen_app: MakeApp) -> None:
    snapshot = many(64)
    rest = [row(f"run-{n}", "finished", id=f"id-{n}", ended=NOW) for n in range(10_000)]
    app = frozen_app(
        feed=FrozenFeed(Snapshot([*snapshot.rows, *rest], snapshot.details, True)), mode="runs"
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await with_keys("home", "space")(pilot)
        assert app.screen.query_one("#table", Rows).count == 10_065
        await with_keys("enter", "right_square_bracket")(pilot)
        assert app.screen.query_one("#points", Rows).count == 64
        assert len(app.screen.query_one("#losses", Chart).lines) == 6


# --- all runs at once


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What was done, instead of doing it."""
    found: list[tuple[str, list[str]]] = []

    def put(name: str) -> None:
        def act(home: Any, ids: list[str]) -> str:
            found.append((name, list(ids)))
            return "done"

        monkeypatch.setattr(queueacts, name, act)

    for name in ("stop_all", "delete_all", "take_off", "enqueue_all"):
        put(name)
    monkeypatch.setattr(acts, "folder_bytes", lambda path: 1 << 20)
    return found


@pytest.mark.parametrize(
    ("key", "what", "count", "words"),
    [
        ("X", "stop_all", 4, ("Stop 4 runs of grid?", "1 running:", "3 waiting:")),
        ("U", "take_off", 3, ("Take 3 runs of grid off the queue?",)),
    ],
)
async def test_what_ends_runs_asks_and_says_how_many(
    key: str, what: str, count: int, words: tuple[str, ...], frozen_app: MakeApp,
    done: list[tuple[str, list[str]]],
) -> None:  # fmt: skip
    app = frozen_app(*shown(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("j", "D")(pilot)
        assert not isinstance(app.screen, ConfirmScreen), "one of them runs"
        await with_keys(key)(pilot)
        assert all(one in texts(app) for one in words), texts(app)
        await with_keys("escape")(pilot)
        assert done == []
        await with_keys(key, "y", "enter")(pilot)
        [(name, ids)] = done
        assert (name, len(ids)) == (what, count)


async def test_deleting_a_sweep_says_how_many_and_how_much(
    frozen_app: MakeApp, done: list[tuple[str, list[str]]]
) -> None:
    snapshot = many(12)
    app = frozen_app(feed=FrozenFeed(snapshot), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("D")(pilot)
        assert "Delete all 12 runs of grid?" in texts(app) and "12 MiB" in texts(app)
        await with_keys("y", "enter")(pilot)
        assert [(name, len(ids)) for name, ids in done] == [("delete_all", 12)]


async def test_a_run_that_waits_is_not_stopped_but_taken_off(
    frozen_app: MakeApp, done: list[tuple[str, list[str]]]
) -> None:
    app = frozen_app(*shown(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await with_keys("j", "l", *["j"] * 8, "K")(pilot)
        assert not isinstance(app.screen, ConfirmScreen), "nothing to kill"
        await with_keys("X")(pilot)
        assert "off the queue?" in texts(app)
        await with_keys("y", "enter")(pilot)
        assert done == [("take_off", [grid()[0].row.id])]
