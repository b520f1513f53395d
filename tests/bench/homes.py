"""Homes of many runs, with journals as trainers write them; for the scripts beside this one."""

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe

__all__ = ["STEP_SECONDS", "journal", "metrics", "with_settings", "write_runs"]

BEGAN = 1_763_800_000.0
STEP_SECONDS = 0.05
EVALUATED = 100
"""Steps between two evaluations, each with a checkpoint."""
MEMORY = 40
"""Steps between two readings of the memory: two seconds."""
VARIANTS = 8
"""Journals that differ; more runs than that repeat them."""

FACTS = {
    "total_parameters": 3_224_906_752,
    "trainable_parameters": 12_156_928,
    "train_rows": 150_000,
    "validation_rows": 2_000,
    "test_rows": 30_000,
    "train_tokens": 14_839_419,
    "backend": "transformers",
    "device": "cuda:0",
    "dtype": "bfloat16",
    "optim": "adamw_8bit",
    "num_processes": 1,
    "gpu": "NVIDIA H200",
    "dataset": "amazon-titles",
    "fingerprint": "5f0c3f6f0a5d4f6a",
}


def _line(t: float, type: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "t": t, "type": type, "attempt": 1, **fields}


def metrics(step: int, steps: int, t: float, chance: random.Random) -> dict[str, Any]:
    """The line of one optimiser step."""
    loss = 2.2 + 3 * math.exp(-step / (steps / 8)) + chance.gauss(0, 0.08)
    seconds = STEP_SECONDS + abs(chance.gauss(0, 0.002))
    tokens = 3_000 + chance.randrange(200)
    return _line(
        t,
        "metrics",
        step=step,
        epoch=step / steps,
        loss=loss,
        learning_rate=3e-4 * (1 - step / steps),
        grad_norm=0.8 + abs(chance.gauss(0, 0.2)),
        step_seconds=seconds,
        tokens=tokens,
        tokens_per_second=tokens / seconds,
        mean_token_accuracy=min(0.99, 0.6 - loss / 20 + chance.random() / 50),
        memory_bytes=12_884_901_888 + chance.randrange(1 << 20),
        peak_memory_bytes=13_958_643_712,
    )


def evaluation(step: int, steps: int, t: float, which: str = "during") -> dict[str, Any]:
    loss = 2.3 + 3 * math.exp(-step / (steps / 8))
    split = "validation" if which == "during" else "test"
    told = {"rows": 2_000, "tokens": 197_122, "seconds": 3.2, "mean_token_accuracy": 0.52}
    return _line(t, "evaluation", step=step, split=split, which=which, loss=loss, **told)


def memory(t: float, chance: random.Random) -> dict[str, Any]:
    used = 13_000_000_000 + chance.randrange(1 << 24)
    told = {"total_bytes": 150_754_820_096, "peak_bytes": 13_958_643_712, "utilisation": 93}
    return _line(t, "memory", device="cuda:0", used_bytes=used, **told)


def beginning(steps: int) -> Iterator[dict[str, Any]]:
    yield _line(BEGAN, "state", state="queued")
    yield _line(BEGAN + 1, "state", state="starting", phase="importing", pid=4711)
    yield _line(BEGAN + 9, "state", state="starting", phase="loading the model")
    yield _line(BEGAN + 20, "state", state="running", max_steps=steps, resume_step=0, **FACTS)


def journal(
    steps: int, seed: int, end: str | None = "finished", whole: int | None = None
) -> Iterator[dict[str, Any]]:
    """The events of a whole run; without ``end`` of one that goes on, up to step ``whole``."""
    chance = random.Random(seed)
    yield from beginning(whole or steps)
    t = BEGAN + 20
    yield evaluation(0, steps, t, "before")
    for step in range(1, steps + 1):
        t += STEP_SECONDS
        yield metrics(step, steps, t, chance)
        if step % MEMORY == 0:
            yield memory(t, chance)
        if step % EVALUATED == 0:
            yield evaluation(step, steps, t)
            told = {"bytes": 97_000_000, "seconds": 0.4, "best": True}
            yield _line(t, "checkpoint", step=step, path=f"checkpoints/step-{step}", **told)
    if end:
        yield evaluation(steps, steps, t + 4, "after")
        yield _line(t + 5, "state", state=end, steps=steps, train_loss=2.28, eval_loss=2.3)
        yield _line(t + 6, "exit", exit_code=0, signal=None, signal_name=None, by="supervisor")


def with_settings(text: str, settings: dict[str, Any]) -> str:
    """A recipe's TOML with other values: reading and checking 10,000 takes minutes."""
    lines, section = [], ""
    left = dict(settings)
    for line in text.split("\n"):
        section = line.strip("[]") if line.startswith("[") else section
        key = f"{section}.{line.partition(' = ')[0]}"
        if key in left:
            line = f"{key.partition('.')[2]} = {json.dumps(left.pop(key), ensure_ascii=False)}"
        lines.append(line)
    assert not left, f"not in the recipe: {left}"
    return "\n".join(lines)


def as_bytes(events: Iterator[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in events)


def write_run(home: Home, number: int, journal: bytes, recipe: bytes) -> RunFolder:
    """The folder of one run, made ``number`` seconds after the first one."""
    folder = RunFolder(home.runs / f"20251122-{number:06d}-run")
    folder.path.mkdir(parents=True, mode=0o700)
    identity = {"id": folder.id, "name": f"run-{number}", "parent": None, "created": BEGAN + number}
    folder.identity.write_text(json.dumps({**identity, "recipe": "demo"}))
    folder.recipe_file.write_bytes(recipe)
    folder.log.write_text("".join(f"step {step}: loss 2.31\n" for step in range(300)))
    folder.lock.touch()
    folder.journal.write_bytes(journal)
    return folder


def write_runs(home: Home, runs: int, steps: int, end: str | None = "finished") -> int:
    """Write so many runs; returns the number of lines in all their journals."""
    recipe = load_recipe("demo").to_toml().encode()
    found = [as_bytes(journal(steps, seed, end)) for seed in range(min(VARIANTS, runs))]
    for number in range(runs):
        write_run(home, number, found[number % len(found)], recipe)
    return sum(found[number % len(found)].count(b"\n") for number in range(runs))


def size(path: Path) -> int:
    """Bytes of the files below a folder, or of one file."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
