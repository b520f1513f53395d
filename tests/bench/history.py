"""What a history of 10,000 runs of 1,000 steps costs: the screen, a question to it, a new index.

    python -m tests.bench.history [--home HOME] [--runs 10000] [--steps 1000] [--times 10]
        [--no-reindex]

The journals are written and ingested once; what is in HOME is used again. In the real program in a
pty at 120x40: from ``3`` to the table (the first time, and again from another screen), from a key
of the filter to the runs that it asks for, from ``o`` to another order, from ``c`` on six marked
runs to their curves. Then ``reindex``, in a process of its own. All of it is in the page cache.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import homes
from tests.bench.load import Meter
from tests.bench.opening import FOOTER, Timed, make_home, seen, told

QUESTIONS = {
    "words": "run-777",
    "numbers and a key of the recipe": "best<9 and step>5 and r=16 and name~run-777",
    "full text": "text:777",
}
"""All of them ask for the runs whose numbers begin with 777."""
ORDERS = (rb"by name", rb"best validation first", rb"by state")


def ask(app: Meter, question: str, count: int) -> tuple[float, float]:
    """From the question's last key to the runs that it asks for."""
    app.press("/")
    app.read_for(0.5)
    app.press(question[:-1])
    app.read_for(1.5)
    pressed, spent = time.monotonic(), app.spent()
    app.press(question[-1])
    found = seen(app, rb"Runs  %d of " % count, pressed, spent)
    app.read_for(0.3)
    app.press("\x1b")
    app.read_for(0.7)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--no-reindex", action="store_true")
    options = parser.parse_args(arguments)
    first: Timed = []
    again: Timed = []
    order: Timed = []
    compared: Timed = []
    asked: dict[str, Timed] = {name: [] for name in QUESTIONS}
    count = sum(f"{number}".startswith("777") for number in range(options.runs))
    with contextlib.ExitStack() as stack:
        path = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = make_home(path, options.runs, options.steps)
        size = homes.size(home.database)
        for _ in range(options.times):
            with Meter(home.path) as app:
                app.see(FOOTER)
                app.read_for(4.0)
                for times in (first, again):
                    pressed, spent = time.monotonic(), app.spent()
                    app.press("3")
                    times.append(seen(app, rb"run-%d" % (options.runs - 1), pressed, spent))
                    app.read_for(1.0)
                    if times is first:
                        app.press("5")
                        app.read_for(1.5)
                for name, question in QUESTIONS.items():
                    asked[name].append(ask(app, question, count))
                for words in ORDERS:
                    pressed, spent = time.monotonic(), app.spent()
                    app.press("o")
                    order.append(seen(app, words, pressed, spent))
                    app.read_for(0.3)
                for _ in range(6):
                    app.press(" ")
                    app.read_for(0.2)
                pressed, spent = time.monotonic(), app.spent()
                app.press("c")
                compared.append(seen(app, b"%.1fk" % (options.steps / 1000), pressed, spent))
        rows = f"{options.runs} runs x {options.steps} steps"
        print(f"{rows}, load {os.getloadavg()[0]:.1f}; runs.db {size / 1e9:.2f} GB,", end=" ")
        print(f"{size / options.runs / 1e3:.1f} kB a run of {options.steps} steps")
        print("| from | median ms | longest | CPU ms | of |\n| --- | --- | --- | --- | --- |")
        print(told("`3` to the table, the first time", first))
        print(told("`3` to the table, again", again))
        for name, times in asked.items():
            print(told(f"a question's last key to its answer: {name}", times))
        print(told("`o` to another order", order))
        print(told("`c` on six runs to their curves", compared))
        if not options.no_reindex:
            command = [sys.executable, "-m", "engine.cli", "reindex", "--json", "--home", str(path)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds = json.loads(out)["seconds"]
            metrics = options.runs * options.steps
            print(f"reindex: {seconds:.1f} s, {metrics / seconds:,.0f} metric rows/s", end=" ")
            print(f"(and {options.runs * options.steps // 22:,} other lines)")


if __name__ == "__main__":
    main()
