"""Estimated, probed and true peak memory, side by side, for a list of recipes.

    python tests/gpu/measure_memory.py --out results/                   on a GPU: every point
    python tests/gpu/measure_memory.py --out results/ --only 0,3,7      some of them
    python tests/gpu/measure_memory.py --out results/ --device cpu      the tiny shape: does it run

Random weights of Llama 3.2's shapes (memory does not depend on their values). Each point is probed
(``engine.preflight.probe``) and trained for 24 steps by the real launcher, supervisor and worker;
peaks are what PyTorch's allocator reserved in that process, so several run beside each other as
far as the GPU's memory goes. Times measured here mean nothing for that reason. Writes
``memory.json`` and ``memory.md`` after every point.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.home import Home, open_home  # noqa: E402
from engine.recipe import Recipe, load_recipe  # noqa: E402

STEPS = 24
Point = dict[str, Any]


def point(
    shape: str,
    backend: str,
    load_in_4bit: bool,
    batch: int,
    max_length: int,
    checkpointing: bool = False,
    dropout: float = 0.0,
) -> Point:
    return {
        "shape": shape,
        "backend": backend,
        "load_in_4bit": load_in_4bit,
        "batch": batch,
        "max_length": max_length,
        "checkpointing": checkpointing,
        "dropout": dropout,
    }


POINTS = [
    settings | {"backend": backend}
    for settings in (
        point("3b", "", True, 32, 128, dropout=0.05),
        point("3b", "", False, 32, 128),
        point("3b", "", True, 64, 128),
        point("3b", "", False, 8, 128),
        point("3b", "", True, 8, 512),
        point("3b", "", False, 16, 512, dropout=0.05),
        point("3b", "", True, 8, 1024),
        point("3b", "", True, 16, 1024, checkpointing=True),
        point("3b", "", False, 32, 512, checkpointing=True, dropout=0.05),
        point("1b", "", True, 64, 256),
        point("1b", "", False, 16, 1024, dropout=0.05),
        point("1b", "", True, 32, 128, checkpointing=True),
    )
    for backend in ("unsloth", "transformers")
]
TINY = [
    point("tiny", "transformers", False, 4, 96),
    point("tiny", "transformers", True, 8, 128, checkpointing=True, dropout=0.05),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--work", type=Path, default=Path("/tmp/tunebench-memory"))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--only", default="", help="numbers of points, with commas")
    parser.add_argument("--seconds", type=float, default=480, help="start nothing after this long")
    parser.add_argument("--beside", type=int, default=6, help="processes at a time")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return job(json.loads(args.job))
    began = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    points = TINY if args.device == "cpu" else POINTS
    chosen = [int(number) for number in args.only.split(",") if number] or range(len(points))
    for shape in dict.fromkeys(points[number]["shape"] for number in chosen):
        build(args.work / f"model-{shape}", shape)
    for max_length in {points[number]["max_length"] for number in chosen}:
        write_rows(args.work / f"rows-{max_length}.jsonl", max_length)
    say(f"models ready after {time.monotonic() - began:.0f} s")
    results = {number: dict(points[number]) for number in chosen}
    everything = {"machine": machine(), "command": " ".join(sys.argv), "points": results}
    room = Room(args.device)
    # As asked for; else the biggest first: what is left over at the end is small.
    order = list(chosen)
    if not args.only:
        order.sort(key=lambda number: -points[number]["batch"] * points[number]["max_length"])
    jobs = [(number, what) for number in order for what in ("probe", "run")]

    def work(item: tuple[int, str]) -> None:
        number, what = item
        recipe = recipe_of(points[number], args.work, args.device)
        need = estimated(recipe, args.work, args.device)["peak"]
        with room.take(int(need * 1.2) + (2 << 30)):
            if time.monotonic() - began > args.seconds:
                found: dict[str, Any] = {"error": "no time left"}
            else:
                found = start(args, number, points[number], what)
        results[number] |= found if what == "run" else {"probe": found}
        say(f"{number} {what}: {short(found)}")
        write(args.out, everything)

    with ThreadPoolExecutor(args.beside) as pool:
        list(pool.map(work, jobs))
    write(args.out, everything)
    print((args.out / "memory.md").read_text(), flush=True)
    return 0


class Room:
    """Hands out the GPU's memory, so that no process runs into another one's."""

    def __init__(self, device: str) -> None:
        from engine.system.gpu import read_gpus

        gpus = list(read_gpus()) if device == "cuda" else []
        self.free = int(0.93 * (gpus[0].memory_free or 0)) if gpus else 1 << 62
        self.whole = self.free
        self.changed = threading.Condition()

    def take(self, size: int) -> "Room._Taken":
        return Room._Taken(self, size)

    class _Taken:
        def __init__(self, room: "Room", size: int) -> None:
            self.room, self.size = room, size

        def __enter__(self) -> None:
            with self.room.changed:
                self.size = min(self.size, self.room.whole)
                self.room.changed.wait_for(lambda: self.room.free >= self.size)
                self.room.free -= self.size

        def __exit__(self, *_: object) -> None:
            with self.room.changed:
                self.room.free += self.size
                self.room.changed.notify_all()


def say(words: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


def short(found: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in found.items() if k in ("error", "true_bytes", "peak")})


def build(folder: Path, shape: str) -> None:
    """Weights and tokenizer, in a process of its own: this one must not hold the GPU."""
    if (folder / "config.json").is_file():
        return
    script = ROOT / "tests" / "gpu" / "run_reference.py"
    command = [sys.executable, script, "--out", folder.parent, "--shape", shape, "--build", folder]
    subprocess.run([*map(str, command)], check=True)


def write_rows(path: Path, max_length: int) -> None:
    """3,000 rows from a third to a quarter over ``max_length`` tokens long."""
    draw = random.Random(max_length)
    words = ["steel", "kettle", "with", "wooden", "handle", "for", "the", "kitchen", "of", "oak"]
    with path.open("w") as file:
        for number in range(3000):
            count = int(max_length * draw.uniform(0.3, 1.25))
            text = " ".join(draw.choice(words) for _ in range(count))
            row = {"title": f"{draw.choice(words)} {number}", "content": f"{number} {text}."}
            file.write(json.dumps(row) + "\n")


def recipe_of(settings: Point, work: Path, device: str) -> Recipe:
    return load_recipe(
        "amazon-titles",
        [
            f"data.source={work / 'rows-{max_length}.jsonl'.format(**settings)}",
            "data.name=rows",
            # As when the tokenizer did not know alpaca's words: the points stay comparable.
            "format.template=plain",
            *("split.train=0.9", "split.validation=0.05", "split.test=0.05"),
            f"model.model_name_or_path={work / 'model-{shape}'.format(**settings)}",
            "model.backend={backend}".format(**settings),
            f"model.device={device}",
            f"model.load_in_4bit={str(settings['load_in_4bit']).lower()}",
            "lora.lora_dropout={dropout}".format(**settings),
            "train.max_length={max_length}".format(**settings),
            "train.per_device_train_batch_size={batch}".format(**settings),
            "train.per_device_eval_batch_size={batch}".format(**settings),
            f"train.gradient_checkpointing={str(settings['checkpointing']).lower()}",
            f"train.max_steps={STEPS}",
            *("train.eval_steps=8", "train.save_steps=8", "train.warmup_steps=0"),
        ],
    )


def estimated(recipe: Recipe, work: Path, device: str) -> dict[str, int]:
    from engine.preflight.memory import Setup, estimate
    from engine.preflight.shape import read_shape

    setup = Setup(
        backend=recipe.model.backend,
        device=device,
        dtype="bfloat16" if device == "cuda" else "float32",
    )
    length = recipe.train.max_length
    return estimate(recipe, read_shape(recipe), setup, length, length).as_json()


def start(args: argparse.Namespace, number: int, settings: Point, what: str) -> dict[str, Any]:
    """One probe or run in a process of its own, with a home of its own."""
    folder = args.work / f"{what}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    order = {
        "what": what,
        "settings": settings,
        "work": str(args.work),
        "device": args.device,
        "home": str(folder / "home"),
        "result": str(folder / "result.json"),
    }
    command = [sys.executable, __file__, "--out", str(args.out), "--job", json.dumps(order)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found = json.loads((folder / "result.json").read_text())
    except OSError:
        words = (done.stdout + done.stderr).strip()[-3000:]
        say(f"{number} {what} failed: {words}")
        found = {"error": words[-600:]}
    shutil.rmtree(folder, ignore_errors=True)
    return found | {"seconds": time.monotonic() - began}


def job(order: dict[str, Any]) -> int:
    home = open_home(order["home"])
    recipe = recipe_of(order["settings"], Path(order["work"]), order["device"])
    if order["what"] == "probe":
        found = probed(home, recipe)
    else:
        found = {"estimate": estimated(recipe, Path(order["work"]), order["device"])}
        found |= trained(home, recipe)
    Path(order["result"]).write_text(json.dumps(found))
    return 0


def probed(home: Home, recipe: Recipe) -> dict[str, Any]:
    from engine.data.prepare import prepare
    from engine.generate.errand import run_errand
    from engine.preflight.resolve import resolve

    resolved = resolve(home, recipe, prepare(home, recipe))
    train = recipe.train
    pair = (train.per_device_train_batch_size, train.gradient_accumulation_steps)
    spec = resolved.probe_spec(home, [pair])
    spec.timing_seconds = 5.0
    file = home.path / "spec.json"
    spec.write(file)
    found = run_errand("engine.preflight.probe", [str(file)], say)
    (attempt,) = found.pop("attempts")
    return found | attempt | {"peak": attempt["peak_bytes"]}


def trained(home: Home, recipe: Recipe) -> dict[str, Any]:
    from engine.jobs import launch
    from engine.jobs.journal import read_all

    folder = launch.create_run(home, recipe)
    launch.launch(folder)
    launch.wait_until_dead(folder, 600)
    events = list(read_all(folder.journal))
    states = [event for event in events if event["type"] == "state"]
    metrics = [event for event in events if event["type"] == "metrics"]
    peaks = [e[k] for e in events for k in ("peak_memory_bytes", "peak_bytes") if e.get(k)]
    found: dict[str, Any] = {
        "state": states[-1]["state"],
        "steps": len(metrics),
        "true_bytes": max(peaks, default=None),
        "first_peak_bytes": metrics[0]["peak_memory_bytes"] if metrics else None,
        "checkpoint_bytes": [e["bytes"] for e in events if e["type"] == "checkpoint"],
    }
    if found["state"] != "finished":
        found["error"] = f"{states[-1].get('reason')}: " + " | ".join(folder.log_tail(15))
    return found


def machine() -> dict[str, Any]:
    from engine.system.gpu import read_gpus

    gpus = list(read_gpus())
    return {
        "python": sys.version.split()[0],
        "gpu": gpus[0].name if gpus else None,
        "memory_total": gpus[0].memory_total if gpus else None,
    }


def write(out: Path, everything: dict[str, Any]) -> None:
    (out / "memory.json").write_text(json.dumps(everything, indent=1, default=str))
    (out / "memory.md").write_text(table(everything))


def table(everything: dict[str, Any]) -> str:
    """The results as a page for people; GB are 10^9 bytes."""

    def gb(value: Any) -> str:
        return f"{value / 1e9:.2f}" if isinstance(value, int | float) else "-"

    def off(value: Any, true: Any) -> str:
        both = isinstance(value, int | float) and isinstance(true, int | float) and true
        return f"{100 * (value / true - 1):+.1f} %" if both else "-"

    lines = [
        f"{everything['machine']['gpu']}, `{everything['command']}`",
        "",
        "| # | shape | backend | weights | batch | length | checkpointing | dropout "
        "| true GB | estimate GB | off | probe GB | off |",
        "|" + " --- |" * 13,
    ]
    for number, found in sorted(everything["points"].items()):
        true, guess = found.get("true_bytes"), found.get("estimate", {}).get("peak")
        probe = found.get("probe", {}).get("peak")
        lines.append(
            f"| {number} | {found['shape']} | {found['backend']} "
            f"| {'4-bit' if found['load_in_4bit'] else '16-bit'} | {found['batch']} "
            f"| {found['max_length']} | {'on' if found['checkpointing'] else 'off'} "
            f"| {found['dropout']:g} | {gb(true)} | {gb(guess)} | {off(guess, true)} "
            f"| {gb(probe)} | {off(probe, true)} |"
        )
    for number, found in sorted(everything["points"].items()):
        for what, part in (("run", found), ("probe", found.get("probe", {}))):
            if part.get("error"):
                lines += ["", f"{number} {what}: {' '.join(str(part['error']).split())[:400]}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
