"""Random keys and sizes for a workbench over frozen or throwaway runs. For tests only.

Nothing that it asks for can start: no process is made, and leaving is switched off.
"""

import asyncio
import gc
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual.widgets import Input, TextArea

from tests.tui.conftest import settle
from tui import keymap
from tui.app import WorkbenchApp
from tui.screens.base import WorkbenchScreen

__all__ = ["Monkey", "tame"]

NEVER = {"q", "ctrl+c", "ctrl+z"}
"""They leave, or stop the process."""
TYPED = [*"abcxyzABC0123456789 .,-_/\\[]{}()'\"", "backspace", "delete", "home", "end", "left"]
STEER = ["escape", "enter", "tab", "shift+tab", "up", "down", "pageup", "pagedown", "enter"]
TINY = (60, 20)
HUGE = (250, 60)


def no_process(*words: Any, **options: Any) -> Any:
    raise OSError(11, "no process can be made here")


@contextmanager
def tame(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", no_process)
        patch.setattr(WorkbenchApp, "action_leave", lambda self: None)
        yield


class Monkey:
    """Presses keys that mean something more often than others, and looks at the screen."""

    def __init__(self, app: WorkbenchApp, pilot: Any, seed: int) -> None:
        self.app, self.pilot, self.chance = app, pilot, random.Random(seed)
        self.pressed: list[str] = []

    async def play(self, screen: str, keys: int, resize_every: int = 0) -> None:
        """Press so many keys, on ``screen`` and wherever they lead."""
        await self.home(screen)
        for number in range(1, keys + 1):
            key = self._key(screen)
            self.pressed.append(key)
            await self.pilot.press(key)
            await self.look()
            if resize_every and number % resize_every == 0:
                size = tuple(map(self.chance.randint, TINY, HUGE))
                self.pressed.append(f"{size[0]}x{size[1]}")
                await self.pilot.resize_terminal(*size)
                await self.look()
            if number % 25 == 0:
                await self.home(screen)
        await self.home(screen)

    def _key(self, screen: str) -> str:
        draw = self.chance.random()
        own = [key for one in keymap.of_screen(screen) for key in one.keys]
        common = [key for one in keymap.of_screen("") for key in one.keys]
        chosen = own if draw < 0.4 else common if draw < 0.7 else STEER if draw < 0.85 else TYPED
        return self.chance.choice([key for key in chosen if key not in NEVER])

    async def home(self, screen: str) -> None:
        """Out of whatever is open, and to the screen: what esc cannot leave is a defect too."""
        await self._out()
        await self._press(str(1 + list(keymap.SCREENS).index(screen)))
        await self._out()  # of what was left open over it
        await settle(self.pilot)
        await self.look()
        now = self.app.screen
        if not isinstance(now, WorkbenchScreen) or screen != now.SCREEN:
            self.fail(f"{now!r} instead of {screen}")

    async def _out(self) -> None:
        """Out of dialogs, of what lies over a screen, and of inputs, where digits are text."""
        for _ in range(12):
            on_top = self.app.screen
            over = not isinstance(on_top, WorkbenchScreen) or on_top.SCREEN not in keymap.SCREENS
            if not over and not isinstance(on_top.focused, Input | TextArea):
                return
            await self._press("escape")
        self.fail(f"esc does not leave {self.app.screen!r}, {self.app.focused!r}")

    async def _press(self, key: str) -> None:
        self.pressed.append(key)
        await self.pilot.press(key)

    async def look(self) -> None:
        """What is on the screen now; a pane that is still being filled gets its time."""
        if self._blank():
            await settle(self.pilot)
        if self.app._exception is not None:
            raise AssertionError(self._told("an exception")) from self.app._exception
        if not self.app.is_running:
            self.fail("it ended")
        if self._blank():
            self.fail("a blank screen")

    def _blank(self) -> bool:
        lines = [strip.text.strip() for strip in self.app.screen._compositor.render_strips()]
        return sum(bool(line) for line in lines) < 1

    def fail(self, what: str) -> None:
        raise AssertionError(self._told(what))

    def _told(self, what: str) -> str:
        return f"{what} at {self.app.size} after {' '.join(self.pressed[-40:])}"

    def counted(self) -> tuple[int, int]:
        """(asyncio tasks beside those of the widgets, widgets that are mounted)."""
        gc.collect()
        mounted = len(self.app._registry)
        return len(asyncio.all_tasks()) - mounted, mounted
