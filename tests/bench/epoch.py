"""The reference experiment's whole epoch, from the raw file to the adapter, projected from a run.

    python -m tests.bench.epoch --out results/                      one NVIDIA GPU, the 3B shape
    python -m tests.bench.epoch --out results/ --shape tiny --device cpu --lines 9000 --rows 2000 \\
        --steps 60 --every 20

Writes a raw ``trn.json.gz`` of the catalogue's long lines (not counted), then trains the recipe
``amazon-titles`` as it is for ``--steps`` steps by the real launcher, supervisor and worker: the
raw file cleaned, all 150,000 rows tokenised, its own evaluations, samples and checkpoints, the loss
of all its test rows before and after, the adapter saved. All seconds are the journal's. What
the run did once is taken as it was; only what the epoch has more of is multiplied: lines to clean
(2.2 million), steps, looks (evaluation, samples, checkpoint). Writes ``epoch.json``, ``epoch.md``.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.bench.shapes import SHAPES  # noqa: E402
from engine.demo.catalogue import write_catalogue  # noqa: E402
from engine.home import Home, open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.folder import RunFolder  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import Recipe, load_recipe  # noqa: E402

LINES = 2_200_000
"""Of the reference's raw file."""
WARM_UP = 10
"""First steps, in which kernels are compiled and passes recorded: counted once."""
LIMIT = 15 * 60
PREPARING = "preparing data"
TOKENISING = "tokenising"
BEFORE = "test loss before training"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-epoch"))
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lines", type=int, default=360_000, help="of the raw file that is made")
    parser.add_argument("--file", type=Path, help="a raw file instead")
    parser.add_argument("--rows", type=int, help="of the train split, and test and validation less")
    parser.add_argument("--every", type=int, help="steps between looks; default: the recipe's")
    parser.add_argument("--again", action="store_true", help="twice: what a second start costs")
    parser.add_argument("--seconds", type=float, default=560, help="that one run may take")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    home = open_home(args.home)
    model = build(home, args.shape)
    source, lines = raw_file(home, args)
    results: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "runs": []}
    for number in range(2 if args.again else 1):
        whole = load_recipe("amazon-titles")
        recipe = recipe_of(args, model, source)
        began = time.time()
        folder = launch.create_run(home, recipe)
        launch.launch(folder)
        follow(folder, args.seconds)
        result = project(list(read_all(folder.journal)), began, recipe, whole, lines)
        result["run"] = number + 1
        results["runs"].append(result)
        (args.out / "epoch.json").write_text(json.dumps(results, indent=1))
        (args.out / "epoch.md").write_text(table(results))
    print(table(results))
    return 0 if results["runs"][0]["epoch_seconds"] <= LIMIT else 1


def say(words: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


def build(home: Home, shape: str) -> Path:
    model = home.path / f"model-{shape}"
    if not (model / "config.json").is_file():
        say(f"building a model of the {shape} shape")
        code = "import sys, pathlib; from engine.bench.shapes import build_model; "
        code += "build_model(pathlib.Path(sys.argv[1]), sys.argv[2])"
        # In a process of its own: this one must not hold the GPU.
        command = [sys.executable, "-c", code, str(model), shape]
        subprocess.run(command, check=True, cwd=ROOT)
    return model


def raw_file(home: Home, args: argparse.Namespace) -> tuple[Path, int]:
    if args.file:
        from isal import igzip

        with igzip.open(args.file) as file:
            return args.file.resolve(), sum(1 for _ in file)
    source = home.path / f"trn-{args.lines}.json.gz"
    if not source.exists():
        began = time.monotonic()
        write_catalogue(source, args.lines, long=True)
        megabytes = source.stat().st_size / 1e6
        say(f"{args.lines:,} lines, {megabytes:.0f} MB, in {time.monotonic() - began:.0f} s")
    return source, args.lines


def recipe_of(args: argparse.Namespace, model: Path, source: Path) -> Recipe:
    settings = [
        *(f"data.source={source}", f"model.model_name_or_path={model}"),
        *(f"model.device={args.device}", f"train.max_steps={args.steps}"),
    ]
    if args.rows:
        settings.append(f"split.train={args.rows}")
        settings += [f"split.{name}={max(args.rows // 5, 32)}" for name in ("test", "validation")]
    if args.every:
        settings += [f"train.{key}={args.every}" for key in ("eval_steps", "save_steps")]
    if args.device == "cpu":
        settings.append("model.load_in_4bit=false")
    return load_recipe("amazon-titles", [*settings, *args.settings])


def follow(folder: RunFolder, seconds: float) -> None:
    """Print phases and every fiftieth step; raises where the run does not finish."""
    told, deadline = 0, time.monotonic() + seconds
    while True:
        dead = launch.wait_until_dead(folder, 0.5)
        events = list(read_all(folder.journal))
        for event in events[told:]:
            if event["type"] == "metrics" and event["step"] % 50 == 0:
                say(f"step {event['step']}: {event['step_seconds']:.3f} s")
            elif event["type"] in ("warning", "error") or "seconds" in event:
                keys = ("type", "phase", "seconds", "message", "split", "step", "loss")
                say(str({key: event[key] for key in keys if event.get(key) is not None}))
        told = len(events)
        if dead:
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"{folder.id}: still running after {seconds:.0f} s")
    states = [event for event in events if event["type"] == "state"]
    if not states or states[-1]["state"] != "finished":
        print("\n".join(folder.log_tail(40)))
        raise SystemExit(f"{folder.id}: did not finish")


def project(
    events: list[dict[str, Any]], began: float, recipe: Recipe, whole: Recipe, lines: int
) -> dict[str, Any]:
    """The run's seconds by part, and the epoch's of ``whole``. ``began``: Unix seconds."""
    states = [event for event in events if event["type"] == "state"]
    running = next(event for event in states if event["state"] == "running")
    phases: dict[str, float] = {}
    for event in states:
        if event["state"] == "starting" and "seconds" in event:
            phases[event["phase"]] = phases.get(event["phase"], 0.0) + event["seconds"]
    metrics = [event for event in events if event["type"] == "metrics"]
    steps = [event["step_seconds"] for event in metrics]
    warm = steps[WARM_UP:]
    mean = statistics.mean(warm)
    # Looks lie between steps: what passes there that is no step's, whatever it was spent on.
    training = metrics[-1]["t"] - running["t"]
    looking = training - sum(steps)
    looked = {event["step"] for event in events if event["type"] == "evaluation"}
    inner = [step for step in sorted(looked) if 0 < step < metrics[-1]["step"]]
    finished = next(event["t"] for event in states if event["state"] == "finished")
    ending = finished - metrics[-1]["t"]
    starting = running["t"] - began - sum(phases.values())
    split = whole.split
    epoch_steps = math.ceil(split.train / whole.train.per_device_train_batch_size)
    looks = (epoch_steps - 1) // whole.train.eval_steps
    tests = split.test / running["test_rows"]
    rows = split.train / running["train_rows"]
    each = looking / max(1, len(inner))
    parts: dict[str, tuple[float, float]] = {}
    for phase, seconds in phases.items():
        more = {PREPARING: LINES / lines, TOKENISING: rows, BEFORE: tests}.get(phase, 1.0)
        parts[phase] = seconds, seconds * more
    parts["between phases"] = starting, starting
    first = sum(steps[:WARM_UP]) - mean * WARM_UP
    parts["first steps, over the mean"] = first, first
    parts["steps"] = mean * len(steps), mean * epoch_steps
    parts["looks"] = looking, each * looks
    after = next(e for e in events if e["type"] == "evaluation" and e["which"] == "after")
    parts["last look, best adapter"] = ending - after["seconds"], ending - after["seconds"]
    parts["test loss after training"] = after["seconds"], after["seconds"] * tests

    def seconds_of(kind: str) -> list[float]:
        found = {e["step"]: e["seconds"] for e in events if e["type"] == kind and e["step"] > 0}
        return [round(value, 3) for value in found.values()]

    named = [event for event in events if event["type"] in ("evaluation", "checkpoint", "sample")]
    return {
        "parts": {name: {"run": a, "epoch": b} for name, (a, b) in parts.items()},
        "run_seconds": finished - began,
        "epoch_seconds": sum(b for _, b in parts.values()),
        "steps": len(steps),
        "epoch_steps": epoch_steps,
        "step_seconds": {"mean": mean, "median": statistics.median(warm), "most": max(warm)},
        "tokens_per_step": statistics.mean(event["tokens"] for event in metrics),
        "looks": {"run": len(inner), "epoch": looks},
        "evaluation_seconds": [
            [e["split"], e["which"], e["step"], e["rows"], round(e["seconds"], 3)]
            for e in named
            if e["type"] == "evaluation"
        ],
        "checkpoint_seconds": seconds_of("checkpoint"),
        "sample_seconds": seconds_of("sample"),
        "lines": lines,
        "rows": {k: running[f"{k}_rows"] for k in ("train", "validation", "test")},
        "peak_reserved_bytes": max(event["peak_memory_bytes"] or 0 for event in metrics),
        "facts": {k: running.get(k) for k in ("notes", "optim", "dtype", "gpu", "versions")},
        "shape": recipe.model.model_name_or_path,
    }


def table(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    lines = [f"`{results['command']}`"]
    for run in results["runs"]:
        rows, step = run["rows"], run["step_seconds"]
        lines += [
            "",
            f"Run {run['run']}: {run['facts']['gpu'] or 'CPU'}, {run['lines']:,} lines, "
            f"{rows['train']:,} rows, {run['steps']} steps, {run['looks']['run']} looks between "
            f"them; the epoch: {LINES:,} lines, {run['epoch_steps']:,} steps, "
            f"{run['looks']['epoch']} looks",
            "",
            "| part | this run, s | the epoch, s |",
            "| --- | --- | --- |",
        ]
        for name, part in run["parts"].items():
            lines.append(f"| {name} | {part['run']:.2f} | {part['epoch']:.2f} |")
        whole, peak = run["epoch_seconds"], run["peak_reserved_bytes"] / 1e9
        lines += [
            f"| **all** | {run['run_seconds']:.1f} | **{whole:.1f} = {whole / 60:.1f} min** |",
            "",
            f"Step {step['mean']:.4f} s on average, {step['median']:.4f} median, {step['most']:.3f}"
            f" at most; {run['tokens_per_step']:.0f} tokens a step; peak {peak:.2f} GB",
            f"- evaluations (split, which, step, rows, seconds): {run['evaluation_seconds']}",
            f"- checkpoints, s: {run['checkpoint_seconds']}; samples, s: {run['sample_seconds']}",
            f"- {'; '.join(run['facts']['notes'])}",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
