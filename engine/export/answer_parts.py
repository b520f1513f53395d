"""The parts of a report about what models wrote, as blocks: metrics, samples, votes."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluate.metrics import METRICS
from engine.export import blocks as b
from engine.export.gathered import Gathered
from engine.history.votes import WinRate
from engine.words import NOTHING, counted

__all__ = ["MOST_PROMPTS", "answered", "cut", "samples", "votes"]

ON_100 = ("bleu", "chrf")
MOST_PROMPTS = 6
MOST_CHARACTERS = 4_000
"""Of a text that a model wrote; longer ones are cut, and it is said."""


def answered(document: Mapping[str, Any]) -> list[b.Block]:
    """One evaluation of answers: metrics with intervals, differences from the base."""
    labels = {column["id"]: column["label"] for column in document["columns"]}
    known = {metric.name: metric.label for metric in METRICS}
    measured, differing = document["metrics"], document["differences"]
    head = ["metric", *(labels[column] for column in measured)]
    head += [f"difference of {labels[column]}" for column in differing]
    rows = []
    for name in dict.fromkeys(name for its in measured.values() for name in its):
        cells = [known.get(name, name.replace("_", " "))]
        cells += [_metric(its.get(name), name) for its in measured.values()]
        cells += [_difference(its.get(name), name) for its in differing.values()]
        rows.append(cells)
    words, failed = f"{counted(document['rows'], 'answer')} on {document['on']}", document["failed"]
    if failed["rows"]:
        why = f" ({failed['first']})" if failed["first"] else ""
        words += f"; {counted(failed['rows'], 'prompt')} failed{why}"
    table = b.Table(head, rows, frozenset(range(1, len(head))))
    return [b.Words(f"{words}. In brackets the interval at 95 % (bootstrap)."), table]


def _metric(value: tuple[float, float, float] | None, name: str) -> str:
    if value is None:
        return NOTHING
    digits = 2 if name in ON_100 else 3
    middle, low, high = (f"{one:.{digits}f}" for one in value)
    return f"{middle} [{low}, {high}]"


def _difference(found: Mapping[str, float] | None, name: str) -> str:
    if not found:
        return NOTHING
    return f"{found['difference']:+.{2 if name in ON_100 else 3}f} (p={found['p']:.3f})"


def samples(g: Gathered, most: int = MOST_PROMPTS) -> list[b.Block]:
    """What the model wrote for the same prompts: first, last, and the row's own text."""
    found: list[b.Block] = []
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for sample in g.samples:
        by_prompt.setdefault(str(sample["prompt"]), []).append(sample)
    for prompt, its in itertools.islice(by_prompt.items(), most):
        shown = [its[0], its[-1]] if len(its) > 1 else its
        texts = [(f"step {one['step']}", cut(one["text"])) for one in shown]
        if its[-1]["reference"] is not None:
            texts.append(("reference", cut(its[-1]["reference"])))
        found.append(b.Answers(cut(prompt), texts))
    if len(by_prompt) > most:
        found.append(b.Words(f"{len(by_prompt) - most} more prompts were answered.", quiet=True))
    return found


def cut(text: Any) -> str:
    """At most :data:`MOST_CHARACTERS` of it."""
    text = str(text)
    more = len(text) - MOST_CHARACTERS
    return text if more <= 0 else f"{text[:MOST_CHARACTERS]} … ({more:,} more characters)"


def votes(rates: Sequence[WinRate]) -> list[b.Block]:
    """Who was preferred."""
    if not rates:
        return []
    rows = [
        (
            rate.a_label, rate.b_label, f"{rate.a_wins}", f"{rate.b_wins}", f"{rate.ties}",
            f"{rate.both_bad}",
            NOTHING if rate.rate is None or rate.low is None or rate.high is None
            else f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]",
        )
        for rate in rates
    ]  # fmt: skip
    head = ("A", "B", "A better", "B better", "tie", "both bad", "B of decided")
    said = "In brackets Wilson's interval at 95 %."
    return [b.Table(head, rows, frozenset(range(2, 7))), b.Words(said, quiet=True)]
