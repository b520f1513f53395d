"""A short monkey on every screen; tests/slow/test_monkey.py is the long one."""

import asyncio
import os
from collections.abc import Callable

import pytest

from engine.home import Home
from tests.tui.conftest import failed, finished, running, settle
from tests.tui.monkey import Monkey, tame
from tui import keymap
from tui.app import WorkbenchApp
from tui.feed import Changed, Snapshot

SEED = int(os.environ.get("TUNEBENCH_MONKEY_SEED", "6"))
KEYS = 60


@pytest.mark.parametrize("screen", keymap.SCREENS)
async def test_random_keys_break_nothing(
    screen: str,
    frozen_app: Callable[..., WorkbenchApp],
    filled: Home,
    no_tokenizer: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(filled.path)
    before = asyncio.all_tasks()
    app = frozen_app(running(), finished(), failed(), mode=screen)
    with tame(monkeypatch):
        async with app.run_test(size=(120, 40)) as pilot:
            await Monkey(app, pilot, SEED).play(screen, KEYS, resize_every=20)
    assert asyncio.all_tasks() == before, "tasks that outlive the workbench"


async def test_a_last_message_while_leaving_is_no_error(
    frozen_app: Callable[..., WorkbenchApp],
) -> None:
    app = frozen_app(running())
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
    app.on_changed(Changed(Snapshot(loaded=True)))
    app._link_changed()
