"""Seconds from the launch of a run to its first optimiser step, the first time and the second.

    python -m tests.bench.starts --out results/                      one NVIDIA GPU, the 3B shape
    python -m tests.bench.starts --out results/ --shape tiny --device cpu --lines 9000 --rows 2000

The recipe ``amazon-titles`` as it is, on a raw file of the catalogue's long lines, by the real
launcher, supervisor and worker; each run is ended at its first step. Phases are the journal's. The
model was built by another process before the first run, so that files are in the system's cache
either time. Writes ``starts.json`` and ``starts.md``.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from engine.bench.shapes import SHAPES
from engine.home import Home, open_home
from engine.jobs import launch
from engine.jobs.control import request
from engine.jobs.journal import read_all
from engine.recipe import Recipe
from tests.bench.epoch import build, raw_file, recipe_of, say

SECONDS = 300
"""That one start may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-starts"))
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--lines", type=int, default=360_000, help="of the raw file that is made")
    parser.add_argument("--file", type=Path, help="a raw file instead")
    parser.add_argument("--rows", type=int, help="of the train split, and test and validation less")
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    args.steps, args.every = 1000, None
    args.out.mkdir(parents=True, exist_ok=True)
    home = open_home(args.home)
    model = build(home, args.shape)
    source, lines = raw_file(home, args)
    results: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "lines": lines}
    results["starts"] = []
    for _ in range(args.times):
        results["starts"].append(start(home, recipe_of(args, model, source)))
        (args.out / "starts.json").write_text(json.dumps(results, indent=1))
        (args.out / "starts.md").write_text(table(results))
    print(table(results))
    first, *_, last = [one["seconds"] for one in results["starts"]]
    return 0 if last <= first / 2 else 1


def start(home: Home, recipe: Recipe) -> dict[str, Any]:
    """Launch, wait for the first step, stop; raises SystemExit where none comes."""
    began = time.time()
    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    events: list[dict[str, Any]] = []
    while not any(event["type"] == "metrics" for event in events):
        dead = launch.wait_until_dead(folder, 0.2)
        events = list(read_all(folder.journal))
        if dead or time.time() - began > SECONDS:
            print("\n".join(folder.log_tail(40)))
            raise SystemExit(f"{folder.id}: no step after {time.time() - began:.0f} s")
    request(folder, "kill")
    if not launch.wait_until_dead(folder, SECONDS):
        raise SystemExit(f"{folder.id}: does not stop")
    phases: dict[str, float] = {}
    for event in events:
        if event["type"] == "state" and "seconds" in event:
            phases[event["phase"]] = phases.get(event["phase"], 0.0) + event["seconds"]
    step = next(event for event in events if event["type"] == "metrics")
    seconds = step["t"] - began
    between = seconds - sum(phases.values()) - step["step_seconds"]
    parts = {**phases, "between phases": between, "the first step": step["step_seconds"]}
    say(f"{folder.id}: {seconds:.1f} s")
    running = next(e for e in events if e["type"] == "state" and e["state"] == "running")
    facts = {key: running.get(key) for key in ("gpu", "versions", "train_rows", "test_rows")}
    return {"seconds": seconds, "parts": parts, "facts": facts}


def table(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    starts = results["starts"]
    names = list(dict.fromkeys(name for one in starts for name in one["parts"]))
    head = " | ".join(f"start {number}, s" for number in range(1, len(starts) + 1))
    lines = [
        f"`{results['command']}`: {results['lines']:,} lines, {starts[0]['facts']}",
        "",
        f"| part | {head} |",
        "| --- |" + " --- |" * len(starts),
    ]
    for name in names:
        cells = (one["parts"].get(name) for one in starts)
        lines.append(f"| {name} | {' | '.join('-' if c is None else f'{c:.2f}' for c in cells)} |")
    whole = " | ".join(f"**{one['seconds']:.1f}**" for one in starts)
    return "\n".join([*lines, f"| **to the first step** | {whole} |"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
