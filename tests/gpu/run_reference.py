"""The reference experiment's shape on one GPU, through the real supervisor and worker.

    python tests/gpu/run_reference.py --out results/            on a GPU: Llama 3.2 3B's shape
    python tests/gpu/run_reference.py --out results/ --shape tiny --backends transformers

Builds Llama-3.2-3B's exact shape with random weights (loss depends on their values, time and memory
do not), trains the built-in recipe ``amazon-titles`` on a generated catalogue with each backend,
reads the journals, and answers some titles with base and tuned model side by side. Writes
``results.json``, ``results.md`` and, where the screens are installed, ``train-BACKEND.svg``.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.bench.shapes import SHAPES, build_model  # noqa: E402
from engine.home import Home, open_home  # noqa: E402
from engine.jobs import launch  # noqa: E402
from engine.jobs.folder import RunFolder  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402
from engine.recipe import load_recipe  # noqa: E402

WARM_UP_STEPS = 10
TRAINABLE = 12_156_928
"""LoRA r=8 on the seven linears of Llama 3.2 3B."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-reference"))
    parser.add_argument("--shape", choices=SHAPES, default="3b")
    parser.add_argument("--backends", default="unsloth,transformers", help="with commas")
    parser.add_argument("--rows", type=int, default=20_000, help="lines of the catalogue")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--no-answers", action="store_true", help="only train")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        say(f"{build_model(args.build, args.shape):,} parameters")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    home = open_home(args.home)
    model = home.path / f"model-{args.shape}"
    began = time.monotonic()
    if not (model / "config.json").is_file():
        # In a process of its own: this one must not hold the GPU.
        command = [sys.executable, __file__, "--out", args.out, "--shape", args.shape]
        subprocess.run([*map(str, command), "--build", str(model)], check=True)
    say(f"model of {args.shape} shape ready after {time.monotonic() - began:.0f} s")
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "shape": args.shape,
        "rows": args.rows,
        "runs": [],
    }
    problems: list[str] = []
    for backend in args.backends.split(","):
        result = train(home, model, backend, args)
        results["runs"].append(result)
        problems += [f"{backend}: {words}" for words in result["problems"]]
        write(args.out, results)
        if result["state"] == "finished" and not args.no_answers:
            result["generation"] = answer(home, result["run"])
            write(args.out, results)
    for words in problems:
        say(f"PROBLEM {words}")
    return 1 if problems else 0


def say(words: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {words}", flush=True)


# ---- a run ----------------------------------------------------------------------------------


def train(home: Home, model: Path, backend: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train with one backend; what the journal, nvidia-smi and our own GPU reading say."""
    recipe = load_recipe(
        "amazon-titles",
        [
            "data.source=builtin:catalogue",
            "data.name=catalogue",
            f"data.catalogue_rows={args.rows}",
            *("split.train=0.9", "split.validation=0.05", "split.test=0.05"),
            f"model.model_name_or_path={model}",
            f"model.backend={backend}",
            f"train.max_steps={args.steps}",
            *("train.eval_steps=25", "train.save_steps=25"),
            *("evaluate.validation_rows=256", "evaluate.test_rows=256"),
            *args.settings,
        ],
    )
    folder = launch.create_run(home, recipe)
    began = time.time()
    launch.launch(folder)
    middle: dict[str, Any] = {}

    def look(step: int) -> None:
        if not middle and step >= args.steps // 2:
            middle.update(gpu_now(folder))
            middle["step"] = step
            middle["screenshot"] = screenshot(home, folder, args.out / f"train-{backend}.svg")

    follow(folder, look)
    return report(folder, backend, began, middle, args)


def follow(folder: RunFolder, look: Callable[[int], None]) -> None:
    """Print the run's phases and every tenth step; call ``look`` with each step seen."""
    told = 0
    while True:
        dead = launch.wait_until_dead(folder, 0.2)
        events = list(read_all(folder.journal))
        for event in events[told:]:
            if event["type"] in ("state", "warning", "error", "evaluation", "exit"):
                shown = {k: event.get(k) for k in ("state", "phase", "seconds", "message", "loss")}
                say(f"{event['type']} { {k: v for k, v in shown.items() if v is not None} }")
            elif event["type"] == "metrics":
                if event["step"] % 10 == 0:
                    say(f"step {event['step']}: {event['step_seconds']:.3f} s")
                look(event["step"])
        told = len(events)
        if dead:
            return


def report(
    folder: RunFolder, backend: str, began: float, middle: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    events = list(read_all(folder.journal))
    states = [e for e in events if e["type"] == "state"]
    metrics = [e for e in events if e["type"] == "metrics"]
    running = next((e for e in states if e["state"] == "running"), {})
    warm = [m["step_seconds"] for m in metrics if m["step"] > WARM_UP_STEPS]
    padded = 32 * 128
    seconds = statistics.median(warm) if warm else None
    problems = []
    if states[-1]["state"] != "finished":
        problems.append(f"ended as {states[-1]['state']}: {states[-1].get('reason')}")
        print(folder.log.read_text("utf-8", "replace")[-6000:], flush=True)
    if args.shape == "3b" and running.get("trainable_parameters") != TRAINABLE:
        problems.append(f"{running.get('trainable_parameters')} trainable parameters")
    return {
        "run": folder.id,
        "backend": backend,
        "state": states[-1]["state"],
        "problems": problems,
        "trainable_parameters": running.get("trainable_parameters"),
        "total_parameters": running.get("total_parameters"),
        "optim": running.get("optim"),
        "dtype": running.get("dtype"),
        "notes": running.get("notes"),
        "versions": running.get("versions"),
        "phases": {e["phase"]: e["seconds"] for e in states if "seconds" in e},
        "seconds_to_first_step": metrics[0]["t"] - began if metrics else None,
        "steps": len(metrics),
        "step_seconds_median": seconds,
        "padded_tokens_per_second": padded / seconds if seconds else None,
        "tokens_per_step_mean": statistics.mean(m["tokens"] for m in metrics) if metrics else None,
        "peak_reserved_bytes": max((m["peak_memory_bytes"] for m in metrics), default=None),
        "losses": [m["loss"] for m in metrics],
        "evaluations": [
            {k: e[k] for k in ("step", "split", "which", "loss", "rows", "seconds")}
            for e in events
            if e["type"] == "evaluation"
        ],
        "checkpoints": [
            {k: e[k] for k in ("step", "bytes", "seconds")}
            for e in events
            if e["type"] == "checkpoint"
        ],
        "memory_events": [e for e in events if e["type"] == "memory"][-3:],
        "middle": middle,
    }


# ---- readings -------------------------------------------------------------------------------


def gpu_now(folder: RunFolder) -> dict[str, Any]:
    """The same moment as nvidia-smi and as ``engine.system.gpu`` see it."""
    found: dict[str, Any] = {"nvidia_smi": nvidia_smi()}
    try:
        from engine.system.gpu import read_gpus
    except ImportError as error:
        found["engine_system_gpu"] = f"not there: {error}"
        return found
    found["engine_system_gpu"] = json.loads(json.dumps(read_gpus(), default=_plain))
    found["nvidia_smi_after"] = nvidia_smi()
    memory = [e for e in read_all(folder.journal) if e["type"] == "memory"]
    found["journal"] = memory[-1] if memory else None
    return found


def _plain(value: Any) -> Any:
    return (
        getattr(value, "__dict__", None)
        or {name: getattr(value, name) for name in getattr(value, "__slots__", ())}
        or str(value)
    )


def nvidia_smi() -> list[str] | str:
    query = (
        "name,memory.used,memory.total,utilization.gpu,temperature.gpu,power.draw,driver_version"
    )
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not there: {error}"
    return done.stdout.strip().splitlines()


def screenshot(home: Home, folder: RunFolder, path: Path) -> str:
    """An SVG of the Train screen showing this run, where the screens are installed."""
    try:
        from tests.gpu.screenshot import screenshot as take
    except ImportError as error:
        return f"none: {error}"
    try:
        said = take(home, folder.id, path)
    except Exception as error:  # a missing picture must not cost the measurement
        return f"none: {type(error).__name__}: {error}"
    return f"{path.name}; nvidia-smi at the same moment: {said}"


def machine() -> dict[str, Any]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    smi = nvidia_smi()
    return found | {"gpu": smi[0] if isinstance(smi, list) and smi else smi}


# ---- generation and words -------------------------------------------------------------------


def answer(home: Home, run: str) -> dict[str, Any]:
    """Base and tuned model answer four titles side by side, from one copy of the base."""
    from engine.generate.answer_all import generate_all
    from engine.generate.client import Chunk
    from engine.generate.columns import base_column, column_for

    tuned = column_for(home, run)
    columns = [base_column(tuned), tuned]
    titles = ["steel kettle, 1.5 litres", "oak desk lamp", "leather backpack", "linen curtain"]
    marks: dict[str, float] = {}

    def status(phase: str) -> None:
        marks.setdefault(phase, time.monotonic())
        say(f"generation: {phase}")

    def first(chunk: Chunk) -> None:
        marks.setdefault("first text", time.monotonic())

    began = time.monotonic()
    answers = generate_all(
        home, columns, titles, {"max_new_tokens": 60}, on_status=status, on_chunk=first
    )
    ended = time.monotonic()
    tokens = sum(a["tokens"] for a in answers)
    longest = max(a["seconds"] for a in answers)
    return {
        "answers": answers,
        "tokens": tokens,
        "tokens_per_second": tokens / longest if longest else None,
        "seconds": ended - began,
        "marks": {phase: at - began for phase, at in marks.items()},
    }


def write(out: Path, results: dict[str, Any]) -> None:
    (out / "results.json").write_text(json.dumps(results, indent=1, default=str))
    (out / "results.md").write_text(table(results))


def table(results: dict[str, Any]) -> str:
    """The results as a page for people."""

    def number(value: Any, form: str, scale: float = 1) -> str:
        return "-" if value is None else format(value if scale == 1 else value / scale, form)

    lines = [
        f"## {results['shape']} shape, {results['date']}",
        "",
        f"{results['machine']['gpu']}, Python {results['machine']['python']}",
        f"`{results['command']}`",
        "",
        "| backend | state | trainable | s/step | padded tok/s | reserved GB | to first step s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in results["runs"]:
        lines.append(
            f"| {run['backend']} | {run['state']} | {number(run['trainable_parameters'], ',')} | "
            f"{number(run['step_seconds_median'], '.3f')} | "
            f"{number(run['padded_tokens_per_second'], ',.0f')} | "
            f"{number(run['peak_reserved_bytes'], '.2f', 1e9)} | "
            f"{number(run['seconds_to_first_step'], '.0f')} |"
        )
    for run in results["runs"]:
        lines += ["", f"### {run['backend']}", ""]
        lines += [f"- versions: {run['versions']}", f"- phases: {run['phases']}"]
        lines += [f"- in the middle: {json.dumps(run['middle'], default=str)}"]
        if run["losses"]:
            lines += [f"- loss: {run['losses'][0]:.4f} to {run['losses'][-1]:.4f}"]
        if generation := run.get("generation"):
            speed = number(generation["tokens_per_second"], ".0f")
            lines += [
                f"- generation, base and tuned side by side: {speed} tok/s, "
                f"{generation['seconds']:.0f} s with loading"
            ]
            for item in generation["answers"][:4]:
                text = " ".join(item["text"].split())[:100]
                lines += [f"  - {item['label']} on {item['prompt']!r}: {text!r}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
