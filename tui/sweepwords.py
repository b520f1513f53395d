"""A sweep in words: its values, its states, how far it is."""

import math
from typing import TYPE_CHECKING, Any

from engine.history.queries import SweepRow, sweep_values
from engine.history.row import ENDS
from engine.jobs.sweep import SHORT
from tui import words
from tui.theme import STATES

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["leading_state", "losses", "short_keys", "states_words", "value_words", "values_words"]


def short_keys(keys: tuple[str, ...]) -> dict[str, str]:
    """Each key by its last word, shorter where the names of runs have it shorter."""
    short = {key: SHORT.get(key.rsplit(".", 1)[-1], key.rsplit(".", 1)[-1]) for key in keys}
    found = list(short.values())
    return {key: key if found.count(word) > 1 else word for key, word in short.items()}


def value_words(value: Any) -> str:
    """A recipe's value in few characters."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return words.rate(value) if 0 < abs(value) < 0.01 else f"{value:g}"
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, str) and "/" in value:
        return value.rstrip("/").rsplit("/", 1)[-1]
    return str(value)


def values_words(row: "RunRow", keys: tuple[str, ...] | None = None) -> str:
    """What the sweep gave this run: "r=16 lr=3e-4". ``keys``: of the whole sweep."""
    values = sweep_values(row)
    short = short_keys(tuple(values) if keys is None else keys)
    return " ".join(f"{short.get(key, key)}={value_words(v)}" for key, v in values.items())


def leading_state(sweep: SweepRow) -> str:
    """The state that matters most: what goes on, then what went wrong, then what is done."""
    there = {row.state for row in sweep.runs}
    order = ("running", "stopping", "starting", "failed", "killed", "lost", "queued", "stopped")
    return next((state for state in order if state in there), "finished")


def states_words(sweep: SweepRow) -> str:
    """ "1 running, 2 finished, 5 queued"."""
    counts = sweep.states
    known = list(STATES)
    order = sorted(counts, key=lambda s: known.index(s) if s in known else 99)
    live = [state for state in order if state not in ENDS and state != "queued"]
    ended = [state for state in order if state in ENDS]
    rest = [state for state in order if state not in (*live, *ended)]
    if len(counts) == 1:
        return f"all {order[0]}"
    return ", ".join(f"{counts[state]} {state}" for state in (*live, *ended, *rest))


def losses(row: "RunRow") -> float:
    """The best validation loss, to sort by: infinite while there is none."""
    value = row.best_eval_loss
    return value if value is not None and value == value else math.inf
