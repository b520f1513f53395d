"""Runs to be compared, with journals and recipes as they are on a disk: made in milliseconds."""

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from engine import recipe
from engine.home import Home
from engine.jobs.folder import RunFolder
from tests.bench.homes import with_settings

__all__ = ["GRID", "grid_losses", "write", "write_grid"]

BEGAN = 1_763_700_000.0
GRID = {"lora.r": [4, 8, 16], "train.learning_rate": [1e-3, 3e-3, 6e-3]}


def _recipe() -> str:
    return _resolved(str(recipe.builtin_recipes()["demo"]))  # the screens' tests have their own


@cache
def _resolved(name: str) -> str:
    return recipe.load_recipe(name).to_toml()


def write(
    home: Home,
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    loss: float | str | None = 2.5,
    fingerprint: str | None = "f00d5eed0badcafe",
    state: str = "finished",
    number: int = 0,
    sweep: Mapping[str, Any] | None = None,
    samples: Sequence[tuple[str, str]] = (),
    toml: str | None = None,
    facts: Mapping[str, Any] | None = None,
    steps: int = 20,
) -> str:
    """A run's folder; returns its id. ``toml``: its recipe, "" for none at all."""
    id = f"20251121-{number:06d}-{zlib.crc32(name.encode()) % 9000 + 1000}"
    folder = RunFolder(home.runs / id)
    folder.path.mkdir(parents=True, mode=0o700)
    identity = {"id": id, "name": name, "parent": None, "created": BEGAN + number, "recipe": "demo"}
    if sweep is not None:
        identity["sweep"] = dict(sweep)
    folder.identity.write_text(json.dumps(identity))
    text = with_settings(_recipe(), dict(settings or {})) if toml is None else toml
    if text:
        folder.recipe_file.write_text(text)
    folder.lock.touch()
    told: dict[str, Any] = {
        "backend": "transformers", "device": "cpu", "dtype": "float32", "optim": "adamw_torch",
        "train_rows": 1000, "validation_rows": 256, "test_rows": 256, "num_processes": 1,
        "total_parameters": 3_280_464, "trainable_parameters": 68_080, "git_commit": "c0ffee",
        "versions": {"python": "3.12.1", "torch": "2.9.0"}, **(facts or {}),
    }  # fmt: skip
    if fingerprint is not None:
        told |= {"fingerprint": fingerprint, "dataset": "catalogue"}
    t = BEGAN + number
    events: list[dict[str, Any]] = [
        {"t": t, "type": "state", "state": "starting", "phase": "loading"},
        {
            "t": t + 1, "type": "state", "state": "running", "max_steps": steps, "resume_step": 0,
            **told,
        },
    ]  # fmt: skip
    for step in range(1, steps + 1):
        events.append(
            {
                "t": t + 1 + step, "type": "metrics", "step": step, "loss": 3.0 - step / 40,
                "learning_rate": 1e-3, "grad_norm": 1.0, "step_seconds": 0.5,
                "tokens_per_second": 1000.0 + number, "peak_memory_bytes": (1 << 30) + number,
            }
        )  # fmt: skip
    if loss is not None:
        its = {"split": "validation", "which": "during", "step": steps, "loss": loss}
        events.append({"t": t + 30, "type": "evaluation", **its})
    for prompt, answer in samples:
        its = {"step": steps, "prompt": prompt, "text": answer, "reference": "As it should be."}
        events.append({"t": t + 31, "type": "sample", **its})
    events.append({"t": t + 32, "type": "state", "state": state, "steps": steps, "train_loss": 2.6})
    lines = [json.dumps({"v": 1, "attempt": 1, **event}) for event in events]
    folder.journal.write_text("".join(f"{line}\n" for line in lines))
    return id


def grid_losses() -> dict[tuple[int, float], float]:
    """A made-up valley: rank 8 at 3e-3 is best, and the rank matters less than the rate."""
    return {
        (r, rate): 2.0 + {4: 0.02, 8: 0.0, 16: 0.01}[r] + {1e-3: 0.4, 3e-3: 0.0, 6e-3: 0.1}[rate]
        for r in GRID["lora.r"]
        for rate in GRID["train.learning_rate"]
    }


def write_grid(home: Home, name: str = "tune") -> dict[tuple[int, float], str]:
    """A sweep of nine runs: (rank, rate) -> id."""
    found = {}
    for number, ((r, rate), loss) in enumerate(grid_losses().items(), 100):
        values = {"lora.r": r, "train.learning_rate": rate}
        prompts = [
            ("Oak bench", f"A bench at rank {r}."),
            ("Copper kettle", f"A kettle, {rate:g}."),
        ]
        found[r, rate] = write(
            *(home, f"{name}-r{r}-lr{rate:g}", values),
            loss=loss, number=number, sweep={"id": name, "values": values}, samples=prompts,
        )  # fmt: skip
    return found
