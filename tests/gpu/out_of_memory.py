"""Out of memory, forced on a real GPU, then the suggested recipe, which must run through.

    python tests/gpu/out_of_memory.py --out results/

Three ways: a training batch far too large; an evaluation batch far too large, after a checkpoint;
another process that holds most of the memory. Each run is made by ``tunebench train``, each next
one by ``tunebench resume RUN --suggested``, as a person would. Writes ``out_of_memory.json``.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.home import open_home  # noqa: E402
from engine.jobs.find import find_run  # noqa: E402
from engine.jobs.journal import read_all  # noqa: E402

HOLD = """
import sys, torch
free, total = torch.cuda.mem_get_info()
held = torch.empty(free - int(float(sys.argv[1]) * 2**30), dtype=torch.uint8, device="cuda")
print("held", held.numel(), flush=True)
sys.stdin.read()
"""

CASES: dict[str, list[str]] = {
    "batch": [
        "train.per_device_train_batch_size=256",
        "train.max_steps=2",
        "train.eval_steps=2",
        "train.save_steps=2",
        "evaluate.validation_rows=8",
    ],
    "evaluation": [
        "train.per_device_train_batch_size=4",
        "train.per_device_eval_batch_size=4096",
        "train.max_steps=4",
        "train.eval_steps=4",
        "train.save_steps=4",
        "evaluate.validation_rows=4096",
    ],
    "held": [
        "train.per_device_train_batch_size=64",
        "train.max_steps=2",
        "train.eval_steps=2",
        "train.save_steps=2",
        "evaluate.validation_rows=8",
    ],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path, default=Path("/tmp/tunebench-oom"))
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--cases", default=",".join(CASES), help="with commas")
    parser.add_argument("--keep", type=float, default=8, help="GiB left free in the last case")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": " ".join(sys.argv)}
    for case in args.cases.split(","):
        holder = hold(args.keep) if case == "held" else None
        began = time.monotonic()
        try:
            results[case] = play(args, case)
        finally:
            if holder:
                holder.kill()
        results[case]["seconds"] = round(time.monotonic() - began)
        (args.out / "out_of_memory.json").write_text(json.dumps(results, indent=1))
        print(case, json.dumps(results[case], indent=1), flush=True)
    return 0


def hold(keep: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD, str(keep)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    print(holder.stdout.readline().strip(), flush=True)
    return holder


def play(args: argparse.Namespace, case: str) -> dict[str, Any]:
    settings = [
        f"model.model_name_or_path={args.model}",
        *("model.backend=transformers", "model.device=cuda", "format.template=alpaca"),
        *("evaluate.before=false", "evaluate.test_rows=8", "evaluate.sample_rows=0"),
        *("train.max_length=512", "clean.rules=[]", "format.instruction=" + "word " * 100),
        *CASES[case],
    ]
    options = [word for setting in settings for word in ("--set", setting)]
    verbs = [["train", "demo", "--name", case, *options, "--now"]]
    verbs += [["resume", f"{case}{'' if n == 0 else f'-then-{n}'}", "--suggested", "--yes",
               "--name", f"{case}-then-{n + 1}"] for n in range(3)]  # fmt: skip
    runs = []
    for verb in verbs:
        done = tunebench(args.home, verb)
        runs.append(told(args.home, verb[verb.index("--name") + 1], done))
        if runs[-1]["state"] == "finished":
            break
    return {"runs": runs}


def tunebench(home: Path, verb: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "engine.cli", "--home", str(home), *verb]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def told(home: Path, name: str, done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    try:
        folder = find_run(open_home(home), name)
    except Exception as error:
        return {"state": "", "error": str(error), "said": (done.stdout + done.stderr)[-1500:]}
    events = list(read_all(folder.journal))
    states = [event for event in events if event["type"] == "state"]
    errors = [event for event in events if event["type"] == "error"]
    said = [line for line in done.stdout.splitlines() if line.startswith("  ")][-9:]
    peaks = [e["peak_memory_bytes"] for e in events if e["type"] == "metrics"]
    return {
        "name": name,
        "state": states[-1]["state"],
        "exit": done.returncode,
        "error": errors[-1] if errors else None,
        "said": said if errors else [],
        "peak_bytes": max(peaks, default=None),
        "steps": sum(e["type"] == "metrics" for e in events),
    }


if __name__ == "__main__":
    sys.exit(main())
