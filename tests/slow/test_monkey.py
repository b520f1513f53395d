"""A day at the keyboard: 1,000 random keys on every screen, beside live runs, at random sizes.

``TUNEBENCH_MONKEY_KEYS`` and ``TUNEBENCH_MONKEY_SEED`` choose how many and which.
"""

import asyncio
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.home import Home
from tests.bench.load import live_run, make_home, writers
from tests.tui.monkey import Monkey, tame
from tests.tui.wares import lines, recipe
from tui import keymap
from tui.app import WorkbenchApp

pytestmark = pytest.mark.slow

KEYS = int(os.environ.get("TUNEBENCH_MONKEY_KEYS", "1000"))
SEED = int(os.environ.get("TUNEBENCH_MONKEY_SEED", "6"))
RUNS = 12
PARTS = 8
"""Looks at memory, widgets and tasks; the first ones are before everything was opened once."""
SETTLED = 3
GROWTH_MB = 32.0
"""Above what was measured (20): a leak of a screen or a history would be more."""
GROWTH_WIDGETS = 60
GROWTH_TASKS = 3
"""Workers that are at it when one looks."""


@pytest.fixture
def live_home(tmp_path: Path) -> Iterator[Home]:
    """A dataset, twelve finished runs, and two that write 20 lines a second."""
    from engine.data.prepare import prepare

    home = make_home(tmp_path / "home", RUNS, 300, 0.02)
    source = tmp_path / "wares.jsonl"
    source.write_bytes(b"\n".join(lines()) + b"\n")
    prepare(home, recipe(source))
    with writers(home, RUNS):
        yield home


@pytest.mark.parametrize("screen", keymap.SCREENS)
async def test_a_day_at_the_keyboard(
    screen: str, live_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(live_home.path)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    before = asyncio.all_tasks()
    app = WorkbenchApp(live_home, start=screen)
    process, seen = psutil.Process(), []
    with tame(monkeypatch):
        async with app.run_test(size=(120, 40)) as pilot:
            monkey = Monkey(app, pilot, SEED)
            for one in keymap.SCREENS:
                await monkey.home(one)  # each is made once, and stays
            for _ in range(PARTS):
                await monkey.play(screen, KEYS // PARTS, resize_every=10)
                await pilot.resize_terminal(120, 40)
                gc.collect()  # as the workbench does when nobody types, which a monkey always does
                tasks, widgets = monkey.counted()
                seen.append((tasks, widgets, process.memory_info().rss / 1e6))
            assert live_run(live_home, RUNS).id in app.snapshot.by_id, "the feed is alive"
    assert asyncio.all_tasks() == before, "tasks that outlive the workbench"
    told = ", ".join(f"{tasks}/{widgets}/{size:.0f}" for tasks, widgets, size in seen)
    print(f"{screen}: {KEYS} keys; tasks/widgets/MB after each eighth: {told}")
    tasks, widgets, size = (max(one[which] for one in seen[SETTLED:]) for which in range(3))
    assert tasks - seen[0][0] <= GROWTH_TASKS, told
    assert widgets - seen[SETTLED - 1][1] <= GROWTH_WIDGETS, told
    assert size - seen[SETTLED - 1][2] <= GROWTH_MB, told
