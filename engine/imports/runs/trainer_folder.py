"""Output folders of Transformers, TRL, LLaMA-Factory and Axolotl. No pickle is ever opened."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.imports.runs import trainer_log
from engine.imports.runs.clock import Clock
from engine.imports.runs.event_files import event_files_in, look
from engine.imports.runs.past import End, Event, Past
from engine.imports.runs.places import Place, fingerprint, utf8
from engine.imports.runs.story import Logged, story
from engine.imports.runs.trainer_settings import read_settings
from engine.imports.runs.trainer_state import (
    STATE,
    State,
    checkpoints_of,
    choose,
    logged,
    seconds_of,
    step_in,
)
from engine.imports.runs.values import step_of

__all__ = ["holds_one", "read_folder"]

WEIGHTS = (".safetensors", ".bin", ".pt")
SHORT = 1.0
"""Seconds: file times closer together than this come of a copy, not of training."""


def holds_one(place: Place) -> bool:
    """Whether a folder is the output of a trainer."""
    if place.file(STATE) or place.file(trainer_log.NAME):
        return True
    return any(place.file(f"{name}/{STATE}") for name in checkpoints_of(place).values())


def read_folder(path: Path, recipe: Path | None = None) -> Past:
    """The run whose output ``path`` is. Raises :class:`UserError` naming file and place.

    ``recipe``: the file that it was trained by, where that is not in the folder.
    """
    place = Place(path)
    checkpoints = checkpoints_of(place)
    state = choose(place, checkpoints)
    log = place.file(trainer_log.NAME)
    if state is None or (state.broken and not state.entries):
        if log is None:
            words = f"{state.path}: {state.broken}" if state else f"{path}: has no {STATE}"
            raise UserError(f"{words}; nothing of its log can be read")
        state, notes = _of_log(log), [f"{utf8(state.path)}: {state.broken}"] if state else []
        source: list[Path] = [log]
    else:
        source, notes = [state.path], []
    walls, args = look(event_files_in(place, deep=True), max(state.step, 0))
    known = read_settings(place, checkpoints, state.header, args, recipe)
    moments, times = _moments(place, state, checkpoints, log, walls)
    clock = Clock(moments)
    if state.broken:
        notes.append(f"{utf8(state.path)}: {state.broken}; {state.entries:,} logged steps up to "
                     f"there, to step {state.last:,}, were read")  # fmt: skip
    if state.stray:
        notes.append(f"{state.stray:,} entries of the log name no step and were passed over")
    best = _best(state)
    read = trainer_log.logged if source[0] == log else logged

    def events() -> Iterator[Event]:
        found = story(_unchanged(source[0], read), clock, state.max_steps)
        return _with_checkpoints(found, place, checkpoints, best, clock)

    return Past(
        source="transformers",
        tool=known.tool,
        path=path,
        name=f"{path.parent.name}-{path.name}" if step_in(path.name) else path.name,
        began=clock.moments[0],
        ended=max(moment for _, moment in moments),
        times=times,
        events=events,
        end=_end(state),
        fingerprint=fingerprint(source[0]),
        settings=known.settings,
        remarks=tuple(known.remarks),
        facts={**known.facts, "max_steps": state.max_steps},
        notes=(*known.notes, *notes, *place.notes()),
        weights=_weights(place, checkpoints),
    )


def _unchanged(path: Path, read: Any) -> Iterator[Logged]:
    """The entries, of a file that nobody writes to meanwhile."""
    before = path.stat()
    yield from read(path)
    after = path.stat()
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    ):
        raise UserError(f"{path}: is being written to; import it when the run has ended")


def _of_log(path: Path) -> State:
    state = State(path)
    for line in trainer_log.lines(path):
        state.last, state.entries = line.step, state.entries + 1
        state.header = {"global_step": line.step, "max_steps": line.total}
    if not state.entries:
        raise UserError(f"{path}: no line of it logs a step, so there is nothing to import")
    return state


def _best(state: State) -> int | None:
    if (step := step_of(state.header.get("best_global_step"))) is not None:
        return step
    name = str(state.header.get("best_model_checkpoint") or "").replace("\\", "/")
    return step_in(name.rsplit("/", 1)[-1])


def _end(state: State) -> End:
    """Finished only when the state says that the last step of all was made."""
    # Of a broken file its head may name a later step than what can be read of its log.
    step, steps = max(state.last if state.broken else state.step, 0), state.max_steps
    of = f"step {step:,} of {steps:,}" if steps else f"step {step:,}"
    more: dict[str, Any] = {"steps": step}
    if state.summary is not None and state.summary.train_loss is not None:
        more["train_loss"] = state.summary.train_loss
    if steps and step >= steps and not state.broken:
        return End("finished", more=more)
    if state.broken:
        words = f"{state.path.name} breaks off after {of}: how the run ended is not known"
    elif state.summary is not None:
        words = f"training ended at {of}: it was told to stop, by early stopping for example"
    elif steps:
        words = f"the last that was saved is {of}; why it went no further is not known"
    else:
        words = f"the last that was saved is {of}; how many there were to be is not known"
    return End("stopped", words, more)


def _moments(
    place: Place,
    state: State,
    checkpoints: dict[int, str],
    log: Path | None,
    walls: list[tuple[int, float]],
) -> tuple[list[tuple[int, float]], str]:
    """(step, time) as far as known, and where that is from."""
    last = max(state.step, 0)
    written = state.path.stat().st_mtime
    if walls:
        end = max(walls[-1][1], walls[0][1] + (seconds_of(state) or 0))
        return [*walls, (last + 1, end)], "TensorBoard's event files in the folder"
    if log is not None:
        timed = [(line.step, line.elapsed) for line in trainer_log.lines(log)]
        elapsed = [(step, seconds) for step, seconds in timed if seconds is not None]
        if elapsed and elapsed[-1][1] > 0:
            start = log.stat().st_mtime - elapsed[-1][1]
            known = [(0, start), *((step, start + seconds) for step, seconds in elapsed)]
            return known, f"{trainer_log.NAME}, counted back from that file's own time"
    seconds = seconds_of(state)
    files = []
    for step, name in checkpoints.items():
        inner = place.file(f"{name}/{STATE}")
        if inner is not None and step <= last:
            files.append((step, inner.stat().st_mtime))
    if seconds is not None:
        return _since(written - seconds, files, last, written)
    files = sorted({*files, (last, written)})
    pace = _pace(files)
    if pace is None:
        words = "the files' times, which say no more than when the last was written"
        return [(0, written), (last + 1, written)], words
    first, t = files[0]
    words = "the files' times; steps between are spread evenly, and those before the first one"
    return [(0, t - pace * first), *files], words


def _since(
    start: float, files: list[tuple[int, float]], last: int, written: float
) -> tuple[list[tuple[int, float]], str]:
    """What a trainer says of its time is of the part since it was resumed, if it was."""
    inside = [(step, t) for step, t in files if start < t <= written]
    before = [(step, t) for step, t in files if t <= start and step < last]
    words = "the files' times and train_runtime"
    if not before:
        words += "; steps between are spread evenly"
        return [(0, start), *inside, (last + 1, written)], words
    (first, t), (resumed, _) = before[0], before[-1]
    pace = (written - start) / (last - resumed)
    words += f", which is of the part since step {resumed:,}; steps between are spread evenly"
    began = (0, t - pace * first)
    return [began, *before, (resumed + 1, start), *inside, (last + 1, written)], words


def _pace(files: list[tuple[int, float]]) -> float | None:
    """Seconds a step between the first and the last file; None: they tell none."""
    (first, began), (last, ended) = files[0], files[-1]
    rising = all(one[1] <= two[1] for one, two in pairwise(files))
    if last <= first or ended - began < SHORT or not rising:
        return None
    return (ended - began) / (last - first)


def _with_checkpoints(
    events: Iterator[Event],
    place: Place,
    checkpoints: dict[int, str],
    best: int | None,
    clock: Clock,
) -> Iterator[Event]:
    waiting = list(checkpoints.items())
    attempt = 1
    for event in events:
        attempt = event["attempt"]
        while waiting and waiting[0][0] < event.get("step", 0):
            yield _checkpoint(place, *waiting.pop(0), best, clock, attempt)
        yield event
    for step, name in waiting:
        yield _checkpoint(place, step, name, best, clock, attempt)


def _checkpoint(
    place: Place, step: int, name: str, best: int | None, clock: Clock, attempt: int
) -> Event:
    """``path`` is a bare name, never one that something here could delete; ``lies`` says where."""
    return {
        "t": clock(step),
        "type": "checkpoint",
        "attempt": attempt,
        "step": step,
        "path": name,
        "bytes": _bytes(place, name),
        "best": step == best,
        "lies": utf8(place.path / name),
    }


def _bytes(place: Place, name: str) -> int:
    total = 0
    for inner in place.names(name):
        try:
            total += os.lstat(place.path / name / inner).st_size
        except OSError:
            continue
    return total


def _weights(place: Place, checkpoints: dict[int, str]) -> str:
    """The folder that holds the result, else the last checkpoint with weights."""
    for name in ("", *reversed(checkpoints.values())):
        for inner in place.names(name):
            stem = inner.startswith(("adapter_model", "model", "pytorch_model"))
            if stem and inner.endswith(WEIGHTS):
                return utf8(place.path / name)
    return ""
