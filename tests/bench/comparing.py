"""How long comparing takes in a home of 10,000 runs: the table, the differences, and why.

    python -m tests.bench.comparing [--home HOME] [--runs 10080] [--steps 10] [--times 7]

The runs are a grid of learning rates, ranks, batches and seeds over the same rows, the newest six
of 1,000 steps each. In one process with the journals ingested: six runs compared and told apart,
and "why is B better than A" for two runs that differ in 1, 3 and 8 settings; nothing is kept
between two of them. Then the real program in a pty at 120x40: from ``c`` on six marked runs of
1,000 steps to their curves, and from ``]`` to the pages after it; from ``]`` to the ranked
differences of two.
"""

import argparse
import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.history import queries
from engine.history.beside import evaluations_beside, samples_beside, votes_between
from engine.history.compare import compare, yardstick
from engine.history.differing import differ
from engine.history.ingest import ingest_all
from engine.history.recipe_values import recipe_values
from engine.history.store import Store, open_store
from engine.history.why import why
from engine.home import Home, open_home
from engine.recipe import load_recipe
from tests.bench import homes
from tests.bench.load import Meter

AXES = {
    "train.learning_rate": [1e-4, 2e-4, 3e-4, 1e-3, 3e-3],
    "lora.r": [4, 8, 16, 32],
    "train.per_device_train_batch_size": [8, 16, 32],
    "train.warmup_steps": [0.0, 5.0, 10.0],
    "lora.lora_dropout": [0.0, 0.05],
    "train.weight_decay": [0.0, 0.01],
    "train.max_grad_norm": [0.5, 1.0],
    "train.seed": [1, 2, 3, 4, 5, 6, 7],
}
"""A grid of 10,080 runs."""
LONG = 1_000
"""Steps of the six newest runs."""


def point(number: int) -> dict[str, object]:
    """The settings of one run of the grid."""
    found: dict[str, object] = {}
    for key, values in AXES.items():
        number, at = divmod(number, len(values))
        found[key] = values[at]
    return found


def make_home(path: Path, runs: int, steps: int) -> Home:
    home = open_home(path)
    made = path / "made"
    if not made.exists():
        text = load_recipe("demo").to_toml()
        chance = random.Random(0)
        for number in range(runs):
            its = homes.with_settings(text, point(number))
            loss = 2.3 + chance.gauss(0, 0.05)
            its_steps = LONG if number >= runs - 6 else steps
            events = [
                {**one, "loss": loss} if one["type"] == "evaluation" else one
                for one in homes.journal(its_steps, number % homes.VARIANTS, end=None)
            ]
            t = homes.BEGAN + 60
            events.append(homes.evaluation(its_steps, its_steps, t) | {"loss": loss})
            state = {"v": 1, "t": t, "type": "state", "attempt": 1, "state": "finished"}
            events.append(state | {"steps": its_steps, "eval_loss": loss})
            homes.write_run(home, number, homes.as_bytes(iter(events)), its.encode())
        store = open_store(home)
        ingest_all(home, store, live=False)
        store.close()
        made.write_text(f"{runs} {steps}")
    assert made.read_text() == f"{runs} {steps}", f"{path} holds other runs: remove it"
    return home


Times = list[tuple[float, float]]
"""(ms, ms of a processor)."""


def timed(what: Callable[[], object], times: int) -> Times:
    found = []
    for _ in range(times):
        began, spent = time.perf_counter(), time.process_time()
        what()
        took, cpu = time.perf_counter() - began, time.process_time() - spent
        found.append((1000 * took, 1000 * cpu))
    return found


def line(what: str, times: Times) -> str:
    took, spent = zip(*times, strict=True)
    cells = statistics.median(took), max(took), statistics.median(spent)
    return f"| {what} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |"


def six(store: Store) -> None:
    """All that the page of a comparison shows of six runs, without their curves."""
    rows = queries.runs_of(store, [f"20251122-{n:06d}-run" for n in (0, 1, 21, 420, 2000, 5039)])
    settings = recipe_values(store, [row.id for row in rows])
    yardstick(rows, [settings[row.id].values for row in rows])
    compare(rows)
    differ(store, rows)
    samples_beside(store, rows)
    votes_between(store, rows)
    evaluations_beside(store, rows)


def other(differing: int) -> int:
    """A run of the grid that differs from the first in so many settings."""
    number, size = 0, 1
    for count, values in enumerate(AXES.values()):
        number += size if count < differing else 0
        size *= len(values)
    return number


def on_the_screen(home: Home, times: int) -> dict[str, Times]:
    """From a key to what it shows, in the real program."""
    found: dict[str, Times] = {}

    def pressed(app: Meter, what: str, key: str, sign: bytes) -> None:
        began, spent = time.monotonic(), app.spent()
        app.press(key)
        took = app.see(sign) - began
        found.setdefault(what, []).append((1000 * took, 1000 * (app.spent() - spent)))
        app.read_for(1.0)

    with Meter(home.path) as app:
        app.see(rb"commands")
        app.read_for(2.0)
        app.press("3")
        app.read_for(2.0)
        for _ in range(6):
            app.press(" ")
            app.read_for(0.3)
        for _ in range(times):
            pressed(app, "`c` to the curves of six runs", "c", rb"x step")
            pressed(app, "`]` to the metrics", "]", rb"best val. loss")
            pressed(app, "`]` to the differences", "]", rb"lora_dropout|warmup_steps|learning_rate")
            app.press("\x1b")
            app.read_for(0.5)
        app.press("g")
        app.read_for(0.5)
        for _ in range(4):  # two stay marked
            app.press(" ")
            app.read_for(0.3)
        for _ in range(times):
            app.press("c")
            app.read_for(1.0)
            app.press("]")
            app.read_for(1.0)
            pressed(app, "`]` to the ranked differences of two", "]", rb"not causes\.")
            app.press("\x1b")
            app.read_for(0.5)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--runs", type=int, default=10_080)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        path = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = make_home(path, options.runs, options.steps)
        store = open_store(home)
        print(f"{options.runs} runs, load {os.getloadavg()[0]:.1f}")
        print("| what | median ms | longest | CPU ms |\n| --- | --- | --- | --- |")
        times = timed(lambda: six(store), options.times)
        print(line("six runs: table, differences, samples, votes", times))
        for differing in (1, 3, 8):
            refs = [f"20251122-{n:06d}-run" for n in (0, other(differing))]
            a, b = (queries.get_run(store, ref) for ref in refs)
            found = why(store, a, b)
            known = [one for one in found.ranked if one.evidence]
            times = timed(lambda a=a, b=b: why(store, a, b), options.times)
            print(line(f"why: {len(found.ranked)} differences, {len(known)} with evidence", times))
        store.close()
        for what, its in on_the_screen(home, options.times).items():
            print(line(what, its))


if __name__ == "__main__":
    main()
