"""A report of one run, or of several beside each other, as blocks."""

from collections.abc import Sequence, Set
from typing import Any

from engine import __version__
from engine.export import answer_parts, parts
from engine.export import blocks as b
from engine.export.figures import FEW, curve_of, figures_of_one, figures_of_several
from engine.export.gathered import Gathered, gather
from engine.export.said import setting, value_words
from engine.history.beside import evaluations_beside, samples_beside
from engine.history.compare import best_of, compare, measure, yardstick
from engine.history.differing import differ
from engine.history.row import RunRow
from engine.history.store import Store
from engine.words import NOTHING, counted, moment

__all__ = ["MOST_RUNS", "report_of", "title_of"]

MOST_RUNS = 24
"""So many lines of a chart can be told from each other."""


def title_of(runs: Sequence[RunRow]) -> str:
    if len(runs) == 1:
        return runs[0].name
    named = ", ".join(row.name for row in runs[:4])
    return f"{len(runs)} runs: {named}" + (", …" if len(runs) > 4 else "")


def report_of(store: Store, runs: Sequence[RunRow], now: float) -> list[b.Block]:
    """The whole report; ``now``: when it is made, Unix seconds."""
    gathered = [gather(store, row) for row in runs]
    made = f"Made by tunebench {__version__} on {moment(now)}."
    heading: list[b.Block] = [b.Heading(1, title_of(runs)), b.Words(made, quiet=True)]
    body = _one(store, gathered[0]) if len(runs) == 1 else _several(store, gathered)
    return [*heading, *body]


def _one(store: Store, g: Gathered) -> list[b.Block]:
    figures = figures_of_one(curve_of(store, g.row))
    answers = [block for one in g.answers for block in answer_parts.answered(one)]
    return [
        *parts.about(g),
        *_part("Recipe", parts.recipe(g)),
        *_part("Data", parts.data(g)),
        *_part("Curves", [b.Pictures(figures)] if figures else []),
        *_part("Evaluation", [*parts.evaluation(g), *answers]),
        *_part("Samples", answer_parts.samples(g)),
        *_part("Votes", answer_parts.votes(g.votes)),
        *_part("Notes", [b.Table(("", ""), _notes(g))] if g.notes else []),
        *_part("Versions and hardware", parts.versions(g)),
    ]


def _part(name: str, blocks: Sequence[b.Block]) -> list[b.Block]:
    return [b.Heading(2, name), *blocks] if blocks else []


def _notes(g: Gathered) -> list[tuple[str, str]]:
    return [(moment(note["t"] or 0), str(note["text"])) for note in g.notes]


# --- several


_SHOWN = (
    *("state", "step", "train_loss", "best_eval_loss", "test_loss_before", "test_loss", "seconds"),
    *("tokens_per_second", "step_seconds", "peak_memory_bytes", "trainable_parameters"),
    *("train_rows", "model", "dataset", "fingerprint"),
)
"""Measures of the table; the others are told where they differ."""


def _several(store: Store, gathered: Sequence[Gathered]) -> list[b.Block]:
    names = _names([g.row for g in gathered])
    figures = figures_of_several([curve_of(store, g.row) for g in gathered], names)
    return [
        *_part("Metrics", _metrics(gathered, names)),
        *_part("What differs", _differences(store, gathered, names)),
        *_part("Curves", [b.Pictures(figures)] if figures else []),
        *_part("Answers", _answers(store, gathered, names)),
        *_part("Samples", _samples(store, gathered, names)),
        *_part(
            "Votes", answer_parts.votes(list({rate: rate for g in gathered for rate in g.votes}))
        ),
        *_part("Notes", _all_notes(gathered, names)),
    ]


def _names(runs: Sequence[RunRow]) -> list[str]:
    """Names that differ: with the id where several runs have the same."""
    names = [row.name or row.id for row in runs]
    return [
        f"{name} ({row.id})" if names.count(name) > 1 else name
        for name, row in zip(names, runs, strict=True)
    ]


def _metrics(gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    runs = [g.row for g in gathered]
    table = compare(runs)
    judged = yardstick(runs, [g.settings if g.recipe else None for g in gathered])
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    shared = []
    for one in (measure(name) for name in _SHOWN):
        words = [value_words(one.name, value) for value in table[one.name]]
        if set(words) == {NOTHING}:
            continue
        if len(names) > FEW and len(set(words)) == 1:
            shared.append(f"{one.label} {words[0]}")
            continue
        places = best_of(one.name, table[one.name], judged)
        best |= {(len(rows), 1 + place) for place in places}
        rows.append([one.label, *words])
    found: list[b.Block] = [_beside(names, rows, best)] if rows else []
    if shared:
        found.append(b.Words(f"The same in all: {', '.join(shared)}."))
    return [*found, *(b.Words(f"{words[:1].upper()}{words[1:]}.") for words in judged.words)]


def _beside(
    names: Sequence[str], rows: Sequence[Sequence[str]], best: Set[tuple[int, int]]
) -> b.Table:
    """A column a run, or of many a row a run."""
    if len(names) <= FEW:
        numbers = frozenset(range(1, 1 + len(names)))
        return b.Table(("", *names), rows, numbers, frozenset(best))
    head = ["", *(row[0] for row in rows)]
    turned = [[name, *(row[1 + at] for row in rows)] for at, name in enumerate(names)]
    marks = frozenset((column - 1, row + 1) for row, column in best)
    return b.Table(head, turned, frozenset(range(1, len(head))), marks)


def _differences(store: Store, gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    """Only what differs: recipe, data, packages, hardware. What is not known is no difference."""
    differences = differ(store, [g.row for g in gathered])
    rows = [
        [one.key, *(NOTHING if value is None else setting(value) for value in one.values)]
        for one in differences.found
    ]
    found: list[b.Block] = []
    if rows:
        found += [b.Words("Differences, not causes.", quiet=True), b.Table(("", *names), rows)]
    else:
        found.append(b.Words("Nothing that is known: recipe, data, hardware, packages."))
    return [*found, *(b.Words(f"{words}.") for words in differences.words)]


def _answers(store: Store, gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    """Metrics of answers to the same prompts, by the newest evaluation of each run."""
    by_id = {g.row.id: name for g, name in zip(gathered, names, strict=True)}
    groups: dict[tuple[str, str, int], dict[str, Any]] = {}
    for one in evaluations_beside(store, [g.row for g in gathered]):
        groups.setdefault((one.on, one.pairs, one.rows), {})[by_id[one.run]] = one.metrics
    found: list[b.Block] = []
    for (on, _, rows), metrics in groups.items():
        if len(metrics) > 1:
            columns = [{"id": name, "label": name} for name in metrics]
            failed = {"rows": 0, "first": ""}
            whole = {"columns": columns, "metrics": metrics, "differences": {}, "failed": failed}
            found += answer_parts.answered({**whole, "on": on, "rows": rows})
    return found


def _samples(store: Store, gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    """The last answers to prompts that at least two runs were given."""
    answered = samples_beside(store, [g.row for g in gathered])
    shared = [one for one in answered if len([its for its in one.answers if its]) > 1]
    found: list[b.Block] = []
    for one in shared[: answer_parts.MOST_PROMPTS]:
        texts = [
            (f"{name}, step {its[0]}", answer_parts.cut(its[1]))
            for name, its in zip(names, one.answers, strict=True)
            if its
        ]
        texts += [("reference", answer_parts.cut(one.reference))] if one.reference else []
        found.append(b.Answers(answer_parts.cut(one.prompt), texts))
    if len(shared) > answer_parts.MOST_PROMPTS:
        more = counted(len(shared) - answer_parts.MOST_PROMPTS, "prompt")
        found.append(b.Words(f"{more} more were answered by several.", quiet=True))
    return found


def _all_notes(gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    rows = [(name, *note) for g, name in zip(gathered, names, strict=True) for note in _notes(g)]
    return [b.Table(("", "", ""), rows)] if rows else []
