"""Light colours: every colour on the screen is exchanged, and stays one of xterm's 256."""

import re
from collections.abc import Callable
from pathlib import Path

from rich.color import Color, ColorSystem

from engine.charts.colours import SERIES_COLOURS
from tests.tui.conftest import failed, finished, running, settle
from tui.app import WorkbenchApp
from tui.light import LIGHT, light

MakeApp = Callable[..., WorkbenchApp]
TUI = Path(__file__).resolve().parents[2] / "tui"


def contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""

    def bright(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((bright(one), bright(other)))
    return (high + 0.05) / (low + 0.05)


def colours(app: WorkbenchApp) -> set[str]:
    found = set()
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            if segment.style is not None:
                for one in (segment.style.color, segment.style.bgcolor):
                    if one is not None:
                        found.add(one.get_truecolor().hex)
    return found


def test_no_colour_of_the_workbench_is_forgotten() -> None:
    named = {
        colour
        for file in [*TUI.rglob("*.py"), *TUI.rglob("*.tcss")]
        if file.name != "light.py"
        for colour in re.findall(r"#[0-9a-f]{6}\b", file.read_text())
    }
    named |= set(SERIES_COLOURS)
    assert named == LIGHT.keys()
    for colour in LIGHT.values():
        rounded = Color.parse(colour).downgrade(ColorSystem.EIGHT_BIT).get_truecolor()
        exact = Color.parse(colour).get_truecolor()
        # Rich takes the grey beside some of them.
        assert all(abs(a - b) <= 10 for a, b in zip(rounded, exact, strict=True)), colour


def test_what_is_read_stands_out() -> None:
    grounds = {light(ground) for ground in ("#121212", "#1c1c1c", "#262626")}
    for colour in ("#d0d0d0", "#9e9e9e", "#5fafff", "#ffd75f", "#87d787", "#ff8787", "#ffaf5f"):
        assert all(contrast(light(colour), ground) >= 4.5 for ground in grounds), colour
    assert contrast(light("#ffffff"), light("#005f87")) >= 4.5


async def test_a_key_exchanges_all_colours_and_back(frozen_app: MakeApp) -> None:
    app = frozen_app(running(), finished(), failed())
    async with app.run_test(size=(120, 40)) as pilot:
        for screen in "12345":
            await pilot.press(screen)
            await settle(pilot)
            dark = colours(app)
            assert "#121212" in dark
            await pilot.press("asterisk")
            await settle(pilot)
            bright = colours(app)
            assert "#ffffff" in bright and not bright & {"#121212", "#1c1c1c"}
            await pilot.press("asterisk")
            await settle(pilot)
            assert colours(app) == dark
