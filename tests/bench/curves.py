"""The loss curve of a run of tunebench with fused layers against plain Transformers + PEFT + TRL.

    python -m tests.bench.curves --out results/                            one NVIDIA GPU
    python -m tests.bench.curves --out results/ --only base --device cpu --dtype bfloat16

Shapes: ``base``, the built-in model that was trained from scratch; ``tiny``, ``1b`` and ``3b`` of
random weights. Of each, over ``--steps`` steps on the same rows in the same order, with the same
first adapters, batch, rank, rate, schedule and seed, without dropout:

- ``fused``: a run by the real launcher and worker, every step's loss from its journal;
- ``plain``: TRL's ``SFTTrainer`` on a Transformers model with PEFT's LoRA, nothing of the engine's;
- ``split``: ``plain`` again, every batch in two halves whose gradients are added up: the same
  mathematics in another order, which tells how far curves part through rounding alone;
- ``float32`` (with ``--float32``): ``plain`` in float32, what both are roundings of.

And of one batch, at the first adapters and at those after the last step: the cosine between the
gradients. Two processes a shape, one after the other. Writes ``curves.json`` and ``curves.md``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.bench.shapes import SHAPES  # noqa: E402
from engine.home import Home, open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import Recipe, load_recipe  # noqa: E402

LIMIT = 0.02
LEAST_COSINE = 0.999
SECONDS = 540
"""That one run may take."""
PAIRS = (("fused", "plain"), ("split", "plain"), ("fused", "float32"), ("plain", "float32"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-curves"))
    parser.add_argument("--only", default="base,1b,3b", help="shapes, with commas")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--no-split", action="store_true", help="without the curve of halves")
    parser.add_argument("--float32", action="store_true", help="a curve in float32 as well")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    home = open_home(args.home)
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "steps": args.steps}
    for shape in args.only.split(","):
        began = time.monotonic()
        results[shape] = of_shape(home, shape, args)
        results[shape]["seconds"] = time.monotonic() - began
        (args.out / "curves.json").write_text(json.dumps(results, indent=1))
        (args.out / "curves.md").write_text(table(results))
    print(table(results))
    shapes = [value for value in results.values() if isinstance(value, dict)]
    return 0 if all(shape["agrees"] for shape in shapes) else 1


def say(words: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


def of_shape(home: Home, shape: str, args: argparse.Namespace) -> dict[str, Any]:
    recipe = recipe_of(home, shape, args)
    say(f"{shape}: a run with fused layers")
    curves: dict[str, list[dict[str, Any]]] = {}
    facts, curves["fused"], file = fused(home, recipe)
    ways = ["plain", *([] if args.no_split else ["split"]), *(["float32"] if args.float32 else [])]
    say(f"{shape}: {', '.join(ways)}")
    out = args.out.resolve() / f"plain-{shape}.json"
    command = [
        sys.executable,
        "-m",
        "tests.bench.plain_curve",
        args.home,
        file,
        ",".join(ways),
        out,
    ]
    subprocess.run([str(each) for each in command], check=True, cwd=ROOT)
    found = json.loads(out.read_text())
    curves |= found["curves"]
    pairs = {f"{a} {b}": apart(curves[a], curves[b]) for a, b in PAIRS if {a, b} <= curves.keys()}
    least = min(each["cosine"]["fused plain"] for each in found["gradients"].values())
    difference = pairs["fused plain"]["mean"]
    return {
        "facts": facts,
        "plain_facts": found["facts"],
        "apart": pairs,
        "gradients": found["gradients"],
        "agrees": difference < LIMIT and least >= LEAST_COSINE,
        "curves": {name: [each["loss"] for each in curve] for name, curve in curves.items()},
        "norms": {name: [each["grad_norm"] for each in curve] for name, curve in curves.items()},
    }


def recipe_of(home: Home, shape: str, args: argparse.Namespace) -> Recipe:
    """The demo's recipe for the built-in model, the reference's (alpaca, r=8) for the others."""
    quiet = [
        *(f"model.device={args.device}", f"model.dtype={args.dtype}"),
        *("model.backend=transformers", "model.kernels=fused", "model.load_in_4bit=false"),
        *("lora.lora_dropout=0", f"train.max_steps={args.steps}", "train.save_total_limit=1"),
        *(f"train.eval_steps={args.steps}", f"train.save_steps={args.steps}"),
        *("train.load_best_model_at_end=false", "train.early_stopping_patience=0"),
        *("evaluate.before=false", "evaluate.sample_rows=0"),
        *("evaluate.validation_rows=32", "evaluate.test_rows=32"),
    ]
    if shape == "base":
        return load_recipe("demo", [*quiet, *args.settings])
    if shape not in SHAPES:
        raise SystemExit(f"--only {shape}: one of base, {', '.join(SHAPES)}")
    model = home.path / f"model-{shape}"
    if not (model / "config.json").is_file():
        say(f"{shape}: building the model")
        code = "import sys, pathlib; from engine.bench.shapes import build_model; "
        code += "build_model(pathlib.Path(sys.argv[1]), sys.argv[2])"
        command = [sys.executable, "-c", code, str(model), shape]
        subprocess.run(command, check=True, cwd=ROOT)
    data = ["data.source=builtin:catalogue", "data.name=catalogue", "data.catalogue_rows=16000"]
    split = ["split.train=0.9", "split.validation=0.05", "split.test=0.05"]
    model_name = f"model.model_name_or_path={model}"
    return load_recipe("amazon-titles", [*data, *split, *quiet, model_name, *args.settings])


def fused(home: Home, recipe: Recipe) -> tuple[dict[str, Any], list[Any], Path]:
    """(the run's facts, every step's journal line, its recipe's file)"""
    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    if not launch.wait_until_dead(folder, SECONDS):
        raise SystemExit(f"{folder.id}: still running after {SECONDS} s")
    events = list(read_all(folder.journal))
    states = [event for event in events if event["type"] == "state"]
    if states[-1]["state"] != "finished":
        why = [event.get("message") for event in events if event["type"] == "error"]
        raise SystemExit(f"{folder.id}: {states[-1]['state']}: {why}")
    running = next(state for state in states if state["state"] == "running")
    keys = ("notes", "optim", "dtype", "gpu", "versions", "fingerprint")
    metrics = [event for event in events if event["type"] == "metrics"]
    return {key: running.get(key) for key in keys}, metrics, folder.recipe_file


def apart(curve: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """How far two curves of losses part; raises where they did not see the same batches."""
    tokens = [[int(each["tokens"]) for each in one] for one in (curve, other)]
    if tokens[0] != tokens[1]:
        place = next(i for i, (a, b) in enumerate(zip(*tokens, strict=False)) if a != b)
        raise SystemExit(f"step {place + 1}: {tokens[0][place]} tokens and {tokens[1][place]}")
    gaps = [abs(a["loss"] - b["loss"]) for a, b in zip(curve, other, strict=True)]
    norms = curve[0]["grad_norm"], other[0]["grad_norm"]
    return {
        "mean": statistics.mean(gaps),
        "largest": max(gaps),
        "at_step": gaps.index(max(gaps)) + 1,
        "mean_of_last_50": statistics.mean(gaps[-50:]),
        # Of the same adapters: their B is zero, and its gradient goes through A.
        "first_norms_differ": abs(norms[0] - norms[1]) / norms[1],
    }


# ---- words --------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    lines = [
        f"`{results['command']}`, {results['steps']} steps",
        "",
        "| shape | curves | mean difference | largest (at step) | last 50 | first norms differ |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    shapes = {name: value for name, value in results.items() if isinstance(value, dict)}
    for name, shape in shapes.items():
        for pair, each in shape["apart"].items():
            lines.append(
                f"| {name} | {' and '.join(pair.split())} | {each['mean']:.5f} | "
                f"{each['largest']:.5f} ({each['at_step']}) | {each['mean_of_last_50']:.5f} | "
                f"{each['first_norms_differ']:.1e} |"
            )
    lines += ["", "| shape | adapters | gradients | cosine |", "| --- | --- | --- | --- |"]
    for name, shape in shapes.items():
        for place, each in shape["gradients"].items():
            for pair, cosine in each["cosine"].items():
                lines.append(f"| {name} | {place} | {pair} | {cosine:.6f} |")
    for name, shape in shapes.items():
        ends = {way: f"{c[0]:.4f} to {c[-1]:.4f}" for way, c in shape["curves"].items()}
        words = ", ".join(f"{way} {each}" for way, each in ends.items())
        lines += ["", f"{name} ({shape['facts']['notes']}): loss {words}; {shape['seconds']:.0f} s"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
