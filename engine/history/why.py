"""Why one run is better than another: the differences between two runs, ranked.

What is ranked are differences, not causes: by what other pairs of runs showed about each of them,
and where there are none, by what usually matters.
"""

from dataclasses import dataclass
from typing import Any, Literal

from engine.history.compare import Yardstick, is_number, yardstick
from engine.history.differing import Difference, Differences, differ
from engine.history.evidence import SEED, Evidence, Evidences, SeedSpread, is_setting
from engine.history.row import RunRow
from engine.history.store import Store

__all__ = ["CONVENTION", "Ranked", "Why", "why"]

CONVENTION = (
    ("model.model_name_or_path", "model.revision"),
    ("fingerprint", "data.*", "clean.*", "split.*", "cleaning", "dataset", "train_rows"),
    ("format.*",),
    ("train.learning_rate",),
    ("train.max_steps", "train.num_train_epochs"),
    ("train.per_device_train_batch_size", "train.gradient_accumulation_steps"),
    ("lora.r", "lora.lora_alpha", "lora.target_modules", "lora.*"),
    ("train.max_length", "train.completion_only_loss", "train.packing"),
    ("train.lr_scheduler_type", "train.lr_scheduler_kwargs*", "train.warmup_steps"),
    ("train.optim", "train.optim_args", "train.weight_decay", "train.adam_*"),
    ("model.load_in_4bit", "model.dtype", "dtype", "optim"),
    ("model.*", "train.*"),
    ("train.seed",),
    ("validation_rows", "test_rows", "evaluate.*"),
)
"""What usually matters, first to last: a convention, no evidence. Versions and the machine come
after all of it."""

_NO_EFFECT = (
    "generate.", "evaluate.sample_", "evaluate.test_rows", "evaluate.before", "train.save_",
    "train.report_to", "train.per_device_eval_batch_size",
)  # fmt: skip
"""Settings that decide nothing about the validation loss."""

Basis = Literal["evidence", "convention", "against", "last", "none"]


@dataclass(frozen=True)
class Ranked:
    """One difference, and why it stands where it does."""

    difference: Difference
    basis: Basis
    """evidence: other pairs went the same way; convention: no evidence, what usually matters;
    against: other pairs went the other way; last: versions and machine; none: a setting that
    changes nothing about the validation loss."""
    evidence: Evidence | None = None

    @property
    def key(self) -> str:
        return self.difference.key


@dataclass(frozen=True)
class Why:
    """Two runs, and what may have made the difference between their best validation losses."""

    a: RunRow
    b: RunRow
    change: float | None
    """B's best validation loss less A's; None: one has none, or they are not comparable."""
    judged: Yardstick
    seeds: SeedSpread | None
    """How far runs lie apart that differ by their seed alone."""
    ranked: tuple[Ranked, ...]
    differences: Differences
    looked_at: int
    """So many finished runs on the same rows were asked for evidence."""

    @property
    def better(self) -> RunRow | None:
        """The run with the lower best validation loss."""
        if not self.change:
            return None
        return self.b if self.change < 0 else self.a

    @property
    def beyond_seeds(self) -> bool | None:
        """The difference is larger than the spread by the seed alone; None: not known."""
        if self.seeds is None or self.change is None:
            return None
        return abs(self.change) > self.seeds.width

    @property
    def only_seed(self) -> bool:
        """They differ by the seed, and in nothing else that matters to the loss."""
        telling = [one for one in self.ranked if one.basis not in ("last", "none")]
        return [one.key for one in telling] == [SEED]


def why(store: Store, a: RunRow, b: RunRow) -> Why:
    """What differs between A and B, ranked. At most 0.3 s with 10,000 runs on the same rows."""
    found = differ(store, (a, b))
    judged = yardstick((a, b), [one.values for one in found.settings])
    change = None
    if judged.same_rows and is_number(a.best_eval_loss) and is_number(b.best_eval_loss):
        assert a.best_eval_loss is not None and b.best_eval_loss is not None
        change = b.best_eval_loss - a.best_eval_loss
    known = Evidences(store, a, b, [one.key for one in found.found])
    ranked = [_ranked(one, known, change) for one in found.found]
    ranked.sort(key=_place)
    return Why(a, b, change, judged, known.seeds(), tuple(ranked), found, known.runs)


def _ranked(one: Difference, known: Evidences, change: float | None) -> Ranked:
    if one.group in ("versions", "machine"):
        return Ranked(one, "last")
    if one.key.startswith(_NO_EFFECT):
        return Ranked(one, "none")
    evidence = known.of(one.key, *one.values) if is_setting(one.key) else None
    if evidence is None or not change:
        return Ranked(one, "convention", evidence)
    agreed = evidence.falls if change < 0 else evidence.rises
    same_way = 2 * agreed > evidence.pairs and evidence.median * change > 0
    return Ranked(one, "evidence" if same_way else "against", evidence)


_ORDER: tuple[Basis, ...] = ("evidence", "convention", "against", "none", "last")


def _place(one: Ranked) -> tuple[Any, ...]:
    """Evidence first: exact values before others of the same direction, then by the median."""
    evidence = one.evidence if one.basis in ("evidence", "against") else None
    strength = (
        (not evidence.same_values, -abs(evidence.median), -evidence.pairs)
        if evidence
        else (False, 0.0, 0)
    )
    return _ORDER.index(one.basis), *strength, _usual(one.key), one.key


def _usual(key: str) -> int:
    """The place of a key in :data:`CONVENTION`: exact names count before patterns."""
    for exact in (True, False):
        for place, patterns in enumerate(CONVENTION):
            if key in patterns:
                return place
            if not exact and any(p.endswith("*") and key.startswith(p[:-1]) for p in patterns):
                return place
    return len(CONVENTION)
