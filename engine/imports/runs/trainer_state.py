"""The log of Transformers' trainer: which ``trainer_state.json`` of a folder, and what is in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.imports.runs.places import Place, open_file
from engine.imports.runs.state_file import LOG, Broken, entries_of
from engine.imports.runs.story import Logged, Summary, is_summary
from engine.imports.runs.values import number, numbers, step_of

__all__ = ["STATE", "State", "checkpoints_of", "choose", "logged", "seconds_of", "step_in"]

STATE = "trainer_state.json"
_CHECKPOINT = re.compile(r"^checkpoint-(\d{1,12})$")
OLDER = 3
"""Checkpoints that are looked at for the number of steps when the newest state is broken."""


@dataclass
class State:
    """What one reading of a state found; its entries are read again when they are needed."""

    path: Path
    header: dict[str, Any] = field(default_factory=dict)
    entries: int = 0
    """Logged steps that can be read."""
    last: int = -1
    stray: int = 0
    """Entries without a step, which are passed over."""
    broken: str = ""
    """Where the file breaks off, in words; empty: it is whole."""
    summary: Summary | None = None

    @property
    def step(self) -> int:
        """The optimiser step that it is of; -1: none is known."""
        found = step_of(self.header.get("global_step"))
        return self.last if found is None else max(found, self.last)

    @property
    def max_steps(self) -> int | None:
        found = step_of(self.header.get("max_steps"))
        return found or None


HEADER = (
    "global_step", "max_steps", "num_train_epochs", "train_batch_size", "eval_steps", "save_steps",
    "best_global_step", "best_metric", "best_model_checkpoint", "epoch",
)  # fmt: skip


def read(path: Path) -> State:
    """Read a state once. Raises :class:`UserError` when it cannot be opened."""
    state = State(path)
    with open_file(path) as file:
        try:
            for key, value in entries_of(file):
                if key != LOG:
                    if key in HEADER:
                        state.header[key] = value
                    continue
                step = step_of(value.get("step")) if isinstance(value, dict) else None
                if step is None:
                    state.stray += 1
                elif is_summary(value):
                    loss, seconds = (number(value.get(k)) for k in ("train_loss", "train_runtime"))
                    state.summary = Summary(loss, seconds)
                    state.last = max(state.last, step)
                else:
                    state.entries += 1
                    state.last = step
        except Broken as error:
            state.broken = str(error)
    return state


def _entry(value: Any) -> Logged | None:
    if not isinstance(value, dict) or (step := step_of(value.get("step"))) is None:
        return None
    return Logged(step, numbers({key: one for key, one in value.items() if key != "step"}))


def logged(path: Path) -> Iterator[Logged]:
    """The entries of a state, as far as it can be read."""
    with open_file(path) as file:
        try:
            for key, value in entries_of(file):
                if key == LOG and (entry := _entry(value)) is not None:
                    yield entry
        except Broken:
            return


def step_in(name: str) -> int | None:
    """The step of a folder that is named ``checkpoint-N``."""
    match = _CHECKPOINT.match(name)
    return int(match.group(1)) if match else None


def checkpoints_of(place: Place) -> dict[int, str]:
    """Step -> name of the folder, lowest first."""
    found = {}
    for name in place.names():
        if (step := step_in(name)) is not None and place.folder(name) is not None:
            found[step] = name
    return dict(sorted(found.items()))


def choose(place: Place, checkpoints: dict[int, str]) -> State | None:
    """The state that tells the most; None: there is none.

    The folder's own is written when training ends, and is older than the checkpoints of a run that
    went on afterwards. Where the chosen one is broken, an older one says how many steps there were
    to be.
    """
    there = [
        (step, path)
        for step, name in reversed(checkpoints.items())
        if (path := place.file(f"{name}/{STATE}")) is not None
    ]
    own = place.file(STATE)
    states = [read(own)] if own is not None else []
    for turn, (step, path) in enumerate(there):
        newer = turn == 0 and (not states or step > states[0].step)
        if not newer and (turn > OLDER or any(not state.broken for state in states)):
            break
        states.append(read(path))
    if not states:
        return None
    # The first of several; of a broken one its head tells of steps that nobody can read.
    best = max(states, key=lambda state: state.last if state.broken else state.step)
    for other in states:
        if not other.broken and best.broken:
            best.header = {**other.header, **best.header, "global_step": best.last}
            best.header["max_steps"] = best.header.get("max_steps") or other.header.get("max_steps")
    return best


def seconds_of(state: State) -> float | None:
    """How long training took by the trainer's own word."""
    value = state.summary.seconds if state.summary else None
    return float(value) if value is not None and 0 < value < 10**9 else None
