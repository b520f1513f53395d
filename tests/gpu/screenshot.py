"""A picture of the Train screen on a home, as one who opens the workbench now would see it."""

import asyncio
import subprocess
import time
from pathlib import Path

from engine.home import Home
from tui import acts
from tui.app import WorkbenchApp

SECONDS = 20.0
"""How long the screen may take to show the run."""


def screenshot(home: Home, run: str, path: Path, size: tuple[int, int] = (120, 40)) -> str:
    """Write the Train screen as SVG; returns what ``nvidia-smi`` said beside its last reading.

    The picture's title has it too. Raises TimeoutError when the run is not shown in time.
    """
    return asyncio.run(_take(home, run, path, size))


async def _take(home: Home, run: str, path: Path, size: tuple[int, int]) -> str:
    beside: list[str] = []

    def read() -> acts.Reading:
        reading = acts.read_system(home)
        beside.append(used())
        return reading

    app = WorkbenchApp(home, start="train", read_system=read)
    async with app.run_test(size=size) as pilot:
        deadline = time.monotonic() + SECONDS
        while not _shown(app, run):
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {run} was not shown within {SECONDS:.0f} s")
            await pilot.pause(0.1)
        seen = len(beside)
        while len(beside) < seen + 2 and time.monotonic() < deadline:
            await pilot.pause(0.05)
        await pilot.pause(0.2)
        said = beside[-1] if beside else "no reading"
        title = f"tunebench · nvidia-smi at the same moment: {said}"
        path.write_text(app.export_screenshot(title=title), encoding="utf-8")
    return said


def used() -> str:
    """The first card's memory in use, as ``nvidia-smi`` tells it; "" where there is none."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _shown(app: WorkbenchApp, run: str) -> bool:
    detail = app.snapshot.details.get(run)
    return detail is not None and bool(detail.series)
