"""The Train screen: layouts by snapshot, behaviour by keys over frozen data."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Static

from tests.tui.conftest import (
    GPU_READING,
    NOW,
    SIZES,
    STATES,
    FrozenFeed,
    detail,
    failed,
    finished,
    row,
    running,
    settle,
    snapshot_of,
)
from tui import acts
from tui.app import WorkbenchApp
from tui.screens.confirm import ConfirmScreen
from tui.screens.review import ReviewScreen
from tui.widgets.chart import Chart
from tui.widgets.field import Field
from tui.widgets.recipeform import RecipeForm
from tui.widgets.runstate import eta, state_lines

MakeApp = Callable[..., WorkbenchApp]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
def test_layout(state: str, size: tuple[int, int], frozen_app: MakeApp, snap_compare: Any) -> None:
    make = STATES[state]
    app = frozen_app(*([make()] if make else []))
    assert snap_compare(app, terminal_size=size, run_before=settle)


def test_layout_of_the_form_on_a_narrow_terminal(frozen_app: MakeApp, snap_compare: Any) -> None:
    async def edit(pilot: Any) -> None:
        await settle(pilot)
        await pilot.press("e")
        await settle(pilot)

    assert snap_compare(frozen_app(running()), terminal_size=(80, 24), run_before=edit)


def test_layout_of_the_review(frozen_app: MakeApp, snap_compare: Any) -> None:
    async def review(pilot: Any) -> None:
        await settle(pilot)
        pilot.app.home = replace(pilot.app.home, path=pilot.app.home.path.__class__("/bench"))
        await pilot.press("s")
        await settle(pilot)

    assert snap_compare(frozen_app(), terminal_size=(100, 30), run_before=review)


def words(app: WorkbenchApp, width: int = 100) -> str:
    shown = app.screen._detail  # type: ignore[attr-defined]
    return "\n".join(line.plain for line in state_lines(shown, width, NOW))


def test_a_step_too_many_is_not_more_than_all() -> None:
    """As trainers of other programs may make one."""
    shown = finished()
    shown = replace(shown, row=replace(shown.row, step=31, max_steps=30))
    for width in (72, 112):
        assert any("31/30  100 %" in line.plain for line in state_lines(shown, width, NOW))


async def put(pilot: Any, key: str, value: str) -> Field:
    """Type ``value`` into the field of a recipe key."""
    field = pilot.app.screen.query_one(RecipeForm).field(key)
    field.box.focus()
    field.box.value = ""
    await pilot.press(*("full_stop" if char == "." else char for char in value))
    await settle(pilot)
    return field


async def test_an_invalid_value_shows_the_engine_s_error_under_its_field(
    frozen_app: MakeApp,
) -> None:
    app = frozen_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        form = app.screen.query_one(RecipeForm)
        assert form.recipe is not None and form.recipe.train.learning_rate == 3e-3
        field = await put(pilot, "train.learning_rate", "abc")
        wrong = field.query_one(".wrong", Static)
        assert wrong.display and "valid number" in str(wrong.render())
        assert form.recipe is None
        await pilot.press("escape", "s")
        await settle(pilot)
        assert not isinstance(app.screen, ReviewScreen), "a wrong recipe must not be started"
        await put(pilot, "train.learning_rate", "0.001")
        assert not wrong.display
        assert form.recipe is not None and form.recipe.train.learning_rate == 1e-3


async def test_what_does_not_fit_together_is_said_below(frozen_app: MakeApp) -> None:
    app = frozen_app()
    async with app.run_test(size=(120, 45)) as pilot:
        await settle(pilot)
        await put(pilot, "train.save_steps", "80")
        field = await put(pilot, "train.eval_steps", "30")
        form = app.screen.query_one(RecipeForm)
        assert form.recipe is None
        said = str(form.query_one("#crosswise", Static).render()) + str(
            field.query_one(".wrong", Static).render()
        )
        assert "multiple of eval_steps" in said


async def test_starting_shows_a_review_and_enter_launches(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[tuple[str, int, str | None]] = []

    def start(home: Any, recipe: Any, name: str | None, repeats: str | None) -> str:
        launched.append((recipe.name, recipe.train.max_steps, name))
        return "new-run"

    monkeypatch.setattr(acts, "start_run", start)
    app = frozen_app(finished())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await put(pilot, "train.max_steps", "7")
        await pilot.press("escape", "s")
        await settle(pilot)
        assert isinstance(app.screen, ReviewScreen)
        rows = dict(app.screen.basics)
        assert "7 steps" in rows["steps"] and rows["changed"] == "train.max_steps: 120 → 7"
        await pilot.press("escape")
        await settle(pilot)
        assert not launched, "esc must not start anything"
        await pilot.press("s")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert launched == [("demo", 7, None)]


async def test_why_a_start_failed_is_said(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.errors import UserError

    def start(home: Any, recipe: Any, name: str | None, repeats: str | None) -> str:
        raise UserError("a run named [/red]'demo' exists already")

    monkeypatch.setattr(acts, "start_run", start)
    app = frozen_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("s")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert [n.message for n in app._notifications] == [
            "a run named [/red]'demo' exists already"
        ]


@pytest.mark.parametrize(
    ("key", "word", "act"), [("X", "y", "stop_run"), ("K", "demo-2", "kill_run")]
)
async def test_what_ends_a_run_asks_first(
    key: str, word: str, act: str, frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(acts, act, lambda home, id: done.append(id))
    app = frozen_app(running())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(key)
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen) and app.screen.word == word
        await pilot.press("enter", "n", "enter", "escape")
        await settle(pilot)
        assert not done, "only the word itself confirms"
        await pilot.press(key)
        await settle(pilot)
        await pilot.press(*word, "enter")
        await settle(pilot)
        assert done == [running().row.id]


async def test_an_ended_run_can_be_resumed_and_not_stopped(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[str] = []
    monkeypatch.setattr(acts, "resume_run", lambda home, id: resumed.append(id))
    app = frozen_app(failed())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("X", "K")
        await settle(pilot)
        assert not isinstance(app.screen, ConfirmScreen)
        await pilot.press("R")
        await settle(pilot)
        assert resumed == [failed().row.id]


async def test_the_true_end_is_shown(frozen_app: MakeApp) -> None:
    app = frozen_app(failed())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = words(app)
        assert "† killed" in shown and "SIGKILL" in shown and "step-80" in shown
        assert "for want of host memory" in shown and "finished" not in shown


async def test_it_follows_the_newest_run_that_has_not_ended(frozen_app: MakeApp) -> None:
    app = frozen_app(failed(), running(), finished())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert "demo-2" in words(app)
        await pilot.press("n")
        await settle(pilot)
        assert "✓ finished  demo" in words(app)


async def test_nothing_is_drawn_when_nothing_changed(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(running()))
    app = frozen_app(feed=feed)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        charts = [app.screen.query_one(id, Chart) for id in ("#loss", "#rate")]
        before = [chart.frames for chart in charts]
        for _ in range(3):
            feed.say(snapshot_of(running()))
            await settle(pilot)
        assert [chart.frames for chart in charts] == before
        newer = running()
        feed.say(snapshot_of(detail(replace(newer.row, step=58), 58)))
        await settle(pilot)
        assert [chart.frames for chart in charts] == [count + 1 for count in before]


async def test_pause_holds_the_picture_and_goes_on(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(running()))
    app = frozen_app(feed=feed)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("space")
        feed.say(snapshot_of(detail(replace(running().row, step=90), 90)))
        await settle(pilot)
        assert "57/120" in words(app)
        await pilot.press("space")
        await settle(pilot)
        assert "90/120" in words(app)


async def test_the_gpu_is_named_with_its_memory(frozen_app: MakeApp) -> None:
    app = frozen_app(running(), reading=GPU_READING)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        gauge = app.screen.query_one("#memory")
        shown = str(gauge.render())
        assert "NVIDIA H200" in str(gauge.border_title)
        assert "29.0/139.0 GiB" in shown and "93 %" in shown and "812 MiB" in shown


def test_eta_counts_evaluations_too() -> None:
    shown = running()
    # 63 steps of 0.8 s; evaluations of 1.5 s at 80 and 120; the test took 2.0 s before training.
    recipe = "[train]\neval_steps = 40\nsave_steps = 40\n"
    assert eta(replace(shown, recipe=recipe)) == pytest.approx(63 * 0.8 + 2 * 1.5 + 2.0)
    assert eta(shown) == pytest.approx(63 * (0.8 + 1.5 / 40) + 2.0), "as often as so far"
    assert eta(detail(row(step=None, max_steps=10), 0)) is None


def test_when_the_journal_s_last_line_was_is_said_in_words_that_seldom_change() -> None:
    shown = running()
    lines = {late: state_lines(shown, 100, NOW - 1 + late)[0].plain for late in range(200)}
    for late, said in ((0, "0 s"), (4, "4 s"), (7, "5 s"), (14, "10 s"), (59, "55 s")):
        assert f"line {said} ago" in lines[late]
    assert "silent for 1 min 00 s" in lines[61] and "silent for 3 min 10 s" in lines[199]
    words = [re.search(r"(line|silent for) [^·]*", line)[0] for line in lines.values()]  # type: ignore[index]
    changes = sum(a != b for a, b in itertools.pairwise(words[5:]))
    assert changes <= 200 / 5


def test_the_best_evaluation_is_said_with_step_and_time() -> None:
    shown = running()
    for one in shown.evaluations:
        one["t"] = NOW - 200
    best = state_lines(shown, 72, NOW)[3].plain
    assert "best 2.989 at step 40, 3 min ago" in best


def test_a_silent_run_is_said_to_be_silent() -> None:
    shown = running()
    late = state_lines(shown, 100, NOW + 500)[0].plain
    assert "silent for 8 min 20 s" in late
    assert "silent" not in state_lines(shown, 100, NOW)[0].plain


async def test_a_recipe_that_comes_when_the_workbench_is_being_left(frozen_app: MakeApp) -> None:
    """Seen as a crash, with an exit status of 1, where somebody left at once."""
    from tui.widgets.recipeform import Loaded

    app = frozen_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        form = app.screen.query_one(RecipeForm)
        await form.remove_children()
        form.post_message(Loaded("demo", None, "", ()))
        await settle(pilot)
    assert app.return_code in (0, None)
