"""Runs of which only TensorBoard's event files are left: every scalar, at the time it was written.

A folder with event files is one run, as TensorBoard has it. All values are held at once, 24 bytes
each: one tag's come in order, but tags do not come together.
"""

import heapq
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.imports.runs.event_files import (
    ARGS,
    Read,
    arguments_of,
    event_files_in,
    values_of,
)
from engine.imports.runs.past import End, Event, Past
from engine.imports.runs.places import Place, fingerprint, utf8
from engine.imports.runs.settings import arguments, checked
from engine.imports.runs.story import Logged, is_summary, story
from engine.imports.runs.values import metric_name, renamed, step_of

__all__ = ["read_events"]

MOST_VALUES = 20_000_000
"""480 MB; a run of a million steps logs ten values a step."""


@dataclass
class _Tag:
    steps: array = field(default_factory=lambda: array("q"))
    values: array = field(default_factory=lambda: array("d"))
    walls: array = field(default_factory=lambda: array("d"))

    def add(self, step: int, value: float, wall: float) -> None:
        """What is not before ``step`` goes: training went on from an earlier checkpoint."""
        while self.steps and self.steps[-1] >= step:
            for each in (self.steps, self.values, self.walls):
                each.pop()
        self.steps.append(step)
        self.values.append(value)
        self.walls.append(wall)


@dataclass
class _Found:
    tags: dict[str, _Tag] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    notes: list[str] = field(default_factory=list)


def read_events(path: Path) -> Past:
    """The run whose event files lie in the folder ``path``, or are that file.

    Raises :class:`UserError` naming file and place when no scalar can be read.
    """
    if path.is_dir():
        place = Place(path)
        files = event_files_in(place)
    else:
        place = Place(path.parent)
        files = [path]
    found = _read(files)
    if not found.tags:
        words = "; ".join(found.notes) or "no scalar is in it"
        raise UserError(f"{path}: {words}, so there is nothing to import")
    known = any(tag in found.tags for tag in ("train/loss", "eval/loss"))
    names: dict[str, str] = {}  # ours -> the tag
    for tag in found.tags:
        name = metric_name(renamed(tag, known))
        names.setdefault(name if name not in names else metric_name(tag), tag)
    last = max(tag.steps[-1] for tag in found.tags.values())
    settings, remarks = checked(arguments(found.args))
    steps = step_of(found.args.get("max_steps")) or None
    end = _end(found, names, last)
    done = last if end.state == "finished" else None
    return Past(
        source="tensorboard",
        tool="TensorBoard",
        path=path,
        name=path.name if path.is_dir() else path.parent.name,
        began=found.began,
        ended=found.ended,
        times="the event files, which hold a time for every value",
        events=lambda: _events(found, names, steps),
        end=end,
        fingerprint=fingerprint(files[-1]),
        settings=settings,
        remarks=tuple(remarks),
        facts={"max_steps": steps or done},
        notes=(*found.notes, *place.notes()),
    )


def _read(files: list[Path]) -> _Found:
    found, count = _Found(), 0
    for path in files:
        read = Read()
        for wall, step, tag, value in values_of(path, read):
            if isinstance(value, str):
                if tag == ARGS and not found.args:
                    found.args = arguments_of(value)
                continue
            if step < 0:
                continue
            count += 1
            if count > MOST_VALUES:
                raise UserError(
                    f"{path}: more than {MOST_VALUES:,} values in all; too many to read"
                )
            if 0 < wall < 1e11:
                found.began = min(found.began or wall, wall)
                found.ended = max(found.ended, wall)
            found.tags.setdefault(tag, _Tag()).add(step, float(value), wall)
        if read.broken:
            found.notes.append(f"{utf8(path.name)}: {read.broken}; what stands before it was read")
    if not found.began and files:
        found.began = found.ended = files[-1].stat().st_mtime
    return found


def _logged(found: _Found, names: dict[str, str]) -> Iterator[Logged]:
    def of(name: str, tag: _Tag) -> Iterator[tuple[int, float, str, float]]:
        for step, wall, value in zip(tag.steps, tag.walls, tag.values, strict=True):
            yield step, wall, name, value

    def tell(step: int, wall: float, values: dict[str, float]) -> Iterator[Logged]:
        evaluated = {k: v for k, v in values.items() if k.startswith("eval_")}
        if "eval_loss" in evaluated:
            plain = {k: v for k, v in values.items() if k not in evaluated}
            if plain:
                yield Logged(step, plain, wall)
            yield Logged(step, evaluated, wall)
        else:
            yield Logged(step, values, wall)

    at, when = -1, 0.0
    values: dict[str, float] = {}
    streams = [of(name, found.tags[tag]) for name, tag in names.items()]
    for step, wall, name, value in heapq.merge(*streams, key=lambda one: one[0]):
        if step != at and values:
            yield from tell(at, when, values)
            values = {}
        at, when = step, max(wall, when) if step == at else wall
        values[name] = value
    if values:
        yield from tell(at, when, values)


SUMMARY = ("train_loss", "train_runtime", "total_flos", "train_samples_per_second",
           "train_steps_per_second")  # fmt: skip


def _events(found: _Found, names: dict[str, str], steps: int | None) -> Iterator[Event]:
    summary = is_summary({name: 0 for name in names if name in SUMMARY})
    kept = {n: tag for n, tag in names.items() if not (summary and n in SUMMARY)}
    return story(_logged(found, kept), lambda step: found.began, steps)


def _end(found: _Found, names: dict[str, str], last: int) -> End:
    """Event files do not say how a run ended: only what was logged last can."""
    steps = step_of(found.args.get("max_steps")) or None
    epochs = found.args.get("num_train_epochs")
    more: dict[str, Any] = {"steps": last}
    summed = "train_loss" in names and "train_runtime" in names
    if summed:
        more["train_loss"] = found.tags[names["train_loss"]].values[-1]
    epoch = found.tags[names["epoch"]].values[-1] if "epoch" in names else None
    if steps and last >= steps:
        return End("finished", more=more)
    done = isinstance(epochs, int | float) and epoch is not None and epoch >= epochs - 1e-6
    if summed and done and not steps:
        return End("finished", more=more)
    words = f"event files do not say how a run ends; the last logged step is {last:,}"
    if summed:
        words = f"training ended at step {last:,}; whether that was all is not said"
    return End("stopped", words, more)
