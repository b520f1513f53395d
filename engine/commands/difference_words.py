"""What runs differ in, and why one may be better than another, as lines of text."""

from typing import Any

from engine.commands.side_tables import (
    LEAST_CELL,
    MOST_CELL,
    Lines,
    columns_table,
    legend,
    letter,
    wrapped,
)
from engine.history.differing import Difference, Differences
from engine.history.evidence import SEED, Evidence, SeedSpread
from engine.history.why import Ranked, Why
from engine.text import clip
from engine.words import NOTHING, counted

__all__ = ["difference_lines", "setting_words", "why_lines"]

LABEL = 34
SHORT = 8
"""Of digests so many characters tell them apart."""

_HEADS = {
    "evidence": "Other pairs of runs went the same way",
    "convention": "No evidence: in the order of what usually matters (a convention)",
    "against": "Other pairs of runs went the other way",
    "none": "Decides nothing about the validation loss",
    "last": "Versions and machine, always last",
}


def setting_words(value: Any) -> str:
    """A setting's value as one reads it in a recipe."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(setting_words, value)) or "[]"
    return str(value) if value != "" else '""'


def _words(one: Difference, value: Any, short: bool) -> str:
    if short and one.key in ("fingerprint", "git_commit") and isinstance(value, str):
        return value[:SHORT]
    if isinstance(value, int) and one.key.endswith("_rows"):
        return f"{value:,}"
    return setting_words(value)


def difference_lines(found: Differences, width: int, *, with_legend: bool = True) -> Lines:
    """A group after the other: values in columns where they fit, or else below their key, each with
    the letters of its runs."""
    runs = found.runs
    made: Lines = [*legend(runs, width), ("", "plain")] if with_legend else []
    if not found.found:
        made.append(("nothing that is known of them differs", "plain"))
    heads = [letter(place) for place in range(len(runs))]
    label = min(LABEL, max((len(one.key) for one in found.found), default=0) + 2, width // 2)
    beside = max(1, min(len(runs), (width - label) // LEAST_CELL))
    room = min(MOST_CELL, (width - label) // beside) - 2
    for group, its in found.groups().items():
        rows: list[tuple[str, list[str]]] = []
        long: list[Difference] = []
        for one in its:
            cells = [_words(one, value, True) for value in one.values]
            fits = beside == len(runs) and all(len(cell) <= room for cell in cells)
            if fits and len(one.key) < label:
                rows.append((one.key, cells))
            else:
                long.append(one)
        if rows:
            made += columns_table(heads, rows, width, label, group)
        else:
            made.append((group, "head"))
        for one in long:
            made += _below(one, width)
        made.append(("", "plain"))
    made = made[:-1] if found.found else made
    for words in found.words:
        made += wrapped(f"! {words}", width, "  ", "head")
    return made


def _below(one: Difference, width: int) -> Lines:
    """The key, then each different value with the letters of the runs that have it."""
    made: Lines = [(clip(one.key, width), "plain")]
    whose: dict[str, list[str]] = {}
    for place, value in enumerate(one.values):
        whose.setdefault(_words(one, value, False), []).append(letter(place))
    for words, letters in whose.items():
        made += wrapped(f"    {' '.join(letters)}  {clip(words, 4 * width)}", width, "       ")
    return made


# --- why


def why_lines(found: Why, width: int) -> Lines:
    """Which is better and by how much, against chance; then the differences as they are ranked."""
    made: Lines = [
        *wrapped(f"A  {found.a.name}  {_loss(found.a.best_eval_loss)}", width, "   ", "plain"),
        *wrapped(f"B  {found.b.name}  {_loss(found.b.best_eval_loss)}", width, "   ", "plain"),
        *wrapped(_verdict(found), width, "  ", "head"),
    ]
    if found.change:
        made += wrapped(_chance(found.seeds, found), width, "  ")
    for words in [*found.judged.words, *found.differences.words]:
        made += wrapped(f"! {words}", width, "  ", "head")
    if not found.ranked:
        return [*made, ("nothing that is known of them differs", "plain")]
    told = "These are differences, not causes."
    if found.only_seed:
        told += " But for the seed nothing differs that usually matters: what is left is chance."
    made += [("", "plain"), *wrapped(told, width, "  ", "head")]
    basis = ""
    for number, one in enumerate(found.ranked, 1):
        if one.basis != basis:
            basis = one.basis
            made += [("", "plain"), *wrapped(_HEADS[basis], width, "  ", "head")]
        made += _ranked(number, one, found, width)
    return made


def _loss(value: Any) -> str:
    return f"best validation loss {value:.4f}" if isinstance(value, float) else "no validation loss"


def _verdict(found: Why) -> str:
    if not found.judged.same_rows:
        return "Which one is better cannot be told by their losses"
    if found.change is None:
        return "Which one is better is not known: not both have a validation loss"
    if found.better is None:
        return "Neither is better: their best validation losses are the same"
    name, other = ("B", "A") if found.better is found.b else ("A", "B")
    before = found.a if name == "B" else found.b
    share = abs(found.change) / before.best_eval_loss if before.best_eval_loss else 0.0
    return (
        f"{name} is better than {other}: its best validation loss is {abs(found.change):.4f} "
        f"lower ({share:.1%})"
    )


def _chance(seeds: SeedSpread | None, found: Why) -> str:
    if seeds is None:
        return "No run on these rows was repeated with another seed: chance is not known"
    letters = {found.a.id: "A", found.b.id: "B"}
    whose = " and ".join(letters[id] for id in seeds.of if id in letters)
    than = "Larger than" if found.beyond_seeds else "Not larger than"
    of = f"like {whose}" if whose else "on the same rows"
    return (
        f"{than} the spread of {counted(seeds.runs, 'run')} {of} that differ by their seed alone: "
        f"{seeds.width:.4f} ({seeds.low:.4f} to {seeds.high:.4f})"
    )


def _ranked(number: int, one: Ranked, found: Why, width: int) -> Lines:
    old, new = (_words(one.difference, value, False) for value in one.difference.values)
    most = 3 * width
    made = wrapped(
        f"{number:>2} {one.key}: {clip(old, most)} -> {clip(new, most)}", width, "     ", "plain"
    )
    if one.evidence is not None:
        made += wrapped(f"   {_evidence(one.evidence, found.seeds)}", width, "   ")
    elif one.basis == "convention" and one.key != SEED:
        made += wrapped(f"   {_none(one, found)}", width, "   ")
    return made


def _evidence(evidence: Evidence, seeds: SeedSpread | None) -> str:
    way, count = ("lower", evidence.falls)
    if evidence.rises > evidence.falls:
        way, count = "higher", evidence.rises
    values = "" if evidence.same_values else " (between other values, the same direction)"
    verb = "differs" if evidence.pairs == 1 else "differ"
    chance = ""
    if seeds is not None and abs(evidence.median) <= seeds.width:
        chance = ", within the seeds' spread"
    return (
        f"{counted(evidence.pairs, 'other pair')} {verb} in this alone{values}: {way} in "
        f"{count} of {evidence.pairs}, median change {evidence.median:+.4f}{chance}"
    )


def _none(one: Ranked, found: Why) -> str:
    if one.difference.group == "data" and not one.key.startswith("format."):
        return "other data are judged on other rows: no pair can tell"
    return f"none of {counted(found.looked_at, 'finished run')} on these rows tells of it alone"
