"""Writes README's pictures and its key list, from the real app on a real home.

    python -m tests.tui.screenshots [HOME]
    python -m tests.tui.screenshots --tour HOME

HOME is a home with runs in it, such as ``make demo`` makes (by default the current folder); with
none, the Train and Runs screens show the tests' frozen runs. The pictures are of the app itself.
The tour is README's "What made it better?": HOME holds the sweep ``tune`` that is described there.
"""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

from engine.home import Home, open_home
from engine.text import safe_line
from tui import keymap
from tui.app import WorkbenchApp
from tui.feed import Feed

__all__ = ["main"]

ROOT = Path(__file__).parents[2]
PICTURES = Path(__file__).parent / "pictures"
SIZE = (120, 36)
SECONDS = 120.0


async def _until(pilot: Any, ready: Any) -> None:
    """Wait until ``ready()`` is true, or the time is over: then the picture shows what there is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SECONDS
    while loop.time() < deadline:
        await pilot.pause(0.1)
        if ready():
            return


async def _answer(pilot: Any) -> None:
    """Take a title that was not trained on, and let both models answer it."""
    screen = pilot.app.screen
    await _until(pilot, lambda: screen.check_action("next_row", ()))
    await pilot.press("n")
    await _until(pilot, lambda: screen.check_action("halt", ()))
    await _until(pilot, lambda: not screen.check_action("halt", ()))


async def _take(home: Home, frozen: bool) -> None:
    feed: Feed | None = None
    clock: dict[str, Any] = {}
    if frozen:
        from tests.tui.conftest import NOW, FrozenFeed, failed, finished, running, snapshot_of

        feed = FrozenFeed(snapshot_of(running(), finished(), failed()))
        clock = {"clock": lambda: NOW}
    app = WorkbenchApp(home, feed=feed, home_words="~/bench", start="data", **clock)
    async with app.run_test(size=SIZE) as pilot:
        await _until(pilot, lambda: app.snapshot.loaded)
        for key, name in zip("12345", keymap.SCREENS, strict=True):
            await pilot.press(key)
            if name == "train":
                await _until(pilot, lambda: bool(app.screen.query("Field")))
                await _until(pilot, lambda: bool(app.snapshot.details) or not app.snapshot.rows)
            elif name == "play" and app.snapshot.rows:
                await _answer(pilot)
            await pilot.pause(2.0)  # what a screen reads of the machine comes within a second
            _write(app, home, name, keymap.SCREENS[name])


WORDS = {"/": "slash", "]": "right_square_bracket", " ": "space", "<": "less_than_sign"}
TOUR = {
    "table": ["/", *"best_eval_loss<0.735 and lear"],
    "values": ["escape", "/", *"sweep:tune", "enter", "home", "enter", *"]]"],
    "six": ["c"],
    "why": [
        "escape",
        "escape",
        "escape",
        "b",
        "b",
        "b",
        "b",
        "o",
        "o",
        "home",
        " ",
        "end",
        " ",
        "c",
        *"]]",
    ],
    "repeat": ["escape", "home", "e"],
}
"""Picture -> the keys from the picture before to it; "repeat" has its own end."""


async def _tour(home: Home) -> None:
    """README's tour, by keys alone."""
    app = WorkbenchApp(home, home_words="~/bench", start="runs")
    async with app.run_test(size=SIZE) as pilot:
        await _until(pilot, lambda: app.snapshot.settings is not None)
        await pilot.pause(0.5)
        for name, keys in TOUR.items():
            for key in keys:
                await pilot.press(WORDS.get(key, key))
                await pilot.pause(0.15)
            if name == "repeat":
                form = app.screen.query_one("#form")
                await _until(pilot, lambda form=form: getattr(form, "repeated", None))
                form.field("train.max_steps").box.focus()  # type: ignore[attr-defined]
                for key in ("end", "ctrl+u", *"400", "escape", "s"):
                    await pilot.press(key)
                    await pilot.pause(0.15)
            await pilot.pause(3.0)
            _write(app, home, f"tour-{name}", "Train" if name == "repeat" else "Runs")
    os.environ["NO_COLOR"] = "1"
    app = WorkbenchApp(home, home_words="~/bench", start="train")
    async with app.run_test(size=(80, 24)) as pilot:
        await _until(pilot, lambda: bool(app.snapshot.details))
        await pilot.press("right_square_bracket")
        await pilot.pause(3.0)
        _write(app, home, "no-colour", "80x24 without colour")


def _write(app: WorkbenchApp, home: Home, name: str, title: str) -> None:
    picture = PICTURES / f"{name}.svg"
    svg = app.export_screenshot(title=f"tunebench: {title}")
    # Nobody's folders belong in a README.
    for path in (str(Path(sys.prefix).parent), str(home.path)):
        svg = svg.replace(path, "~/bench")
    picture.write_text(svg, "utf-8")
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size // 1024} kB")


def write_keys() -> None:
    """Put the table of actions between README's two marks."""
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    made = re.sub(
        r"(<!-- keys:[^\n]*-->\n).*?(<!-- /keys -->)",
        lambda found: f"{found[1]}\n{keymap.as_markdown()}\n{found[2]}",
        text,
        flags=re.S,
    )
    if made != text:
        readme.write_text(made, "utf-8")
        print("README.md: the key list")


def main(arguments: list[str]) -> int:
    PICTURES.mkdir(exist_ok=True)
    if arguments[:1] == ["--tour"]:
        asyncio.run(_tour(open_home(arguments[1])))
        return 0
    home = open_home(arguments[0] if arguments else None)
    frozen = not any(home.runs.iterdir())
    told = "frozen runs of the tests" if frozen else safe_line(str(home.path))
    print(f"pictures of {told}")
    asyncio.run(_take(home, frozen))
    write_keys()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
