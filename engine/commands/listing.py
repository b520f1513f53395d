"""``runs list``: the runs that a question asks for, in columns, sorted, in groups."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from engine.commands import sweeps
from engine.commands.opened import opened
from engine.commands.output import Output
from engine.commands.runs import number, summary, value_words
from engine.errors import UsageError
from engine.history import queries
from engine.history.fields import Facts, Field, field_named
from engine.history.question import parse
from engine.history.row import RunRow
from engine.history.settings import Settings, read_settings
from engine.history.store import Store
from engine.text import clip
from engine.words import bytes_words, counted, duration, moment

__all__ = ["facts_of", "list_runs"]

SHOWN = 40
"""Cells of a wide value at most."""


def list_runs(args: argparse.Namespace, out: Output) -> int:
    """The runs, newest first; a sweep is one line, but for ``--all`` and where something is asked.

    ``getattr``: ``tunebench runs`` alone has no options of its own.
    """
    _, store = opened(args, out)
    asked = " ".join(getattr(args, "query", []))
    facts = facts_of(store)
    keys = facts.settings.keys
    question = parse(asked, keys).look_up(store)
    every = queries.list_runs(store)
    if getattr(args, "archived", False):
        rows = [row for row in every if question.test(row, facts)]
    else:
        rows = question.select(every, facts)
    names = [name for name in (getattr(args, "columns", None) or "").split(",") if name]
    columns = [field_named(name.strip(), keys) for name in names]
    if wanted := getattr(args, "sort", None):
        rows = _sorted(rows, wanted, facts)
    if (limit := getattr(args, "limit", None)) is not None:
        if limit < 1:
            raise UsageError(f"--limit {limit}: at least 1")
        rows = rows[:limit]
    _tell(args, out, rows, store, facts, columns, bool(asked))
    if not every:
        out.line("no runs yet; 'tunebench demo' makes the first one")
    elif not rows:
        out.line(f"none of {counted(len(every), 'run')} is asked for")
    tags = facts.tags
    out.document([summary(row, tags.get(row.id, ()), row.id in facts.starred) for row in rows])
    return 0


def facts_of(store: Store) -> Facts:
    """What a question may ask of runs beside their rows."""
    stars, away = queries.starred(store), queries.archived(store)
    tags, noted = queries.tags_of_runs(store), queries.noted(store)
    return Facts(read_settings(store), tags, stars, away, noted)


def _tell(
    args: argparse.Namespace,
    out: Output,
    rows: Sequence[RunRow],
    store: Store,
    facts: Facts,
    columns: Sequence[Field],
    asked: bool,
) -> None:
    by = getattr(args, "group", None)
    if columns:
        _table(out, rows, columns, facts)
    elif by:
        _groups(out, rows, field_named(by, facts.settings.keys), facts)
    elif rows:
        folded = not (asked or getattr(args, "all", False) or getattr(args, "sort", None))
        _usual(out, rows, store if folded else None, facts)


def _usual(out: Output, rows: Sequence[RunRow], folded: Store | None, facts: Facts) -> None:
    """A line a run, and what its recipe has that others of them have otherwise.

    With ``folded`` a sweep is one line.
    """
    groups = {} if folded is None else {s.id: s for s in queries.list_sweeps(folded)}
    differing = facts.settings.differing(row.id for row in rows)
    head = f"{'run':<21} {'name':<20} {'state':<9} {'steps':>13} {'train':>8} {'valid.':>8}"
    out.line(f"{head}  begun             {'differs' if differing else ''}".rstrip())
    for row in rows:
        if row.sweep and folded is not None:
            if sweep := groups.pop(row.sweep, None):
                out.line(sweeps.line(sweep, moment(row.created or 0)))
            continue
        star = "*" if row.id in facts.starred else ""
        steps = f"{row.step or 0}/{row.max_steps or '?'}"
        losses = f"{number(row.loss):>8} {number(row.best_eval_loss):>8}"
        words = f"{row.state:<9} {steps:>13} {losses}  {moment(row.created or 0):<16}"
        what = _differs(row, differing, facts.settings)
        out.line(f"{row.id:<21} {clip(star + row.name, 20):<20} {words}  {what}".rstrip())


def _differs(row: RunRow, keys: Sequence[str], settings: Settings) -> str:
    found = [(key.rsplit(".", 1)[-1], settings.get(row.id, key)) for key in keys]
    return clip(
        " ".join(f"{name}={_value(value)}" for name, value in found if value is not None), 90
    )


def _value(value: Any) -> str:
    """A recipe's value as a question takes it: a seed is 3407, not 3,407."""
    return str(value) if type(value) is int else value_words("", value)


def _groups(out: Output, rows: Sequence[RunRow], by: Field, facts: Facts) -> None:
    """For each value of a field: how many runs, the best of them, and their lines."""
    groups: dict[str, list[RunRow]] = {}
    for row in rows:
        found = by.value(row, facts)
        values = (found or ["-"]) if by.kind == "words" else [_cell(by, found)]
        for value in values:
            groups.setdefault(value, []).append(row)
    for value, members in groups.items():
        best = min(members, key=_loss)
        won = f"best {best.best_eval_loss:.4f} {best.name}" if _loss(best) < math.inf else ""
        out.line(f"{by.name} {value}: {counted(len(members), 'run')}  {won}".rstrip())
        for row in members:
            losses = f"{number(row.loss):>8} {number(row.best_eval_loss):>8}"
            out.line(f"  {row.id:<21} {clip(row.name, 24):<24} {row.state:<9} {losses}")


def _loss(row: RunRow) -> float:
    loss = row.best_eval_loss
    return math.inf if loss is None or loss != loss else loss


def _table(out: Output, rows: Sequence[RunRow], columns: Sequence[Field], facts: Facts) -> None:
    cells = [[_cell(one, one.value(row, facts)) for one in columns] for row in rows]
    if not cells:
        return
    widths = [
        min(SHOWN, max(len(one.name), *(len(row[at]) for row in cells)))
        for at, one in enumerate(columns)
    ]
    right = [one.kind not in ("word", "words", "any", "time") for one in columns]
    for row in [[one.name for one in columns], *cells]:
        padded = (
            f"{clip(cell, width):>{width}}" if side else f"{clip(cell, width):<{width}}"
            for cell, width, side in zip(row, widths, right, strict=True)
        )
        out.line("  ".join(padded).rstrip())


def _cell(one: Field, value: Any) -> str:
    if value is None or value == () or value == "":
        return "-"
    if one.kind == "bytes":
        return bytes_words(value)
    if one.kind == "seconds":
        return duration(value)
    if one.kind == "time":
        return moment(value)
    if one.kind == "words":
        return " ".join(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return _value(value) if one.kind == "any" else value_words("", value)


def _sorted(rows: Sequence[RunRow], wanted: str, facts: Facts) -> list[RunRow]:
    """Those without a value last, whichever way round; equal ones newest first."""
    down = wanted.endswith("-")
    one = field_named(wanted.removesuffix("-"), facts.settings.keys)

    def rank(row: RunRow) -> tuple[int, Any]:
        value = one.value(row, facts)
        if isinstance(value, bool | str | list | tuple):
            return 1, str(value).lower()
        return (0, value)

    there: list[RunRow] = []
    missing: list[RunRow] = []
    for row in rows:
        value = one.value(row, facts)
        (missing if value is None or value != value or value == () else there).append(row)
    return [*sorted(there, key=rank, reverse=down), *missing]
