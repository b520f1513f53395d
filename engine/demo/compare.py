"""Was it worth training? Base and tuned model on titles that neither has seen, counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.demo.catalogue import kind_of

__all__ = ["Sample", "count_named", "names_kind", "unseen_rows"]


@dataclass(frozen=True)
class Sample:
    """One test title with what the two models wrote and what the catalogue says."""

    title: str
    before: str
    after: str
    reference: str


def unseen_rows(table: Any, count: int) -> list[tuple[str, str]]:
    """The first ``count`` rows of a test split with different titles, as (title, description).

    ``table`` is a pyarrow table with the columns ``prompt`` and ``completion``. No test title
    occurs in train: the split sees to that.
    """
    rows: dict[str, str] = {}
    for start in range(0, table.num_rows, 256):
        part = table.slice(start, 256)
        prompts, completions = part["prompt"].to_pylist(), part["completion"].to_pylist()
        for title, description in zip(prompts, completions, strict=True):
            if kind_of(title):
                rows.setdefault(title, description)
            if len(rows) == count:
                return list(rows.items())
    return list(rows.items())


def names_kind(title: str, text: str) -> bool:
    """Whether ``text`` names the kind of product that ``title`` is about, in any case."""
    kind = kind_of(title)
    return kind is not None and kind.casefold() in text.casefold()


def count_named(samples: Sequence[Sample]) -> tuple[int, int]:
    """How many of the base's and of the tuned model's texts name the kind of their title."""
    return (
        sum(names_kind(sample.title, sample.before) for sample in samples),
        sum(names_kind(sample.title, sample.after) for sample in samples),
    )
