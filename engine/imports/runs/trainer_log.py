"""LLaMA-Factory's ``trainer_log.jsonl``: one line a logged step, with the time since the start."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engine.imports.runs.places import open_file
from engine.imports.runs.story import Logged
from engine.imports.runs.values import numbers, step_of

__all__ = ["NAME", "Line", "lines", "logged"]

NAME = "trainer_log.jsonl"
LINE_BYTES = 64 << 10
_ELAPSED = re.compile(r"^(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)$")
PLAIN = frozenset(
    {"current_steps", "total_steps", "percentage", "elapsed_time", "remaining_time", "throughput",
     "total_tokens"}
)  # fmt: skip


class Line(NamedTuple):
    step: int
    total: int | None
    elapsed: float | None
    """Seconds since the training began, to the second."""
    values: dict[str, Any]


def lines(path: Path) -> Iterator[Line]:
    """Whole lines in order; what is no such line is passed over."""
    with open_file(path) as file:
        while line := file.readline(LINE_BYTES):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(entry, dict):
                continue
            step = step_of(entry.get("current_steps"))
            if step is None:
                continue
            values = numbers({key: one for key, one in entry.items() if key not in PLAIN})
            yield Line(step, step_of(entry.get("total_steps")), _seconds(entry), values)


def _seconds(entry: dict[str, Any]) -> float | None:
    match = _ELAPSED.match(str(entry.get("elapsed_time")))
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def logged(path: Path) -> Iterator[Logged]:
    """The logged steps, for a folder that has no trainer's state."""
    for line in lines(path):
        if line.values.keys() - {"epoch"}:
            yield Logged(line.step, line.values)
