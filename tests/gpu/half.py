"""The reference recipe as a T4-class card (16 GB, no bfloat16) has to train it: in float16.

    python -m tests.gpu.half --out results/                     on a GPU: Llama 3.2 3B's shape

Through the real launcher: NF4 weights unpacked at every use, float16, batch 32 of length 128, on
rows that fill it. Tells losses, the loss scaler's scale, steps whose gradients overflowed, and the
peak that PyTorch's allocator reserved, which has to leave room on a card of 16 GB. Writes
``half.json`` and ``half.md``.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.bench.shapes import SHAPES  # noqa: E402
from engine.home import Home, open_home  # noqa: E402
from engine.jobs import checkpoints, launch  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402

MOST_BYTES = 14_500_000_000
"""Reserved, of a T4's 15.8e9 bytes: its context and other small things need room as well."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-half"))
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    result = train(open_home(args.home), args.shape, args.steps, args.settings)
    result["command"] = " ".join(["python", *sys.argv])
    (args.out / "half.json").write_text(json.dumps(result, indent=1))
    (args.out / "half.md").write_text(table(result))
    print(table(result))
    problems = wrong(result)
    for words in problems:
        print("PROBLEM", words)
    return 1 if problems else 0


def train(home: Home, shape: str, steps: int, settings: list[str]) -> dict[str, Any]:
    """What the run's journal and its last checkpoint say."""
    model = home.path / f"model-{shape}"
    if not (model / "config.json").is_file():
        code = "import sys, pathlib; from engine.bench.shapes import build_model; "
        code += "build_model(pathlib.Path(sys.argv[1]), sys.argv[2])"
        # In a process of its own: this one must not hold the GPU.
        command = [sys.executable, "-c", code, str(model), shape]
        subprocess.run(command, check=True, cwd=ROOT)
    recipe = load_recipe(
        "amazon-titles",
        [
            *("data.source=builtin:catalogue", "data.name=catalogue", "data.catalogue_rows=8000"),
            *("split.train=0.9", "split.validation=0.05", "split.test=0.05"),
            *(f"model.model_name_or_path={model}", "model.backend=transformers"),
            *("model.dtype=float16", "model.load_in_4bit=true", "model.unpack_4bit=false"),
            *(f"train.max_steps={steps}", "train.warmup_steps=5"),
            *(f"train.eval_steps={steps // 2}", f"train.save_steps={steps // 2}"),
            *("evaluate.before=false", "evaluate.validation_rows=64", "evaluate.test_rows=64"),
            *settings,
        ],
    )
    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    if not launch.wait_until_dead(folder, 500):
        raise SystemExit(f"{folder.id}: still running")
    events = list(read_all(folder.journal))
    states = [event for event in events if event["type"] == "state"]
    running = next((event for event in states if event["state"] == "running"), {})
    metrics = [event for event in events if event["type"] == "metrics"]
    if states[-1]["state"] != "finished":
        print("\n".join(folder.log_tail(40)))
    return {
        "shape": shape,
        "state": states[-1]["state"],
        "errors": [event["message"] for event in events if event["type"] == "error"],
        "warnings": [event["message"] for event in events if event["type"] == "warning"],
        "facts": {k: running.get(k) for k in ("dtype", "gpu", "notes", "optim", "versions")},
        "losses": [float(event["loss"]) for event in metrics],
        "overflowed": [m["step"] for m in metrics if not math.isfinite(float(m["grad_norm"]))],
        "loss_scale": loss_scale(folder),
        "step_seconds": statistics.median([m["step_seconds"] for m in metrics[10:]] or [math.nan]),
        "tokens_per_step": statistics.mean(m["tokens"] for m in metrics) if metrics else None,
        "peak_reserved_bytes": max((m["peak_memory_bytes"] or 0 for m in metrics), default=None),
        "evaluations": [e["loss"] for e in events if e["type"] == "evaluation"],
    }


def loss_scale(folder: Any) -> float | None:
    """What the loss was multiplied by at the last checkpoint; None: nothing scaled it."""
    import torch

    last = checkpoints.latest_whole(folder)
    file = last / "scaler.pt" if last else None
    if file is None or not file.is_file():
        return None
    return float(torch.load(file, weights_only=True)["scale"])


def wrong(result: dict[str, Any], most_bytes: int = MOST_BYTES) -> list[str]:
    """What is not as it has to be, in words."""
    if result["state"] != "finished":
        return [f"{result['state']}: {result['errors']}"]
    losses = result["losses"]
    found = []
    if not all(map(math.isfinite, [*losses, *result["evaluations"]])):
        found.append("a loss is no number")
    if not statistics.mean(losses[-5:]) < losses[0] - 0.1:
        found.append(f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f}")
    if result["facts"]["dtype"] != "float16":
        found.append(f"it ran in {result['facts']['dtype']}")
    if not result["loss_scale"]:
        found.append("no loss scaler")
    # It begins at 65,536 and halves until nothing overflows.
    if len(result["overflowed"]) > len(losses) // 4:
        found.append(f"gradients overflowed at {len(result['overflowed'])} of {len(losses)} steps")
    if result["peak_reserved_bytes"] > most_bytes:
        found.append(f"{result['peak_reserved_bytes'] / 1e9:.2f} GB reserved")
    return found


def table(result: dict[str, Any]) -> str:
    """The result as a page for people."""
    losses, peak = result["losses"], (result["peak_reserved_bytes"] or 0) / 1e9
    if not losses:
        return f"{result['state']}: {result['errors']}\n"
    return (
        f"`{result.get('command', '')}`, {result['facts']['gpu']}\n\n"
        "| shape | dtype | s/step | tokens a step | loss | evaluations | loss scale | overflowed | "
        "peak reserved GB |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| {result['shape']} | {result['facts']['dtype']} | {result['step_seconds']:.3f} | "
        f"{result['tokens_per_step']:.0f} | {losses[0]:.4f} to {losses[-1]:.4f} | "
        f"{', '.join(f'{loss:.4f}' for loss in result['evaluations'])} | {result['loss_scale']} | "
        f"{result['overflowed']} of {len(losses)} | {peak:.2f} |\n\n"
        f"{'; '.join(result['facts']['notes'])}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
