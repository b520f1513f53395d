"""A run that W&B logged offline: its history, configuration, summary and exit status."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.imports.runs.past import End, Past
from engine.imports.runs.places import fingerprint, utf8
from engine.imports.runs.protobuf import Malformed, fields, message, signed, texts
from engine.imports.runs.settings import adapter, arguments, checked
from engine.imports.runs.story import Logged, story
from engine.imports.runs.values import number, numbers, renamed, step_of
from engine.imports.runs.wandb_file import (
    CONFIG,
    ENVIRONMENT,
    EXIT,
    HISTORY,
    RUN,
    SUMMARY,
    items_of,
    records_of,
)

__all__ = ["is_wandb_file", "read_wandb"]

_NAME = re.compile(r"^run-[\w-]+\.wandb$")
OWN = ("_step", "_timestamp", "_runtime", "_wandb")
STEP = "train/global_step"
GPU, EXECUTABLE_PYTHON = 18, 2


@dataclass
class _Found:
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    run: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    gpu: str = ""
    exit_code: int | None = None
    runtime: int | None = None
    entries: int = 0
    last: int = -1
    last_t: float = 0.0
    names: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


def is_wandb_file(name: str) -> bool:
    return bool(_NAME.match(name))


def read_wandb(path: Path) -> Past:
    """The run of one ``.wandb`` file. Raises :class:`UserError` naming file and place."""
    found = _read(path)
    if not found.entries and not found.run:
        words = found.broken[0] if found.broken else "no run and no history is in it"
        raise UserError(f"{path}: {words}, so there is nothing to import")
    known = bool(found.names & {"train/loss", "eval/loss"})
    settings, remarks = checked(arguments(found.config) | _adapter(found.config))
    steps = step_of(found.config.get("max_steps")) or None
    began = found.started or found.last_t or path.stat().st_mtime
    ended = max(found.last_t, began, began + (found.runtime or 0))
    file = utf8(path.name)
    notes = [f"{file}: {words}; what stands before it was read" for words in found.broken]
    end = _end(found, steps)
    done = found.last if end.state == "finished" else None
    facts: dict[str, Any] = {"max_steps": steps or done}
    if found.gpu:
        facts["gpu"] = found.gpu
    return Past(
        source="wandb",
        tool="W&B",
        path=path,
        name=found.run.get("name") or found.run.get("id") or path.stem,
        began=began,
        ended=ended,
        times="W&B's history, which holds a time for every step",
        events=lambda: story(_logged(path, known), lambda step: began, steps),
        end=end,
        fingerprint=fingerprint(path),
        settings=settings,
        remarks=tuple(remarks),
        facts=facts,
        notes=tuple(notes),
    )


def _adapter(config: dict[str, Any]) -> dict[str, Any]:
    """Transformers logs PEFT's configurations by the adapters' names."""
    found = config.get("peft_config")
    for one in found.values() if isinstance(found, dict) else ():
        if isinstance(one, dict):
            return adapter(one)
    return {}


def _read(path: Path) -> _Found:
    found = _Found()
    for kind, data in records_of(path, found.broken):
        try:
            if kind == HISTORY:
                _of_history(found, data)
            elif kind == CONFIG:
                found.config.update(items_of(data, 1))
            elif kind == SUMMARY:
                found.summary.update(items_of(data, 1))
            elif kind == RUN:
                _of_run(found, data)
            elif kind == EXIT:
                _of_exit(found, data)
            elif kind == ENVIRONMENT:
                found.gpu = next((texts(v) for n, _, v in fields(data) if n == GPU), found.gpu)
        except (Malformed, struct.error) as error:
            found.broken.append(f"a record cannot be read ({error})")
            break
    return found


def _of_history(found: _Found, data: bytes) -> None:
    entry = dict(items_of(data, 1))
    found.names.update(name for name in entry if len(found.names) < 1000)
    found.entries += 1
    found.last = _step(entry, data)
    when = number(entry.get("_timestamp"))
    if when is not None and 0 < when < 1e11:
        found.last_t = float(when)


def _of_run(found: _Found, data: bytes) -> None:
    for field_, _, value in fields(data):
        if field_ == 1:
            found.run["id"] = texts(value)
        elif field_ == 3:
            found.run["project"] = texts(value)
        elif field_ == 4:
            found.config.update(items_of(message(value), 1))
        elif field_ == 8:
            found.run["name"] = texts(value)
        elif field_ == 17:
            parts = {n: signed(v) for n, _, v in fields(message(value)) if isinstance(v, int)}
            found.started = parts.get(1, 0) + parts.get(2, 0) / 1e9


def _of_exit(found: _Found, data: bytes) -> None:
    found.exit_code = 0  # protobuf leaves a zero out
    for field_, _, value in fields(data):
        if field_ == 1:
            found.exit_code = signed(value)
        elif field_ == 2:
            found.runtime = max(0, min(signed(value), 10**9))


def _step(entry: dict[str, Any], data: bytes) -> int:
    """Transformers logs its own step; else W&B's counts."""
    for value in (entry.get(STEP), entry.get("_step")):
        if (step := step_of(value)) is not None:
            return step
    for field_, _, value in fields(data):
        if field_ == 2:
            for inner, _, count in fields(message(value)):
                if inner == 1:
                    return max(0, signed(count))
    return 0


def _logged(path: Path, known: bool) -> Iterator[Logged]:
    for kind, data in records_of(path, []):
        if kind != HISTORY:
            continue
        try:
            entry = dict(items_of(data, 1))
            step = _step(entry, data)
        except (Malformed, struct.error):
            return
        when = number(entry.get("_timestamp"))
        values = numbers(
            {renamed(key, known): v for key, v in entry.items() if key not in (*OWN, STEP)}
        )
        if values:
            t = float(when) if when is not None and 0 < when < 1e11 else None
            yield Logged(step, values, t)


def _end(found: _Found, steps: int | None) -> End:
    """W&B knows the process' exit status, not whether all steps were done."""
    last = max(found.last, 0)
    more: dict[str, Any] = {"steps": last}
    if "train_runtime" in found.summary:  # Transformers' last word goes into the summary
        loss = number(found.summary.get("train_loss"))
        more |= {"train_loss": loss} if loss is not None else {}
    if found.exit_code is None:
        words = f"W&B's file has no end: the process vanished after step {last:,}, or still runs"
        return End("lost", words, more)
    more["exit_code"] = found.exit_code
    if found.exit_code:
        words = f"ended with exit status {found.exit_code} after step {last:,}"
        return End("failed", words, more)
    epochs, epoch = (
        number(found.config.get("num_train_epochs")),
        number(found.summary.get("train/epoch")),
    )
    by_epochs = not steps and epochs is not None and epoch is not None and epoch >= epochs - 1e-6
    if by_epochs or (steps and last >= steps):
        return End("finished", more=more)
    of = f"step {last:,} of {steps:,}" if steps else f"step {last:,}"
    words = f"its process ended without an error at {of}; whether that was all is not said"
    return End("stopped", words, more)
