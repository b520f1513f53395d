"""What can be asked of a run by name: its numbers and words, and every key of its recipe."""

import difflib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from engine.errors import UsageError
from engine.history.row import RunRow, seconds
from engine.history.settings import Settings
from engine.history.texts import KINDS
from engine.jobs.sweep import SHORT as SWEPT

__all__ = ["FIELDS", "SHORT", "Facts", "Field", "field_named", "names_of_keys"]


@dataclass(frozen=True)
class Facts:
    """What is known of runs beside their rows."""

    settings: Settings = field(default_factory=Settings)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    starred: Collection[str] = frozenset()
    archived: Collection[str] = frozenset()
    noted: Collection[str] = frozenset()
    now: float = field(default_factory=time.time)


Value = Callable[[RunRow, Facts], Any]


@dataclass(frozen=True)
class Field:
    """Something that every run has a value of, or None."""

    name: str
    value: Value
    kind: str = "word"
    """word, number, bytes, seconds or time: how a wanted value is read."""
    words: str = ""
    """What it is, for completion; "" for a key of the recipe."""
    key: str = ""
    """The recipe's key that it is."""


def _of(column: str) -> Value:
    return lambda row, facts: getattr(row, column)


def _age(row: RunRow, facts: Facts) -> float | None:
    return None if row.created is None else max(0.0, facts.now - row.created)


FIELDS: tuple[Field, ...] = (
    Field("name", _of("name"), words="the run's name"),
    Field("id", _of("id"), words="the run's id"),
    Field("state", _of("state"), words="running, finished, failed, ..."),
    Field("model", _of("model"), words="the model that was trained"),
    Field("dataset", _of("dataset"), words="the dataset's name"),
    Field("fingerprint", _of("fingerprint"), words="the dataset's fingerprint"),
    Field("sweep", _of("sweep"), words="the sweep that it belongs to"),
    Field("recipe", _of("recipe"), words="the recipe's name"),
    Field("parent", _of("parent"), words="the run that it goes on from"),
    Field("repeats", _of("repeats"), words="the run whose recipe it repeats"),
    Field("best_eval_loss", _of("best_eval_loss"), "number", "lowest validation loss"),
    Field("eval_loss", _of("eval_loss"), "number", "validation loss, the last one"),
    Field("test_loss", _of("test_loss"), "number", "test loss after training"),
    Field("test_loss_before", _of("test_loss_before"), "number", "test loss before training"),
    Field("train_loss", _of("train_loss"), "number", "mean training loss"),
    Field("loss", _of("loss"), "number", "training loss of the last step"),
    Field("step", _of("step"), "number", "optimiser steps done"),
    Field("steps", _of("max_steps"), "number", "optimiser steps that there are to be"),
    Field("epoch", _of("epoch"), "number", "epochs done"),
    Field("best_step", _of("best_step"), "number", "the step of the lowest validation loss"),
    Field("attempt", _of("attempt"), "number", "attempts, resuming counts one more"),
    Field("tokens_per_second", _of("tokens_per_second"), "number", "training speed"),
    Field("step_seconds", _of("step_seconds"), "number", "seconds of a step"),
    Field("peak", _of("peak_memory_bytes"), "bytes", "peak memory: peak<16gib"),
    Field("took", lambda row, facts: seconds(row, facts.now), "seconds", "duration: took>2h"),
    Field("created", _of("created"), "time", "when: created>2026-11-01"),
    Field("age", _age, "seconds", "time since it was made: age<7d"),
    Field("train_rows", _of("train_rows"), "number", "rows trained on"),
    Field("parameters", _of("trainable_parameters"), "number", "trainable parameters"),
    Field("backend", _of("backend"), words="unsloth, transformers, ..."),
    Field("device", _of("device"), words="cpu, cuda:0, ..."),
    Field("gpu", _of("gpu"), words="the GPU's name"),
    Field("dtype", _of("dtype"), words="bfloat16, ..."),
    Field("reason", _of("reason"), words="why it ended"),
    Field("error_kind", _of("error_kind"), words="out_of_memory, nan, disk_full, ..."),
    Field("imported", _of("imported"), words="where it was imported from"),
    Field("commit", _of("git_commit"), words="git commit"),
    Field("tag", lambda row, facts: facts.tags.get(row.id, ()), "words", "one of its tags"),
)
SHORT = {
    "best": "best_eval_loss",
    "valid": "best_eval_loss",
    "test": "test_loss",
    "train": "loss",
    "run": "id",
    "begun": "created",
    "data": "dataset",
    "peak_memory_bytes": "peak",
    "peak_memory": "peak",
    "seconds": "took",
    "duration": "took",
    "tags": "tag",
    "lr": "learning_rate",
    "rank": "r",
    "batch_size": "per_device_train_batch_size",
    "speed": "tokens_per_second",
}
"""Other words for fields and keys: headings of the tables, and keys as the names of a sweep's runs
and the column "differs" have them."""

_BY_NAME = {one.name: one for one in FIELDS}
SHORT |= {word: key for key, word in SWEPT.items() if word not in _BY_NAME and word not in SHORT}
OTHERS = ("is", "has", "text", *KINDS)
"""What else may stand before a colon."""


def names_of_keys(keys: Collection[str]) -> dict[str, str]:
    """Short name -> key: the last part of each key of recipes, where only one ends so."""
    ends: dict[str, list[str]] = {}
    for key in keys:
        ends.setdefault(key.rsplit(".", 1)[-1], []).append(key)
    short = {end: found[0] for end, found in ends.items() if len(found) == 1}
    taken = {*_BY_NAME, *SHORT, *OTHERS}
    return {end: key for end, key in short.items() if end not in taken}


def field_named(name: str, keys: Collection[str], *, of_runs: bool = False) -> Field:
    """The field, or the recipe's key, of this name. ``keys``: those of the runs' recipes; with
    ``of_runs`` no others, else also a key that recipes can have and no run here has.

    Raises :class:`UsageError`: no such field, or a name that several keys end with.
    """
    low = name.lower().rstrip(".")  # "valid." is a heading
    low = SHORT.get(low, low)
    if found := _BY_NAME.get(low):
        return found
    key = _key_named(low, keys)
    if key is None:
        every = keys if of_runs else {*keys, *_schema_keys()}
        key = _key_named(low, every)
        if key is None:
            raise _no_field(name, low, keys, every)
    return Field(name, lambda row, facts: facts.settings.get(row.id, key), "any", key=key)


def _key_named(low: str, keys: Collection[str]) -> str | None:
    """Raises :class:`UsageError` for the end of several keys."""
    if low in keys:
        return low
    several = sorted(one for one in keys if one.rsplit(".", 1)[-1] == low)
    if len(several) > 1:
        raise UsageError(f"{low!r} could be any of {', '.join(several)}; write which")
    return names_of_keys(several).get(low)


@cache
def _schema_keys() -> tuple[str, ...]:
    from engine.recipe import Recipe  # with pydantic, which most questions do without

    return Recipe.key_names()


def _no_field(name: str, low: str, keys: Collection[str], every: Collection[str]) -> UsageError:
    """What the runs here have is meant rather than another key that recipes can have."""
    known = [*_BY_NAME, *SHORT, *names_of_keys(keys), *keys]
    near = difflib.get_close_matches(low, known, n=2, cutoff=0.6)
    nearest = difflib.get_close_matches(low, [*known, *names_of_keys(every), *every], n=1)
    if nearest and nearest[0] not in near:
        near = nearest
    hint = f"; did you mean {' or '.join(near)}?" if near else "; a recipe's key, or a column"
    return UsageError(f"no field {name!r}{hint}")
