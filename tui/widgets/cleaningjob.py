"""The one cleaning that runs: started here or found running, followed to its end."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text
from textual.message import Message
from textual.widgets import Static

from engine.data import background
from engine.errors import UserError
from engine.home import Home
from engine.recipe import Recipe
from engine.text import clip
from tui import words
from tui.widgets.gauge import bar_text

__all__ = ["CleaningJob"]

LOOK_SECONDS = 0.5


class CleaningJob(Static):
    """Five lines about it while it runs, nothing else; its end is a message."""

    DEFAULT_CSS = """
    CleaningJob { height: auto; display: none; }
    CleaningJob.-running { display: block; }
    """

    class Changed(Message):
        """It runs, or goes on."""

    class Failed(Message):
        """It could not be started."""

        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

    class Ended(Message):
        """It is over, whichever way; its folder is gone."""

        def __init__(self, state: background.CleanState) -> None:
            super().__init__()
            self.state = state

    def __init__(self, *, id: str, classes: str) -> None:
        super().__init__(Text(""), id=id, classes=classes, markup=False)
        self.border_title = "Cleaning"
        self.folder: Path | None = None
        """The job that is followed."""
        self._process: Any = None

    def on_mount(self) -> None:
        self._timer = self.set_interval(LOOK_SECONDS, self.look, pause=True)

    def watch_over(self, on: bool) -> None:
        """Whether it is looked at regularly: only while somebody sees it."""
        if on:
            self._timer.resume()
        else:
            self._timer.pause()

    def adopt(self, jobs: list[Path]) -> None:
        """Follow the newest of ``jobs``, unless one is followed already."""
        if self.folder is None and jobs:
            self.folder = jobs[-1]

    def start(self, home: Home, recipe: Recipe) -> None:
        self.run_worker(partial(self._start, home, recipe), group="start", exclusive=True)

    async def _start(self, home: Home, recipe: Recipe) -> None:
        try:
            self.folder, self._process = await asyncio.to_thread(background.start, home, recipe)
        except (UserError, OSError) as error:
            self.post_message(self.Failed(error))
            return
        self.look()

    def look(self) -> None:
        """Ask how far it is."""
        if self.folder is not None:
            self.run_worker(partial(self._follow, self.folder), group="job", exclusive=True)

    async def _follow(self, folder: Path) -> None:
        state = await asyncio.to_thread(background.read_state, folder)
        self.set_class(not state.ended, "-running")
        if not state.ended:
            self.update(job_text(state))
            self.post_message(self.Changed())
            return
        self.folder = None
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None
        await asyncio.to_thread(background.forget, folder)
        self.post_message(self.Ended(state))

    def cancel(self) -> None:
        """Ask it to give up; its end comes as a message."""
        if self.folder is not None:
            self.run_worker(asyncio.to_thread(background.cancel, self.folder), group="cancel")


def job_text(state: background.CleanState) -> Text:
    """Five lines about a cleaning that runs."""
    lines = [Text(clip(state.name, 28), no_wrap=True), Text(clip(state.phase, 28), no_wrap=True)]
    bar = bar_text(state.fraction, 13)
    bar.append(f" {state.fraction:>4.0%}")
    lines.append(bar)
    told = f"{words.number(state.rows)} rows"
    if state.phase == "cleaning":
        told += f"  {words.number(state.rows_per_second)}/s"
    lines.append(Text(told, "#9e9e9e"))
    # Of this phase: how long the ones behind it take cannot be told before they begin.
    left = f"{words.duration(state.eta)} left" if state.eta is not None else "time left: not yet"
    lines.append(Text(left, "#9e9e9e"))
    return Text("\n").join(lines)
