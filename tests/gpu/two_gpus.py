"""One process and two, one a GPU: the same losses, and how much faster.

    python tests/gpu/two_gpus.py --out results/                            on two GPUs, 8 minutes
    python tests/gpu/two_gpus.py --out results/ --device cpu --shapes tiny,tiny --steps 20 --batch 4

By the real launcher, supervisor, lead and ranks. ``lora``: Llama 3.2 3B's shape in 4 bits with LoRA
(DDP). ``full``: the 1B shape, every weight trained (FSDP2). Each is trained by one process with a
batch, by two with that batch each, and by one with twice the batch: the last two see the same rows
at every step. ``kill``: a run in two processes whose second one is killed, then resumed. Writes
``two_gpus.json`` and ``two_gpus.md``.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.home import Home, open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.folder import RunFolder  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402
from tests.engine.fakes.rank_processes import of_run, open_to_the_network, pid_of  # noqa: E402
from tests.gpu.run_reference import WARM_UP_STEPS, follow, machine, say  # noqa: E402

RATIO = 1.8
TOLERANCE = 5e-2
"""Of bfloat16 losses near 10: one batch of 64 rows is multiplied in other blocks than two of 32."""

WAYS = {
    "lora": ["model.load_in_4bit=true", "lora.lora_dropout=0"],
    "full": ["model.load_in_4bit=false", "lora.enabled=false", "train.learning_rate=1e-5"],
}
OPTIMISER = "train.optim=adamw_torch_fused"
"""The same for one process as for sharded weights, which bitsandbytes' cannot take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-two-gpus"))
    parser.add_argument("--shapes", default="3b,1b", help="of lora and of full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="lora,full,kill", help="with commas")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32, help="of one process")
    parser.add_argument("--rows", type=int, default=20_000, help="lines of the catalogue")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    home = open_home(args.home)
    shapes = dict(zip(WAYS, args.shapes.split(","), strict=True))
    with ThreadPoolExecutor() as pool:
        built = [pool.submit(build, home, shape, args.out) for shape in sorted({*shapes.values()})]
        paths = dict(
            zip(sorted({*shapes.values()}), (each.result() for each in built), strict=True)
        )
    models = {way: paths[shape] for way, shape in shapes.items()}
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "shapes": shapes,
    }
    problems: list[str] = []
    for way in args.only.split(","):
        try:
            if way == "kill":
                results[way] = killed(home, models["lora"], args)
            else:
                results[way] = compared(home, models[way], way, args)
        except Exception as error:  # told in the results: the rest goes on
            results[way] = {"problems": [f"{type(error).__name__}: {error}"]}
        problems += [f"{way}: {words}" for words in results[way]["problems"]]
        (args.out / "two_gpus.json").write_text(json.dumps(results, indent=1))
        (args.out / "two_gpus.md").write_text(table(results))
    for words in problems:
        say(f"PROBLEM {words}")
    return 1 if problems else 0


def build(home: Home, shape: str, out: Path) -> Path:
    model = home.path / f"model-{shape}"
    if not (model / "config.json").is_file():
        reference = Path(__file__).with_name("run_reference.py")  # in a process that ends
        command = [sys.executable, reference, "--out", out, "--shape", shape, "--build", model]
        subprocess.run([*map(str, command)], check=True)
    return model


def begin(home: Home, model: Path, args: argparse.Namespace, *settings: str) -> RunFolder:
    recipe = load_recipe(
        "amazon-titles",
        [
            "data.source=builtin:catalogue",
            "data.name=catalogue",
            f"data.catalogue_rows={args.rows}",
            *("split.train=0.9", "split.validation=0.05", "split.test=0.05"),
            f"model.model_name_or_path={model}",
            *("model.backend=transformers", f"model.device={args.device}"),
            *("train.load_best_model_at_end=false", "train.early_stopping_patience=0"),
            f"train.max_steps={args.steps}",
            *(f"train.eval_steps={args.steps}", f"train.save_steps={args.steps}"),
            *("train.loss_watchdog=off", "evaluate.sample_rows=0", "evaluate.before=false"),
            *("evaluate.validation_rows=256", "evaluate.test_rows=256", OPTIMISER),
            *settings,
            *args.settings,
        ],
    )
    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    return folder


def finish(folder: RunFolder) -> dict[str, Any]:
    """Follow the run to its end, and read what its journal says."""
    follow(folder, lambda step: None)
    events = list(read_all(folder.journal))
    metrics = {e["step"]: e for e in events if e["type"] == "metrics"}
    running = [e for e in events if e["type"] == "state" and "max_steps" in e]
    ends = [e for e in events if e["type"] == "state"]
    warm = [e for step, e in sorted(metrics.items()) if step > WARM_UP_STEPS]
    if ends[-1]["state"] != "finished":
        print(folder.log.read_text("utf-8", "replace")[-6000:], flush=True)
    seconds = statistics.median(e["step_seconds"] for e in warm) if warm else None
    return {
        "run": folder.id,
        "state": ends[-1]["state"],
        "reason": ends[-1].get("reason"),
        "processes": running[-1]["num_processes"] if running else None,
        "optim": running[-1]["optim"] if running else None,
        "step_seconds": seconds,
        "tokens_per_second": sum(e["tokens"] for e in warm) / sum(e["step_seconds"] for e in warm)
        if warm
        else None,
        "peak_bytes": max((e["peak_memory_bytes"] for e in metrics.values()), default=None),
        "devices": sorted({e["device"] for e in events if e["type"] == "memory"}),
        "seconds": [round(metrics[step]["step_seconds"], 4) for step in sorted(metrics)],
        "losses": [metrics[step]["loss"] for step in sorted(metrics)],
        "tokens": [metrics[step]["tokens"] for step in sorted(metrics)],
        "checkpoints": [
            {k: e[k] for k in ("step", "bytes", "seconds")}
            for e in events
            if e["type"] == "checkpoint"
        ],
        "evaluation": [e["loss"] for e in events if e["type"] == "evaluation"],
    }


def compared(home: Home, model: Path, way: str, args: argparse.Namespace) -> dict[str, Any]:
    own = args.batch * (2 if way == "full" else 1)  # more to compute for what is sent around

    def start(processes: int, batch: int) -> RunFolder:
        counts = [f"train.num_processes={processes}", f"train.per_device_train_batch_size={batch}"]
        return begin(home, model, args, *WAYS[way], *counts)

    say(f"{way}: two")
    two = finish(start(2, own))
    say(f"{way}: one, and one with both batches")
    first = start(1, own)
    if args.device == "cuda":  # beside it, on the other GPU
        second = start(1, 2 * own)
        one, both = finish(first), finish(second)
    else:
        one, both = finish(first), finish(start(1, 2 * own))
    runs = {"one": one, "two": two, "one with both batches": both}
    problems = [
        f"{name} ended as {r['state']}" for name, r in runs.items() if r["state"] != "finished"
    ]
    worst = difference(two, both)
    ratio = (two["tokens_per_second"] or 0) / (one["tokens_per_second"] or 1)
    if worst is None or worst > TOLERANCE:
        problems.append(f"losses differ by {worst}")
    if two["tokens"] != both["tokens"]:
        problems.append("two processes saw other tokens than one with their batches together")
    if args.device == "cuda":
        if ratio < RATIO:
            problems.append(f"two processes are {ratio:.2f} times as fast as one")
        if two["devices"] != ["cuda:0", "cuda:1"]:
            problems.append(f"memory told of {two['devices']} only")
    return {"runs": runs, "ratio": ratio, "losses_differ_by": worst, "problems": problems}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    if len(one["losses"]) != len(other["losses"]) or not one["losses"]:
        return None
    return max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True))


def killed(home: Home, model: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Killed between two checkpoints; the steps after it are compared with a run left alone."""
    settings = [
        *WAYS["lora"],
        *("train.num_processes=2", "train.per_device_train_batch_size=8"),
        *("train.eval_steps=8", "train.save_steps=8"),
    ]
    whole = begin(home, model, args, *settings)
    left_alone = finish(whole)
    folder = begin(home, model, args, *settings)
    while sum(e["type"] == "metrics" for e in read_all(folder.journal)) < 12:
        if launch.wait_until_dead(folder, 0.1):
            break
    opened = open_to_the_network(of_run(folder))
    began = time.monotonic()
    os.kill(pid_of(folder, "rank 1"), signal.SIGKILL)
    dead = launch.wait_until_dead(folder, 60)
    seconds = time.monotonic() - began
    ends = [e for e in read_all(folder.journal) if e["type"] == "state"]
    left = of_run(folder)
    launch.resume(home, folder)
    resumed = finish(folder)
    worst = difference(resumed, left_alone)
    problems = []
    if not dead or ends[-1]["state"] != "failed" or "rank 1" not in str(ends[-1].get("reason")):
        problems.append(f"after the kill: {ends[-1]}")
    if left:
        problems.append(f"{len(left)} processes left")
    if resumed["state"] != "finished" or worst is None or worst > TOLERANCE:
        problems.append(f"resumed: {resumed['state']}, losses differ by {worst}")
    if opened:
        problems.append(f"sockets open to the network: {opened}")
    return {
        "reason": ends[-1].get("reason"),
        "seconds_to_the_end": seconds,
        "losses_differ_by": worst,
        "sockets_open_to_the_network": opened,
        "problems": problems,
    }


def table(results: dict[str, Any]) -> str:
    """The results as a page for people."""
    lines = [
        f"## One process and two, {results['date']}",
        "",
        f"{results['machine']['gpu']}, Python {results['machine']['python']}",
        f"`{results['command']}`",
        "",
        "| way | processes | s/step | tokens/s | peak reserved GB | optimiser |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        for name, run in results.get(way, {}).get("runs", {}).items():
            seconds, speed = run["step_seconds"] or 0, run["tokens_per_second"] or 0
            lines.append(
                f"| {way} | {name} | {seconds:.3f} | {speed:,.0f} | "
                f"{(run['peak_bytes'] or 0) / 1e9:.2f} | {run['optim']} |"
            )
    for way in ("lora", "full", "kill"):
        if way in results:
            facts = {k: v for k, v in results[way].items() if k != "runs"}
            lines += ["", f"- {way}: {json.dumps(facts)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
