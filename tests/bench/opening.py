"""How long the workbench takes to open on a home with 1,000 runs of 10,000 steps each.

    python -m tests.bench.opening [--home HOME] [--runs 1000] [--steps 10000] [--times 10]

The journals are written and ingested once, some minutes; what is in HOME is used again. Then the
real program opens in a pty at 120x40, again and again: from the start of its process to the first
whole frame, to the newest run's chart; on the Train screen from the key for another run to its
chart, on the Runs screen from enter to the run's charts. All of it is in the page cache.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import Home, open_home
from tests.bench import homes
from tests.bench.load import Meter, quantile

FOOTER = rb"commands"
"""The last line's last word: the frame is whole."""
SMOOTHED = rb"smoothed"
"""In the legend of a loss that is drawn."""


def make_home(path: Path, runs: int, steps: int) -> Home:
    home = open_home(path)
    made = path / "made"
    if not made.exists():
        began = time.perf_counter()
        lines = homes.write_runs(home, runs, steps)
        wrote = time.perf_counter()
        store = open_store(home)
        ingest_all(home, store, live=False)
        store.close()
        took = time.perf_counter() - wrote
        print(f"{lines:,} lines written in {wrote - began:.0f} s, ingested in {took:.0f} s")
        made.write_text(f"{runs} {steps}")
    assert made.read_text() == f"{runs} {steps}", f"{path} holds other runs: remove it"
    return home


Timed = list[tuple[float, float]]
"""(seconds, CPU seconds of the program in them)."""


def told(name: str, times: Timed) -> str:
    took, spent = [1000 * one for one, _ in times], [1000 * one for _, one in times]
    middle, worst, cpu = quantile(took, 0.5), max(took), quantile(spent, 0.5)
    return f"| {name} | {middle:.0f} | {worst:.0f} | {cpu:.0f} | {len(times)} |"


def seen(app: Meter, pattern: bytes, began: float, spent: float = 0.0) -> tuple[float, float]:
    return app.see(pattern) - began, app.spent() - spent


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args(arguments)
    first: Timed = []
    chart: Timed = []
    other: Timed = []
    whole: Timed = []
    with contextlib.ExitStack() as stack:
        path = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = make_home(path, options.runs, options.steps)
        sizes = homes.size(home.runs) / 1e9, homes.size(home.database) / 1e9
        for _ in range(options.times):
            began = time.monotonic()
            with Meter(home.path) as app:
                first.append(seen(app, FOOTER, began))
                chart.append(seen(app, SMOOTHED, began))
                app.read_for(2.0)
                for _ in range(5):
                    pressed, spent = time.monotonic(), app.spent()
                    app.press("n")
                    other.append(seen(app, SMOOTHED, pressed, spent))
                    app.read_for(0.5)
                app.press("3")
                app.read_for(1.0)
                for _ in range(5):
                    app.press("j")
                    app.read_for(0.3)
                    pressed, spent = time.monotonic(), app.spent()
                    app.press("\r")
                    whole.append(seen(app, SMOOTHED, pressed, spent))
                    app.read_for(0.5)
                    app.press("\x1b")
                    app.read_for(0.5)
        print(
            f"{options.runs} runs x {options.steps} steps, load {os.getloadavg()[0]:.1f};", end=" "
        )
        print(f"journals {sizes[0]:.2f} GB, runs.db {sizes[1]:.2f} GB")
        print("| from | median ms | longest | CPU ms | of |\n| --- | --- | --- | --- | --- |")
        print(told("start to the first whole frame", first))
        print(told("start to the newest run's chart", chart))
        print(told("`n` on Train to the other run's chart", other))
        print(told("enter on Runs to the run's charts", whole))


if __name__ == "__main__":
    main()
