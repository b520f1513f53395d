"""Tokenising a split, first and again: ``python -m tests.bench.tokenising``.

Makes rows with the catalogue generator and prints one table: seconds, rows a second, CPU seconds
and the memory of all processes together, each measured in a process of its own, by one process and
by as many as the machine has cores; then a run of two steps twice, with the seconds of its phase
"tokenising" and the memory of its worker. ``others`` is how many cores others kept busy.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from engine.data.prepare import prepare
from engine.home import Home, open_home
from engine.recipe import Recipe, load_recipe

USABLE = 0.45
"""Of the catalogue's rows at least so many are clean and fall to train."""


def recipe_of(rows: int, length: int, *settings: str) -> Recipe:
    return load_recipe(
        "demo",
        [
            f"data.catalogue_rows={int(rows / USABLE) + 1000}",
            f"data.name=catalogue-{rows}",
            *(f"split.train={rows}", f"split.validation={rows // 50}", f"split.test={rows // 5}"),
            *(f"train.max_length={length}", "train.max_steps=2", "evaluate.before=false"),
            *("train.eval_steps=2", "train.save_steps=2", "model.device=cpu"),
            *settings,
        ],
    )


class Watched:
    """Peak memory of processes, sampled: proportional set size, and what is theirs alone."""

    def __init__(self, pid: int) -> None:
        self.peak = self.anonymous = 0
        self._pid, self._stop = pid, threading.Event()
        self._busy = _busy_seconds()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            told = [_rollup(pid) for pid in self._pids()]
            self.peak = max(self.peak, sum(one["Pss"] for one in told))
            self.anonymous = max(self.anonymous, sum(one["Pss_Anon"] for one in told))

    def _pids(self) -> list[int]:
        try:
            process = psutil.Process(self._pid)
            return [self._pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.Error:
            return []

    def end(self, own: float) -> float:
        """Cores that others kept busy meanwhile."""
        seconds = time.monotonic() - self._began
        self._stop.set()
        self._thread.join()
        return max(0.0, (_busy_seconds() - self._busy - own) / seconds)


def _rollup(pid: int) -> dict[str, int]:
    found = {"Pss": 0, "Pss_Anon": 0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split()[:2]
            found[name.rstrip(":")] = int(value) << 10
    except (OSError, ValueError):
        pass
    return found


def _busy_seconds() -> float:
    values = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(most: float) -> None:
    while True:
        before = _busy_seconds()
        time.sleep(2)
        if (_busy_seconds() - before) / 2 <= most:
            return


def tokenise_here(home: Home, recipe: Recipe, one: bool) -> None:
    """In a process of its own: prints what it took."""
    import datasets  # noqa: F401

    from engine.data.dataset import open_dataset
    from engine.data.tokenised import split
    from engine.data.tokens import Formatter
    from engine.train.rows import encode_split

    if one:
        split.cores = lambda: 1
    dataset, formatter = open_dataset(home, recipe.data.name), Formatter.of(recipe)
    before, began = os.times(), time.monotonic()
    encoded = encode_split(
        *(home, dataset, "train", formatter),
        completion_only_loss=True,
        packing=recipe.train.packing,
    )
    seconds, after = time.monotonic() - began, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    told = {"seconds": seconds, "cpu": cpu, "rows": encoded.rows, "tokens": encoded.tokens}
    print(json.dumps(told))


def measure(home: Home, args: argparse.Namespace, *options: str) -> dict[str, float]:
    wait_until_idle(args.idle)
    command = [sys.executable, "-m", "tests.bench.tokenising", "--keep", str(home.path), "--here"]
    command += ["--rows", str(args.rows), "--length", str(args.length), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watched = Watched(process.pid)
    output, _ = process.communicate()
    told = json.loads(output)
    return told | {"others": watched.end(told["cpu"]), "peak": watched.peak}


def train(home: Home, recipe: Recipe, name: str, idle: float) -> str:
    """One run of two steps, by supervisor and worker."""
    from engine.jobs.journal import read_all
    from engine.jobs.launch import create_run, launch, wait_until_dead

    wait_until_idle(idle)
    folder = create_run(home, recipe, name)
    launch(folder)
    worker = None
    while worker is None:
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if "engine.jobs.worker" in line and str(folder.path) in line:
                worker = process
        time.sleep(0.05)
    watched = Watched(worker.pid)
    assert wait_until_dead(folder, 600), folder.log_tail()
    watched.end(0.0)
    states = [event for event in read_all(folder.journal) if event["type"] == "state"]
    assert states[-1]["state"] == "finished", folder.log_tail()
    took = next(s["seconds"] for s in states if s.get("phase") == "tokenising" and "seconds" in s)
    return (
        f"| {name} | {took:.2f} | {watched.peak / 1e6:,.0f} MB | "
        f"{watched.anonymous / 1e6:,.0f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--idle", type=float, default=1e9, help="wait for so few busy cores")
    parser.add_argument("--only", choices=["split", "run"])
    parser.add_argument("--keep", type=Path, help="home folder, kept for the next time")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--packing", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = open_home(args.keep or temporary)
        packing = f"train.packing={str(args.packing).lower()}"
        recipe = recipe_of(args.rows, args.length, packing)
        if args.here:
            tokenise_here(home, recipe, args.one)
            return
        prepare(home, recipe)
        kept = home.path / "cache" / "tokens"
        if args.only != "run":
            print("| | seconds | rows/s | CPU s | memory | others |")
            print("| --- | --- | --- | --- | --- | --- |")
            for words, options, fresh in (
                ("one process", ["--one"], True),
                (f"{os.cpu_count()} processes", [], True),
                ("kept", [], False),
                ("kept, packed for the first time", ["--packing"], False),
                ("kept, packed", ["--packing"], False),
            ):
                if fresh:
                    shutil.rmtree(kept, ignore_errors=True)
                told = measure(home, args, *options)
                print(
                    f"| {words} | {told['seconds']:.2f} | {told['rows'] / told['seconds']:,.0f} | "
                    f"{told['cpu']:.1f} | {told['peak'] / 1e6:,.0f} MB | {told['others']:.1f} |",
                    flush=True,
                )
            print(f"\n{told['rows']:,} rows, {told['tokens']:,} tokens")
        if args.only != "split":
            print("\n| run | tokenising, s | memory of the worker | of that its own |")
            print("| --- | --- | --- | --- |")
            shutil.rmtree(kept, ignore_errors=True)
            for name in ("first", "again"):
                print(train(home, recipe, f"{name}-{int(time.time())}", args.idle), flush=True)


if __name__ == "__main__":
    main()
