"""Several runs side by side: what came of them, the best of each metric, what they differ in."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import UsageError
from engine.history.fields import SHORT
from engine.history.row import RunRow, is_ended, seconds
from engine.jobs.folder import RunFolder

__all__ = [
    "MEASURES",
    "METRICS",
    "Measure",
    "Yardstick",
    "best_of",
    "compare",
    "differences",
    "is_number",
    "measure",
    "number_named",
    "value_of",
    "yardstick",
]

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True)
class Measure:
    """One line of the table of metrics."""

    name: str
    """A field of :class:`RunRow`, or ``seconds``."""
    label: str
    better: Better = ""
    """Which direction is better; "": neither."""
    kind: Literal["text", "count", "loss", "seconds", "rate", "bytes"] = "text"
    """How its value is said."""
    of_rows: bool = False
    """It is a loss over the validation or test rows: the same rows, or no comparison."""


MEASURES = (
    Measure("state", "state"),
    Measure("attempt", "attempt", kind="count"),
    Measure("step", "step", kind="count"),
    Measure("max_steps", "of steps", kind="count"),
    Measure("train_loss", "train loss", "lower", "loss", of_rows=True),
    Measure("best_eval_loss", "best val. loss", "lower", "loss", of_rows=True),
    Measure("best_step", "at step", kind="count"),
    Measure("test_loss_before", "test before", kind="loss"),
    Measure("test_loss", "test loss", "lower", "loss", of_rows=True),
    Measure("seconds", "duration", "lower", "seconds"),
    Measure("tokens_per_second", "tokens/s", "higher", "rate"),
    Measure("step_seconds", "seconds a step", "lower", "rate"),
    Measure("peak_memory_bytes", "peak memory", "lower", "bytes"),
    Measure("trainable_parameters", "trained params", kind="count"),
    Measure("total_parameters", "parameters", kind="count"),
    Measure("train_rows", "train rows", kind="count"),
    Measure("backend", "backend"),
    Measure("device", "device"),
    Measure("dtype", "dtype"),
    Measure("optim", "optimiser"),
    Measure("model", "model"),
    Measure("dataset", "dataset"),
    Measure("fingerprint", "fingerprint"),
)
"""The one table of what is compared, and in which direction it is better."""
METRICS = tuple(measure.name for measure in MEASURES)
_BY_NAME = {measure.name: measure for measure in MEASURES}


def measure(name: str) -> Measure:
    """The measure of this name; KeyError when there is none."""
    return _BY_NAME[name]


_OF_FIELDS = {
    "peak": "peak_memory_bytes",
    "took": "seconds",
    "steps": "max_steps",
    "parameters": "trainable_parameters",
    "loss": "train_loss",
}
"""Fields of questions that are called otherwise there."""


def number_named(word: str) -> Measure:
    """The measure of a number by its name, or as questions call it: ``peak``, ``best``, ``took``.

    Raises :class:`UsageError`: there is no such one.
    """
    low = word.lower().rstrip(".")  # "valid." is a heading
    field = SHORT.get(low, low)
    name = word if word in _BY_NAME else _OF_FIELDS.get(field, field)
    found = _BY_NAME.get(name)
    if found is not None and found.kind != "text":
        return found
    names = [one.name for one in MEASURES if one.kind != "text"]
    short = [one for one in SHORT if _OF_FIELDS.get(SHORT[one], SHORT[one]) in names]
    near = difflib.get_close_matches(word, [*names, *_OF_FIELDS, *short], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{word}: no metric; there are {', '.join(names)}{hint}")


def compare(runs: Sequence[RunRow]) -> dict[str, list[Any]]:
    """Each of :data:`METRICS` with its value in every run, in the order given."""
    return {name: [value_of(run, name) for run in runs] for name in METRICS}


def value_of(run: RunRow, name: str) -> Any:
    """A run's value of a measure; None where it has none (the duration of a run that goes on)."""
    if name == "seconds":
        return seconds(run) if is_ended(run) else None
    return getattr(run, name)


def best_of(name: str, values: Sequence[Any], judged: "Yardstick | None" = None) -> tuple[int, ...]:
    """Places of the best values; several when they tie.

    Nobody is best where there are not two values to compare, where all are the same, or where
    ``judged`` says that the runs' losses are not of the same rows. NaN and infinities never are.
    """
    found = _BY_NAME[name]
    if not found.better or (found.of_rows and judged is not None and not judged.same_rows):
        return ()
    finite = {place: value for place, value in enumerate(values) if is_number(value)}
    if len(set(finite.values())) < 2:
        return ()
    best = (min if found.better == "lower" else max)(finite.values())
    return tuple(place for place, value in finite.items() if value == best)


def is_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Yardstick:
    """Whether losses of runs may be compared at all."""

    same_rows: bool
    """All were judged on the same validation rows, as far as is known."""
    why_not: str = ""
    cautions: tuple[str, ...] = ()
    """Recipe keys that differ and change what a loss counts: other tokens, another tokenizer."""

    @property
    def words(self) -> list[str]:
        """What a reader has to be told, a sentence each."""
        found = [] if self.same_rows else [f"{self.why_not}: the losses are not compared"]
        if self.cautions:
            keys = ", ".join(self.cautions)
            found.append(f"{keys} differ: the losses may count other tokens")
        return found


_COUNTED = (
    "model.model_name_or_path",
    "train.max_length",
    "train.completion_only_loss",
    "train.label_smoothing_factor",
)


def yardstick(
    runs: Sequence[RunRow], settings: Sequence[Mapping[str, Any] | None] = ()
) -> Yardstick:
    """Whether the losses of ``runs`` are of the same rows; ``settings``: their recipes, flat.

    Runs that never began, and so know no rows, have no loss either: they are passed over.
    """
    cautions = tuple(
        key
        for key in dict.fromkeys(key for one in settings for key in one or ())
        if (key in _COUNTED or key.startswith("format."))
        and len({repr(one[key]) for one in settings if one and key in one}) > 1
    )
    judged = [run for run in runs if run.best_eval_loss is not None or run.fingerprint]
    unknown = [run for run in judged if not run.fingerprint]
    if unknown and len(judged) > 1:
        names = ", ".join(run.name for run in unknown[:3])
        why = f"on which rows {names} {'was' if len(unknown) == 1 else 'were'} judged is not known"
        return Yardstick(False, why, cautions)
    if len({run.fingerprint for run in judged}) > 1:
        why = "not judged on the same validation rows (the data's fingerprints differ)"
        return Yardstick(False, why, cautions)
    if len({run.validation_rows for run in judged if run.validation_rows}) > 1:
        return Yardstick(False, "not judged on the same number of validation rows", cautions)
    return Yardstick(True, "", cautions)


def differences(folders: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """Recipe keys (``section.key``) whose values differ, with the value in every run.

    None where it is not known: of a run that another program made.
    """
    flat = [folder.settings() for folder in folders]
    keys = dict.fromkeys(key for recipe in flat for key in recipe)
    found = {key: [recipe.get(key) for recipe in flat] for key in keys}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}
