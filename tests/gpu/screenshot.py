"""A picture of the Train screen on a home, as one who opens the workbench now would see it."""

import asyncio
import time
from pathlib import Path

from engine.home import Home
from tui.app import WorkbenchApp

SECONDS = 20.0
"""How long the screen may take to show the run."""


def screenshot(home: Home, run: str, path: Path, size: tuple[int, int] = (120, 40)) -> None:
    """Write the Train screen as SVG. Raises TimeoutError when it does not show the run in time."""
    asyncio.run(_take(home, run, path, size))


async def _take(home: Home, run: str, path: Path, size: tuple[int, int]) -> None:
    app = WorkbenchApp(home, start="train")
    async with app.run_test(size=size) as pilot:
        deadline = time.monotonic() + SECONDS
        while not _shown(app, run):
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {run} was not shown within {SECONDS:.0f} s")
            await pilot.pause(0.1)
        await pilot.pause(2.5)  # two readings of the card
        path.write_text(app.export_screenshot(title="tunebench"), encoding="utf-8")


def _shown(app: WorkbenchApp, run: str) -> bool:
    detail = app.snapshot.details.get(run)
    return detail is not None and bool(detail.series)
