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
from tests.tui.grids import child, out_of_memory
from tui import acts, historyacts, queueacts
from tui.app import WorkbenchApp
from tui.feed import Snapshot
from tui.runcolumns import Look, column_named
from tui.runquestion import Asked
from tui.runtable import in_order
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


async def test_no_key_is_about_a_run_that_is_gone_with_all_others(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of an empty history is not shown, nor made anew: its last line stays in it."""
    done: list[str] = []
    monkeypatch.setattr(historyacts, "mark", lambda home, what, ids, on: done.append(what) or "")
    feed = FrozenFeed(snapshot_of(finished()))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        feed.say(snapshot_of())
        await settle(pilot)
        assert app.screen.chosen() is None  # type: ignore[attr-defined]
        for key in ("s", "a", "D", "r", "e", "t"):
            await pilot.press(key)
            await settle(pilot)
            assert len(app.screen_stack) == 1 and not done, key
        feed.say(snapshot_of(finished()))
        await settle(pilot)
        assert app.screen.chosen().name == finished().row.name  # type: ignore[attr-defined]


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
    snapshot = Snapshot(rows, tags={rows[2].id: ("Keep", "t4")})
    look = Look(NOW, snapshot.facts)

    def filtered(text: str) -> list[str]:
        asked = Asked()
        asked.write(text, snapshot)
        return [one.name for one in asked.select(snapshot)]

    def ordered(name: str, turned: bool = False) -> list[str]:
        return [one.name for one in in_order(rows, column_named(name, set()), look, turned)]

    assert filtered("DEMO fin") == ["demo"] and filtered("keep big") == ["big"]
    assert filtered("nothing like it") == [] and len(filtered("")) == 3
    assert filtered("best<2.9 and not tag:keep") == ["demo"]
    assert ordered("best_eval_loss") == ["demo", "big", "demo-2"]
    assert ordered("best_eval_loss", True) == ["demo-2", "big", "demo"]
    assert ordered("name") == ["big", "demo", "demo-2"]
    assert ordered("state") == ["demo-2", "demo", "big"]
    assert ordered("test_loss") == ["demo", "demo-2", "big"], "without a value: last"
    assert ordered("test_loss", True) == ["demo", "demo-2", "big"], "either way round"
    assert ordered("peak")[-1] == "big"


def texts(app: WorkbenchApp) -> str:
    """The screen's lines, spaces as they are."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def test_layout_of_an_end_by_an_error(frozen_app: MakeApp, snap_compare: Any) -> None:
    async def open_it(pilot: Any) -> None:
        await settle(pilot)
        await pilot.press("enter", "right_square_bracket")
        await settle(pilot)

    app = frozen_app(out_of_memory(), mode="runs")
    assert snap_compare(app, terminal_size=(80, 24), run_before=open_it)


async def test_the_end_of_a_run_says_what_to_do_next(frozen_app: MakeApp) -> None:
    app = frozen_app(out_of_memory(), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "right_square_bracket")
        await settle(pilot)
        shown = texts(app)
        assert "halve the batch" in shown and "tunebench resume tight --suggested" in shown
        assert "how it ended" in shown and "1.3 GiB: 1.9 GiB more asked for" in shown


async def test_a_goes_on_as_the_end_suggests(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.jobs.branch import Change

    change = Change("train.per_device_train_batch_size", "32", "16", "smaller")
    begun: list[tuple[Any, ...]] = []
    monkeypatch.setattr(acts, "recipe_suggested", lambda home, id: ("recipe", [change]))
    monkeypatch.setattr(acts, "branch_run", lambda home, *what: begun.append(what) or "id")
    app = frozen_app(out_of_memory(), finished(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert "A as suggested" in texts(app)
        await pilot.press("A")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen) and "batch_size: 32 → 16" in texts(app)
        await pilot.press("y", "enter")
        await settle(pilot)
        assert begun == [(out_of_memory().row.id, "recipe")]


async def test_parent_and_child_name_each_other(frozen_app: MakeApp) -> None:
    parent = out_of_memory()
    feed = FrozenFeed(snapshot_of(child(parent), parent))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "right_square_bracket")
        await settle(pilot)
        shown = " ".join(texts(app).split())
        assert "goes on from tight" in shown and "32 → 16 (train.per_device_train_batch" in shown
        assert "keep t4" in shown and "half the batch, as it said" in shown
        assert "last sample, step 40" in shown and "Oak bench, 120 cm" in shown
        await pilot.press("escape", "j", "enter")
        await settle(pilot)
        assert "gone on from by tight-2, running" in " ".join(texts(app).split())
        feed.say(snapshot_of(child(parent)))
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert f"goes on from {parent.row.id}, which was deleted" in " ".join(texts(app).split())


async def test_notes_and_tags_are_written_from_the_keyboard(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[Any, ...]] = []
    monkeypatch.setattr(queueacts, "annotate", lambda home, *what: said.append(what))
    app = frozen_app(running(), finished(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("t", *"too", "space", *"hot", "enter")
        await settle(pilot)
        await pilot.press("j", "T", *"keep", "space", *"old-", "enter")
        await settle(pilot)
        await pilot.press("t", "escape")
        await settle(pilot)
        assert said == [
            ([running().row.id], "too hot"),
            ([finished().row.id], "", ["keep", "old-"]),
        ]
