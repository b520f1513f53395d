"""A run killed with SIGKILL at five random steps and resumed, against the same run left alone.

    python tests/gpu/equality.py --out results/                        on a GPU: the 1B shape
    python tests/gpu/equality.py --out results/ --shape tiny --device cpu --backends transformers

By the real launcher, supervisor and worker. Compares every step's own loss and the best checkpoint,
and, to know what the backend's kernels allow, the run left alone with itself a second time. Writes
``equality.json``.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.home import open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.folder import RunFolder  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import Recipe, load_recipe  # noqa: E402

STEPS = 24
NAMES = ("whole", "again", "broken")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-equality"))
    parser.add_argument("--shape", default="1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backends", default="transformers,unsloth", help="with commas")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the steps at which it is killed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.home.mkdir(parents=True, exist_ok=True)
    model = args.home / f"model-{args.shape}"
    if not (model / "config.json").is_file():
        reference = Path(__file__).with_name("run_reference.py")
        command = [sys.executable, reference, "--out", args.out, "--shape", args.shape]
        subprocess.run([*map(str, command), "--build", str(model)], check=True)
    results: dict[str, Any] = {"command": " ".join(sys.argv), "shape": args.shape}

    def prove(backend: str) -> None:
        try:
            results[backend] = compared(recipe(args, model, backend), backend, args)
        except Exception as error:  # told in the results: the other backend goes on
            results[backend] = {"error": f"{type(error).__name__}: {error}"}
        (args.out / "equality.json").write_text(json.dumps(results, indent=1))
        print(backend, json.dumps(results[backend]), flush=True)

    threads = [threading.Thread(target=prove, args=(b,)) for b in args.backends.split(",")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def recipe(args: argparse.Namespace, model: Path, backend: str) -> Recipe:
    return load_recipe(
        "demo",
        [
            f"model.model_name_or_path={model}",
            f"model.backend={backend}",
            f"model.device={args.device}",
            "model.load_in_4bit=true",
            f"train.max_steps={STEPS}",
            *("train.eval_steps=4", "train.save_steps=4", "train.per_device_train_batch_size=8"),
            *("lora.lora_dropout=0", "train.max_length=128", "train.learning_rate=1e-3"),
            *("evaluate.before=false", "evaluate.validation_rows=32", "evaluate.test_rows=32"),
            *("evaluate.sample_rows=1", "format.template=alpaca"),
            *args.settings,
        ],
    )


def compared(recipe: Recipe, backend: str, args: argparse.Namespace) -> dict[str, Any]:
    # Beside each other, for only losses are measured; in homes of their own, for a home gives a
    # GPU to one run.
    homes = {name: open_home(args.home / f"{backend}-{name}") for name in NAMES}
    folders = [launch.create_run(home, recipe, name) for name, home in homes.items()]
    whole, again, broken = folders
    for folder in folders:
        launch.launch(folder)
    steps = sorted(random.Random(args.seed).sample(range(1, STEPS), args.kills))
    for step in steps:
        kill_after(broken, step)
        assert launch.wait_until_dead(broken, 60)
        launch.resume(homes["broken"], broken)
    for folder in (whole, again, broken):
        assert launch.wait_until_dead(folder, 500), f"{folder.id} still runs"
    ends = [end(folder) for folder in (whole, broken)]
    return {
        "states": [e["state"] for e in ends],
        "reason": ends[1].get("reason"),
        "killed_after": steps,
        "attempts": max(event["attempt"] for event in read_all(broken.journal)),
        "killed_and_resumed_differs_by": difference(whole, broken),
        "left_alone_twice_differs_by": difference(whole, again),
        "best": [e.get("best_checkpoint") for e in ends],
        "losses": [losses(whole)[step] for step in sorted(losses(whole))],
    }


def kill_after(folder: RunFolder, step: int) -> None:
    """SIGKILL the worker as soon as its journal has this step."""
    while True:
        pid, seen = None, 0
        for event in read_all(folder.journal):
            if event["type"] == "state" and "pid" in event:
                pid, seen = event["pid"], 0
            elif event["type"] == "metrics":
                seen = event["step"]
            elif event["type"] == "state" and event["state"] in ("failed", "finished"):
                raise RuntimeError(f"it ended: {event}; {folder.log_tail(5)}")
        if pid and seen >= step:
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def losses(folder: RunFolder) -> dict[int, float]:
    return {e["step"]: float(e["loss"]) for e in read_all(folder.journal) if e["type"] == "metrics"}


def difference(one: RunFolder, other: RunFolder) -> float:
    """The largest of any step's."""
    mine, theirs = losses(one), losses(other)
    assert mine.keys() == theirs.keys(), (sorted(mine), sorted(theirs))
    return max(abs(mine[step] - theirs[step]) for step in mine)


def end(folder: RunFolder) -> dict[str, Any]:
    return [e for e in read_all(folder.journal) if e["type"] == "state"][-1]


if __name__ == "__main__":
    sys.exit(main())
