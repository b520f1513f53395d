"""The Runs screen: layouts by snapshot, filter, order, detail and deletion by keys."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.tui.conftest import (
    NOW,
    SIZES,
    STATES,
    FrozenFeed,
    failed,
    finished,
    row,
    running,
    settle,
    snapshot_of,
)
from tui import acts
from tui.app import WorkbenchApp
from tui.feed import Snapshot
from tui.runtable import filtered, in_order
from tui.screens.confirm import ConfirmScreen
from tui.screens.runs import VIEWS
from tui.widgets.rows import Rows

MakeApp = Callable[..., WorkbenchApp]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", [*STATES, "all"])
def test_layout(state: str, size: tuple[int, int], frozen_app: MakeApp, snap_compare: Any) -> None:
    make = STATES.get(state)
    shown = [running(), finished(), failed()] if state == "all" else [make()] if make else []
    app = frozen_app(*shown, mode="runs")
    assert snap_compare(app, terminal_size=size, run_before=settle)


@pytest.mark.parametrize("view", VIEWS)
def test_layout_of_the_detail(view: str, frozen_app: MakeApp, snap_compare: Any) -> None:
    async def turn(pilot: Any) -> None:
        await settle(pilot)
        await pilot.press("enter", *["right_square_bracket"] * VIEWS.index(view))
        await settle(pilot)

    app = frozen_app(finished(), failed(), mode="runs")
    assert snap_compare(app, terminal_size=(80, 24), run_before=turn)


async def test_the_filter_narrows_while_typing_and_esc_clears_it(frozen_app: MakeApp) -> None:
    app = frozen_app(running(), finished(), failed(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        table = app.screen.query_one(Rows)
        assert table.count == 3
        await pilot.press("slash", *"kill")
        await settle(pilot)
        assert table.count == 1
        assert app.current_mode == "runs", "letters and digits are text inside the filter"
        await pilot.press("enter")
        await settle(pilot)
        assert app.screen.chosen().name == "big"  # type: ignore[attr-defined]
        await pilot.press("escape")
        await settle(pilot)
        assert table.count == 3


async def test_the_cursor_stays_on_its_run_when_a_new_one_appears(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(finished(), failed()))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("j")
        await settle(pilot)
        assert app.screen.chosen().name == "big"  # type: ignore[attr-defined]
        feed.say(snapshot_of(running(), finished(), failed()))
        await settle(pilot)
        assert app.screen.chosen().name == "big"  # type: ignore[attr-defined]
        assert app.screen.query_one(Rows).cursor == 2


async def test_deleting_asks_and_only_ended_runs_can_be(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(acts, "delete_run", lambda home, id: gone.append(id))
    app = frozen_app(running(), finished(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("D")
        await settle(pilot)
        assert not isinstance(app.screen, ConfirmScreen), "the first run is alive"
        await pilot.press("j", "D")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("y", "enter")
        await settle(pilot)
        assert gone == [finished().row.id]


async def test_a_deleted_run_closes_its_detail(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(finished(), failed()))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert feed.watched == {finished().row.id}
        feed.say(snapshot_of(failed()))
        await settle(pilot)
        assert app.screen.query_one(Rows).display and app.screen.query_one(Rows).count == 1
        assert feed.watched == frozenset()


async def test_ten_thousand_runs_cost_what_is_in_sight(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(f"run-{number}", "finished", ended=NOW) for number in range(10_000)]
    app = frozen_app(feed=FrozenFeed(Snapshot(rows, {}, True)), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        asked: list[int] = []
        table = app.screen.query_one(Rows)
        cells = table._row
        monkeypatch.setattr(table, "_row", lambda index: asked.append(index) or cells(index))
        await pilot.press("G")
        await settle(pilot)
        assert table.cursor == 9_999
        assert asked and set(asked) <= set(range(9_950, 10_000))


def test_filter_and_orders() -> None:
    rows = [running().row, finished().row, failed().row]
    assert [one.name for one in filtered(rows, "DEMO fin")] == ["demo"]
    assert filtered(rows, "") == rows and filtered(rows, "nothing like it") == []
    assert [one.name for one in in_order(rows, "best")] == ["demo", "big", "demo-2"]
    assert [one.name for one in in_order(rows, "name")] == ["big", "demo", "demo-2"]
    assert [one.state for one in in_order(rows, "state")] == ["running", "finished", "killed"]
