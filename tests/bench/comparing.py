"""How long comparing takes in a home of 10,000 runs: the table, the differences, and why.

    python -m tests.bench.comparing [--home HOME] [--runs 10000] [--steps 10] [--times 7]

The runs are a grid of learning rates, ranks, batches and seeds over the same rows. Then, in one
process with the journals ingested: six runs compared and told apart, and "why is B better than A"
for two runs that differ in 1, 3 and 8 settings; with nothing kept between two of them.
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
            events = [
                {**one, "loss": loss} if one["type"] == "evaluation" else one
                for one in homes.journal(steps, number % homes.VARIANTS, end=None)
            ]
            t = homes.BEGAN + 60
            events.append(homes.evaluation(steps, steps, t) | {"loss": loss})
            state = {"v": 1, "t": t, "type": "state", "attempt": 1, "state": "finished"}
            events.append(state | {"steps": steps, "eval_loss": loss})
            homes.write_run(home, number, homes.as_bytes(iter(events)), its.encode())
        store = open_store(home)
        ingest_all(home, store, live=False)
        store.close()
        made.write_text(f"{runs} {steps}")
    assert made.read_text() == f"{runs} {steps}", f"{path} holds other runs: remove it"
    return home


def timed(what: Callable[[], object], times: int) -> tuple[float, float]:
    """(median, longest) in ms."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found), max(found)


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
        print("| what | median ms | longest |\n| --- | --- | --- |")
        middle, worst = timed(lambda: six(store), options.times)
        print(f"| six runs: table, differences, samples, votes | {middle:.0f} | {worst:.0f} |")
        for differing in (1, 3, 8):
            refs = [f"20251122-{n:06d}-run" for n in (0, other(differing))]
            a, b = (queries.get_run(store, ref) for ref in refs)
            found = why(store, a, b)
            known = [one for one in found.ranked if one.evidence]
            middle, worst = timed(lambda a=a, b=b: why(store, a, b), options.times)
            told = f"{len(found.ranked)} differences, {len(known)} with evidence"
            print(f"| why: {told} | {middle:.0f} | {worst:.0f} |")
        store.close()


if __name__ == "__main__":
    main()
