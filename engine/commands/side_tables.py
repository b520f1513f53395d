"""Runs side by side as lines of text: a legend of letters, tables that fit, the best marked.

Each line is (text, weight): head, plain or quiet. The screens show them as they are.
"""

import textwrap
from collections.abc import Sequence
from typing import Any, Literal

from engine.commands.metrics_table import label_of, value_words
from engine.history.beside import Answered, Evaluated
from engine.history.compare import MEASURES, Yardstick, best_of, compare, is_number
from engine.history.row import RunRow
from engine.history.votes import WinRate
from engine.text import clip, safe_line
from engine.words import NOTHING, bytes_words, counted, duration

__all__ = [
    "BEST", "LEAST_CELL", "MOST_CELL", "Lines", "columns_table", "evaluation_lines", "legend",
    "letter", "measure_words", "metric_lines", "sample_lines", "vote_lines", "wrapped",
]  # fmt: skip

Weight = Literal["head", "plain", "quiet"]
Lines = list[tuple[str, Weight]]

BEST = "*"
LABEL = 16
LEAST_CELL = 9
MOST_CELL = 26


def letter(place: int) -> str:
    """The name of a run in tables and charts: a, b, ..., z, then numbers."""
    return chr(ord("a") + place) if place < 26 else str(place + 1)


def legend(runs: Sequence[RunRow], width: int) -> Lines:
    """A line a run: its letter, its name, its id where there is room."""
    made: Lines = []
    for place, run in enumerate(runs):
        tail = f"  {run.id}" if width >= 60 and run.id != run.name else ""
        name = clip(run.name, max(8, width - 4 - len(tail)))
        made.append((f"{letter(place):>2}  {name}{clip(tail, width // 2)}", "plain"))
    return made


def wrapped(text: str, width: int, indent: str = "", weight: Weight = "quiet") -> Lines:
    """One outside text as lines of ``width`` cells at most."""
    found = textwrap.wrap(safe_line(text), max(20, width), subsequent_indent=indent)
    return [(clip(line, width), weight) for line in found]


def columns_table(
    heads: Sequence[str],
    rows: Sequence[tuple[str, Sequence[str]]],
    width: int,
    label: int = LABEL,
    title: str = "",
) -> Lines:
    """(label, cells) under ``heads``; as many columns beside each other as fit, then the others."""
    room = max(1, (width - label) // LEAST_CELL)
    cell = min(MOST_CELL, (width - label) // min(room, len(heads)))
    made: Lines = []
    for first in range(0, len(heads), room):
        part = slice(first, first + room)
        if first:
            made.append(("", "plain"))
        made.append(
            (f"{title:<{label}}" + "".join(_cell(head, cell) for head in heads[part]), "head")
        )
        for name, cells in rows:
            text = "".join(_cell(one, cell) for one in cells[part])
            made.append((f"{clip(name, label - 1):<{label}}{text}", "plain"))
    return made


def _cell(text: str, width: int) -> str:
    """Right-aligned, the last place for the mark of the best."""
    text, mark = (text[:-1], text[-1]) if text.endswith(BEST) else (text, " ")
    if len(text) > width - 2:
        text = text.replace(" ", "")
    return f"{_right(clip(text, width - 2), width - 1)}{mark}"


def _right(text: str, width: int) -> str:
    from rich.cells import cell_len

    return " " * max(0, width - cell_len(text)) + text


def measure_words(kind: str, value: Any) -> str:
    """A value of one of :data:`MEASURES` in few characters."""
    if value is None:
        return NOTHING
    if isinstance(value, float) and value != value:
        return "NaN"
    if kind == "bytes":
        return bytes_words(value)
    if kind == "seconds":
        return duration(value) if value >= 60 else f"{value:.1f} s"
    if kind == "loss" and isinstance(value, int | float):
        return f"{value:.4f}"
    if isinstance(value, int) and not isinstance(value, bool):
        for size, unit in ((10**9, "G"), (10**6, "M")):
            if value >= size:
                return f"{value / size:.4g} {unit}"
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def metric_lines(
    runs: Sequence[RunRow], judged: Yardstick, width: int, *, with_legend: bool = True
) -> Lines:
    """The table of metrics; what is the same text in all of the runs in one line below it."""
    table = compare(runs)
    rows, same = [], []
    for one in MEASURES:
        values = table[one.name]
        if all(value is None for value in values):
            continue
        if one.kind == "text" and len(runs) > 1 and all(value == values[0] for value in values):
            same.append(f"{one.label} {values[0]}")
            continue
        told = [measure_words(one.kind, value) for value in values]
        # What reads the same is as good: a byte or a microsecond makes no run the best.
        best = {told[place] for place in best_of(one.name, values, judged)}
        telling = len({told[place] for place, value in enumerate(values) if is_number(value)}) > 1
        cells = [words + BEST * (telling and words in best) for words in told]
        rows.append((one.label, cells))
    made: Lines = [*legend(runs, width), ("", "plain")] if with_legend else []
    made += columns_table([letter(place) for place in range(len(runs))], rows, width)
    if same:
        made += [("", "plain"), *wrapped(f"the same in all: {', '.join(same)}", width, "  ")]
    if any(cell.endswith(BEST) for _, cells in rows for cell in cells):
        made.append((f"{BEST} best of its line", "quiet"))
    for words in judged.words:
        made += wrapped(f"! {words}", width, "  ", "head")
    return made


def evaluation_lines(
    found: Sequence[Evaluated], runs: Sequence[RunRow], width: int, label: int = LABEL
) -> Lines:
    """Metrics of the answers with their 95 % intervals, a table for each kind of rows."""
    made: Lines = []
    for on in dict.fromkeys(one.on for one in found):
        its = {one.run: one for one in found if one.on == on}
        shown = [(letter(p), its[run.id]) for p, run in enumerate(runs) if run.id in its]
        alike = len({(one.pairs, one.rows) for _, one in shown}) == 1
        counts = ", ".join(f"{name} {one.rows:,}" for name, one in shown)
        made += wrapped(f"answers evaluated on {on} (rows: {counts})", width, "  ", "head")
        rows = []
        for name in dict.fromkeys(name for _, one in shown for name in one.metrics):
            values = [one.metrics.get(name) for _, one in shown]
            best = _best_metric(values, shown[0][1].better.get(name, "")) if alike else None
            cells = [
                (value_words(name, *value) if value else NOTHING)
                + BEST * (value is not None and value[0] == best)
                for value in values
            ]
            rows.append((label_of(name), cells))
        # Value and interval need 20 cells: fewer columns beside each other.
        for first in range(0, len(shown), most := max(1, (width - label) // 21)):
            part = slice(first, first + most)
            heads = [name for name, _ in shown[part]]
            made += columns_table(heads, [(n, cells[part]) for n, cells in rows], width, label)
        if not alike:
            made += wrapped("! not on the same rows: not compared", width, "  ", "head")
        made.append(("", "plain"))
    return made[:-1]


def _best_metric(values: Sequence[tuple[float, float, float] | None], better: str) -> float | None:
    finite = [value[0] for value in values if value is not None and value[0] == value[0]]
    if not better or len(set(finite)) < 2:
        return None
    return max(finite) if better == "higher" else min(finite)


def vote_lines(
    found: Sequence[tuple[int, int, WinRate]], runs: Sequence[RunRow], width: int
) -> Lines:
    """Wins of each two runs over each other, with Wilson's 95 % interval."""
    if not found:
        return wrapped("no votes between these runs: Play asks for them blind (b)", width, "  ")
    made: Lines = []
    for a, b, rate in found:
        words = f"{letter(a)} {rate.a_wins:,} : {rate.b_wins:,} {letter(b)}"
        rest = f"{counted(rate.ties, 'tie')}, {rate.both_bad:,} both bad"
        share = ""
        if rate.rate is not None and rate.low is not None and rate.high is not None:
            share = f"   {letter(b)} wins {rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"
            if rate.low > 0.5 or rate.high < 0.5:
                share += f"{BEST} {letter(b if rate.low > 0.5 else a)} preferred"
        made += wrapped(f"{words}   {rest}{share}", width, "  ", "plain")
        if {rate.a, rate.b} - {run.id for run in runs} - {run.name for run in runs}:
            made += wrapped(f"    {rate.a_label} against {rate.b_label}", width, "    ")
    decided = "wins: of the decided votes, Wilson's 95 % interval; * without 50 % in it"
    return [*made, *wrapped(decided, width, "  ")]


def sample_lines(found: Sequence[Answered], width: int, cells: int = 2000) -> Lines:
    """Each prompt with the last answer of every run below it."""
    made: Lines = []
    for one in found:
        made += wrapped(f"> {clip(one.prompt, cells)}", width, "  ", "head")
        if one.reference:
            made += wrapped(f"   reference: {clip(one.reference, cells)}", width, "      ")
        for place, answer in enumerate(one.answers):
            if answer is None:
                made.append((f" {letter(place)} (not asked)", "quiet"))
                continue
            step, text = answer
            words = clip(text.strip(), cells) or "(nothing)"
            made += wrapped(f" {letter(place)} step {step}: {words}", width, "      ", "plain")
        made.append(("", "plain"))
    return made[:-1]
