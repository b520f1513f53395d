"""A run's checkpoint made the start of another run, its child's.

Hard links: it costs no space and outlives the parent. Only the trainer's state is written anew: the
parent's end is not the child's, and losses of two kinds are not compared.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.jobs import checkpoints
from engine.jobs.folder import RunFolder
from engine.whole import put_in_place

__all__ = ["Forget", "best_of", "hand_over"]

STATE = "trainer_state.json"
"""Transformers' name: steps, best metric, and what its callbacks keep."""


@dataclass(frozen=True)
class Forget:
    """What of the parent's course says nothing about the child's."""

    losses: bool = False
    """The child's losses are of other tokens or rows: none of them could be a new best."""
    lowered_rate: bool = False
    """The child has a rate of its own: what the watchdog made of the parent's is not its."""


def best_of(run: RunFolder, last: Path) -> Path | None:
    """The checkpoint that the last one's trainer state calls the best, when it is whole."""
    try:
        state = json.loads((last / STATE).read_text(encoding="utf-8"))
        best = run.checkpoints / f"{checkpoints.PREFIX}{int(state['best_global_step'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return best if checkpoints.is_whole(best) else None


def hand_over(child: RunFolder, last: Path, best: Path | None, forget: Forget) -> None:
    """Put a run's last checkpoint, and its best one, in the folder of its child."""
    child.checkpoints.mkdir(mode=0o700)
    if best is not None and best != last:
        _link(best, child.checkpoints / best.name, None)
    _link(last, child.checkpoints / last.name, forget)


def _link(source: Path, target: Path, forget: Forget | None) -> None:
    temporary = target.with_name(f".tmp-{target.name}")

    def link(file: str, place: str) -> None:
        try:
            os.link(file, place)
        except OSError:  # a file system without hard links
            shutil.copy2(file, place)

    shutil.copytree(source, temporary, copy_function=link)
    if forget and (temporary / STATE).exists():
        state = json.loads((temporary / STATE).read_text(encoding="utf-8"))
        _forget(state, forget)
        checkpoints.replace_file(temporary, STATE, json.dumps(state, indent=2).encode())
    put_in_place(temporary, target)


def _forget(state: dict[str, Any], forget: Forget) -> None:
    """Where it says that the parent was done, an attempt of the child's would end at once."""
    kept = state.get("stateful_callbacks") or {}
    kept.get("TrainerControl", {}).get("args", {}).pop("should_training_stop", None)
    watchdog = kept.get("Watchdog", {}).get("attributes", {})
    if forget.lowered_rate and watchdog:
        watchdog["factor"] = 1.0
    if not forget.losses:
        return
    state.update(best_metric=None, best_global_step=None, best_model_checkpoint=None)
    if watchdog:
        watchdog.update(recent=[], bad=0)
    stopping = kept.get("EarlyStoppingCallback", {}).get("attributes", {})
    if stopping:
        stopping["early_stopping_patience_counter"] = 0
