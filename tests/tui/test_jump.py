"""Jump mode: a letter over every pane and field that is in sight."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from textual.geometry import Offset
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.home import Home
from tests.tui.conftest import HOSTILE, failed, finished, row, running, settle
from tui.app import WorkbenchApp
from tui.feed import RunDetail
from tui.screens.base import WorkbenchScreen
from tui.screens.cleaning import CleanForm
from tui.screens.jump import CELLS, LETTERS, JumpScreen, spread
from tui.widgets.field import Choice, Press, Toggle

MakeApp = Callable[..., WorkbenchApp]
SIZES = [(60, 20), (80, 24), (120, 40), pytest.param((250, 60), marks=pytest.mark.slow)]


def labels(app: WorkbenchApp) -> list[str]:
    return [str(label.render()) for label in app.screen.query(".letter").results(Static)]


def lines(app: WorkbenchApp) -> list[str]:
    """What is on the terminal, whatever lies over what."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("screen", ["data", "train", "runs", "system"])
async def test_every_letter_goes_where_it_stands(
    screen: str, size: tuple[int, int], frozen_app: MakeApp
) -> None:
    app = frozen_app(running(), finished(), failed(), mode=screen)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        below = app.screen
        focused = below.focused
        await pilot.press("f")
        await settle(pilot)
        jump = app.screen
        assert isinstance(jump, JumpScreen) and jump.places
        assert labels(app) == [f"[{place.letter}]" for place in jump.places]
        shown = lines(app)
        for place in jump.places:
            assert shown[place.at.y][place.at.x : place.at.x + CELLS] == f"[{place.letter}]"
            region = below.find_widget(place.widget).visible_region
            assert place.at.y in (region.y, region.y + 1) and region.x <= place.at.x < region.right
        order = [below.find_widget(place.widget).visible_region.offset for place in jump.places]
        assert order == sorted(order, key=lambda at: (at.y, at.x))
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is below and below.focused is focused
        for place in jump.places:
            below.set_focus(None)  # in an input f is a letter
            await pilot.press("f")
            await settle(pilot)
            await pilot.press(place.letter)
            await settle(pilot)
            assert app.screen is below and below.focused is place.widget


async def test_only_what_is_in_sight_has_a_letter(frozen_app: MakeApp) -> None:
    app = frozen_app(running())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("z", "f")
        await settle(pilot)
        assert isinstance(app.screen, JumpScreen)
        assert [place.widget.id for place in app.screen.places] == ["loss"], "the only one seen"
        await pilot.press("escape", "z", "f")
        await settle(pilot)
        seen = {place.widget for place in app.screen.places}
        assert len(seen) > 5 and len(seen) < len(app.screen_stack[0].focus_chain) + 1


async def test_letters_that_lead_nowhere_do_nothing_and_f_is_text_in_an_input(
    frozen_app: MakeApp,
) -> None:
    app = frozen_app(running(), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f", "M", "1", "X", "enter", "q")
        await settle(pilot)
        assert isinstance(app.screen, JumpScreen) and app.current_mode == "runs"
        await pilot.press("escape", "slash", "f", "f")
        await settle(pilot)
        assert isinstance(app.screen, WorkbenchScreen)
        assert isinstance(app.focused, Input) and app.focused.value == "ff"


async def test_a_resize_ends_it(frozen_app: MakeApp) -> None:
    app = frozen_app(running())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f")
        await settle(pilot)
        await pilot.resize_terminal(120, 40)
        await settle(pilot)
        assert isinstance(app.screen, WorkbenchScreen)


async def test_inside_the_clean_form(home: Home, frozen_app: MakeApp) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await pilot.press("s")
        await settle(pilot)
        form = app.screen
        assert isinstance(form, CleanForm)
        box = next(iter(form.query(Widget).filter("Toggle, Choice, Press").results()))
        assert isinstance(box, Toggle | Choice | Press)
        form.set_focus(box)
        await pilot.press("f")
        await settle(pilot)
        assert isinstance(app.screen, JumpScreen)
        place = app.screen.places[0]
        assert isinstance(place.widget, Input)
        await pilot.press(place.letter)
        await settle(pilot)
        assert app.screen is form and form.focused is place.widget
        await pilot.press("end", "f")
        await settle(pilot)
        assert place.widget.value.endswith("f") and app.screen is form


async def test_with_a_hostile_run_and_without_colour(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = frozen_app(RunDetail(replace(row(HOSTILE), id="id")), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f")
        await settle(pilot)
        assert any("[a]" in line for line in lines(app))
        assert any("EVIL" in line for line in lines(app)), "what is below stays in sight"


def test_labels_never_cover_each_other() -> None:
    corners = [Offset(0, 0), Offset(0, 0), Offset(2, 0), Offset(78, 0), Offset(79, 0)]
    found = spread(corners, 80)
    cells = [(at.x + by, at.y) for at in found for by in range(CELLS)]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 80 for x, _ in cells)
    assert found[0] == Offset(0, 0)


def test_every_letter_is_another() -> None:
    assert len(set(LETTERS)) == len(LETTERS) == 52
    assert LETTERS.startswith("asdfghjkl")


async def test_nothing_to_go_to_is_said(frozen_app: MakeApp) -> None:
    app = frozen_app(mode="play")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("f")
        await settle(pilot)
        assert [one.message for one in app._notifications] == ["there is no pane or field to go to"]
