"""A report of one run, or of several beside each other, as blocks."""

from collections.abc import Sequence, Set
from typing import Any

from engine import __version__
from engine.export import answer_parts, parts
from engine.export import blocks as b
from engine.export.figures import FEW, curve_of, figures_of_one, figures_of_several
from engine.export.gathered import Gathered, gather
from engine.export.said import setting, value_words
from engine.history.compare import compare
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


_LABELS = {
    "state": "state",
    "step": "steps",
    "train_loss": "train loss",
    "best_eval_loss": "best validation loss",
    "test_loss_before": "test loss before",
    "test_loss": "test loss",
    "seconds": "took",
    "tokens_per_second": "tokens/s",
    "step_seconds": "seconds a step",
    "peak_memory_bytes": "peak memory",
    "trainable_parameters": "trained parameters",
    "train_rows": "train rows",
    "model": "base model",
    "dataset": "dataset",
    "fingerprint": "data fingerprint",
}
_LOWER = ("train_loss", "best_eval_loss", "test_loss", "seconds", "step_seconds")
_HIGHER = ("tokens_per_second",)


def _several(store: Store, gathered: Sequence[Gathered]) -> list[b.Block]:
    names = _names([g.row for g in gathered])
    figures = figures_of_several([curve_of(store, g.row) for g in gathered], names)
    return [
        *_part("Metrics", _metrics(gathered, names)),
        *_part("What differs", _differences(gathered, names)),
        *_part("Curves", [b.Pictures(figures)] if figures else []),
        *_part("Answers", _answers(gathered, names)),
        *_part("Samples", _samples(gathered, names)),
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
    table = compare([g.row for g in gathered])
    same_rows = len({(g.row.fingerprint, g.row.dataset) for g in gathered}) == 1
    rows: list[list[str]] = []
    best: set[tuple[int, int]] = set()
    shared = []
    for name, label in _LABELS.items():
        words = [value_words(name, value) for value in table[name]]
        if set(words) == {NOTHING}:
            continue
        if len(names) > FEW and len(set(words)) == 1:
            shared.append(f"{label} {words[0]}")
            continue
        if same_rows or "loss" not in name:
            best |= {(len(rows), 1 + place) for place in _best(name, table[name])}
        rows.append([label, *words])
    found: list[b.Block] = [_beside(names, rows, best)] if rows else []
    if shared:
        found.append(b.Words(f"The same in all: {', '.join(shared)}."))
    if not same_rows:
        words_ = "The runs were not judged on the same rows: no loss is called the best."
        found.append(b.Words(words_))
    return found


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


def _best(name: str, values: Sequence[Any]) -> list[int]:
    """Places of the best values, where there is something to compare."""
    usable = [v for v in values if isinstance(v, int | float) and v == v]
    if name not in (*_LOWER, *_HIGHER) or len(set(usable)) < 2:
        return []
    wanted = min(usable) if name in _LOWER else max(usable)
    return [place for place, value in enumerate(values) if value == wanted]


def _differences(gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    """Only what differs: recipe keys, data, hardware, packages."""
    lines: dict[str, list[str]] = {}
    unread = [name for g, name in zip(gathered, names, strict=True) if g.recipe is None]
    flat = [g.recipe.flat() if g.recipe else None for g in gathered]
    keys = dict.fromkeys(key for its in flat for key in its or () if "." in key)
    for key in keys:
        lines[key] = [NOTHING if its is None else setting(its.get(key)) for its in flat]
    for field in ("fingerprint", "gpu", "device", "dtype", "backend", "optim", "git_commit"):
        lines[field.replace("_", " ")] = [str(getattr(g.row, field) or NOTHING) for g in gathered]
    for name in dict.fromkeys(name for g in gathered for name in g.versions):
        lines[f"version of {name}"] = [g.versions.get(name, NOTHING) for g in gathered]
    # What is not known of a run is no difference.
    rows = [[key, *values] for key, values in lines.items() if len({*values} - {NOTHING}) > 1]
    found: list[b.Block] = []
    if rows:
        found += [b.Words("Differences, not causes.", quiet=True), b.Table(("", *names), rows)]
    else:
        found.append(b.Words("Nothing that is known: recipe, data, hardware, packages."))
    if unread:
        found.append(b.Words(f"Recipes that can no longer be read: {', '.join(unread)}."))
    return found


def _answers(gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    """Metrics of answers to the same prompts, by the newest evaluation of each run."""
    groups: dict[tuple[str, str, int], dict[str, Any]] = {}
    for g, name in zip(gathered, names, strict=True):
        for document in g.answers:
            group = groups.setdefault((document["on"], document["pairs"], document["rows"]), {})
            group.setdefault(name, document["metrics"].get(document["run"], {}))
    found: list[b.Block] = []
    for (on, _, rows), metrics in groups.items():
        if len(metrics) > 1:
            columns = [{"id": name, "label": name} for name in metrics]
            failed = {"rows": 0, "first": ""}
            whole = {"columns": columns, "metrics": metrics, "differences": {}, "failed": failed}
            found += answer_parts.answered({**whole, "on": on, "rows": rows})
    return found


def _samples(gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    """The last answers to prompts that at least two runs were given."""
    last: dict[str, dict[str, dict[str, Any]]] = {}
    for g, name in zip(gathered, names, strict=True):
        for sample in g.samples:
            last.setdefault(str(sample["prompt"]), {})[name] = sample
    shared = [(prompt, its) for prompt, its in last.items() if len(its) > 1]
    found: list[b.Block] = []
    for prompt, its in shared[: answer_parts.MOST_PROMPTS]:
        texts = [
            (f"{name}, step {sample['step']}", answer_parts.cut(sample["text"]))
            for name, sample in its.items()
        ]
        reference = next((s["reference"] for s in its.values() if s["reference"]), None)
        texts += [("reference", answer_parts.cut(reference))] if reference else []
        found.append(b.Answers(answer_parts.cut(prompt), texts))
    if len(shared) > answer_parts.MOST_PROMPTS:
        more = counted(len(shared) - answer_parts.MOST_PROMPTS, "prompt")
        found.append(b.Words(f"{more} more were answered by several.", quiet=True))
    return found


def _all_notes(gathered: Sequence[Gathered], names: Sequence[str]) -> list[b.Block]:
    rows = [(name, *note) for g, name in zip(gathered, names, strict=True) for note in _notes(g)]
    return [b.Table(("", "", ""), rows)] if rows else []
