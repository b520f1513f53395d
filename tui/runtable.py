"""The history as a table: which runs and sweeps, in which order, in which columns.

A line is a run, or a sweep: runs made together, on one line that opens. A run on a line of its own
has no sweep, or stands below its open sweep.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.history.row import seconds
from tui import words
from tui.sweepwords import leading_state, losses, states_words, values_words
from tui.theme import STATES
from tui.widgets.cursortable import Column
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from engine.history.queries import SweepRow
    from engine.history.row import RunRow
    from tui.feed import Snapshot

__all__ = [
    "COLUMNS",
    "ORDERS",
    "Group",
    "cells",
    "columns",
    "filtered",
    "in_order",
    "key_of",
    "lines",
]

ORDERS = ("created", "name", "best", "state")
"""What ``o`` cycles through; the first one is newest first."""
MEMBER = "└ "


@dataclass(frozen=True)
class Group:
    """A sweep's line."""

    sweep: "SweepRow"
    shown: tuple["RunRow", ...]
    """Those of its runs that the filter lets through."""
    opened: bool


def key_of(line: "RunRow | Group") -> tuple[str, str]:
    """What tells a line from all others, whatever becomes of the order."""
    return ("sweep", line.sweep.id) if isinstance(line, Group) else ("run", line.id)


def lines(
    snapshot: "Snapshot", wanted: str, order: str, opened: Set[str]
) -> list["RunRow | Group"]:
    """The table's lines. ``opened``: sweeps that show their runs.

    A sweep comes where the first of its runs would; one that the filter found by its runs is open.
    """
    sweeps = snapshot.sweeps
    rows = in_order(filtered(snapshot, wanted), order)
    if not sweeps:
        return list(rows)
    members: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.sweep:
            members.setdefault(row.sweep, []).append(row)
    by_name = _named(sweeps, wanted) if wanted.split() else set(sweeps)
    found: list[RunRow | Group] = []
    done: set[str] = set()
    for row in rows:
        if not row.sweep:
            found.append(row)
        elif row.sweep not in done:
            done.add(row.sweep)
            there = members[row.sweep]
            forced = row.sweep not in by_name
            group = Group(sweeps[row.sweep], tuple(there), forced or row.sweep in opened)
            found.append(group)
            if group.opened:
                # Newest first is for the history; in a sweep the runs come as they were made.
                found += there[::-1] if order == "created" else there
    if order == "name":
        found = _by_name(found)
    return found


def _named(sweeps: Mapping[str, "SweepRow"], wanted: str) -> set[str]:
    parts = wanted.lower().split()
    return {id for id in sweeps if all(part in id.lower() for part in parts)}


def _by_name(found: list["RunRow | Group"]) -> list["RunRow | Group"]:
    """Sweeps by their own names, their runs behind them."""
    heads = [line for line in found if isinstance(line, Group) or not line.sweep]
    heads.sort(key=lambda line: (line.sweep.id if isinstance(line, Group) else line.name).lower())
    made: list[RunRow | Group] = []
    for line in heads:
        made.append(line)
        if isinstance(line, Group) and line.opened:
            made += line.shown
    return made


def filtered(snapshot: "Snapshot", wanted: str) -> list["RunRow"]:
    """Rows with every word of ``wanted`` in name, id, state, model, dataset, sweep or tags."""
    parts = wanted.lower().split()
    if not parts:
        return snapshot.rows
    found = list(zip(snapshot.rows, snapshot.texts, strict=True))
    for part in parts:
        found = [pair for pair in found if part in pair[1]]
    return [row for row, _ in found]


def in_order(rows: list["RunRow"], order: str) -> list["RunRow"]:
    """``rows`` (newest first) by one of :data:`ORDERS`; equal ones stay newest first."""
    if order == "name":
        return sorted(rows, key=lambda row: row.name.lower())
    if order == "best":
        return sorted(rows, key=losses)
    if order == "state":
        states = {state: place for place, state in enumerate(STATES)}
        return sorted(rows, key=lambda row: states.get(row.state, 99))
    return rows


def _state(row: "RunRow") -> Cell:
    symbol, colour = STATES.get(row.state, ("?", ""))
    return f"{symbol} {row.state}", colour


def _step(row: "RunRow") -> str:
    if row.step is None:
        return words.NOTHING
    last = words.number(row.max_steps) if row.max_steps else "?"
    return f"{words.number(row.step)}/{last}"


def _took(row: "RunRow", now: float) -> str:
    spent = seconds(row, now)
    return words.duration(spent) if spent is not None else ""


def _name(row: "RunRow") -> str:
    return f"{MEMBER}{values_words(row)}  {row.name}" if row.sweep else row.name


COLUMNS: tuple[tuple[int, Column, Callable[["RunRow", float], Cell]], ...] = (
    (0, Column("state", 10), lambda row, now: _state(row)),
    (110, Column("created", 10, True), lambda row, now: words.when(row.created, now)),
    (0, Column("step", 11, True), lambda row, now: _step(row)),
    (110, Column("loss", 7, True), lambda row, now: words.loss(row.loss)),
    (0, Column("best val", 8, True), lambda row, now: words.loss(row.best_eval_loss)),
    (110, Column("test", 7, True), lambda row, now: words.loss(row.test_loss)),
    (110, Column("tok/s", 7, True), lambda row, now: words.number(row.tokens_per_second)),
    (140, Column("peak", 8, True), lambda row, now: words.bytes_words(row.peak_memory_bytes)),
    (0, Column("took", 11, True), _took),
    (0, Column("name", 18), lambda row, now: _name(row)),
    (0, Column("model"), lambda row, now: row.model or ""),
)
"""(from which width of the screen, column, cell of a run)."""


def columns(width: int, signs: bool) -> list[Column]:
    """Those of a screen of ``width`` cells; with ``signs`` of runs one more, for them."""
    shown = [column for least, column, _ in COLUMNS if width >= least]
    return [Column("", 1), *shown] if signs else shown


def cells(
    line: "RunRow | Group", width: int, now: float, signs: Mapping[str, str] | None = None
) -> list[Cell]:
    """A line's cells in :func:`columns`; the last one takes the rest of the line.

    ``signs``: of marked runs and of the baseline, by id.
    """
    if signs:
        sign = signs.get(line.id, "") if not isinstance(line, Group) else ""
        return [(sign, "#ffd75f"), *cells(line, width, now)]
    if isinstance(line, Group):
        return _group_cells(line, width, now)
    shown = [(column, cell) for least, column, cell in COLUMNS if width >= least]
    if line.sweep:  # its values and its name want the room of the model, which all of them share
        shown = shown[:-1]
    return [cell(line, now) for _, cell in shown]


def _group_cells(group: Group, width: int, now: float) -> list[Cell]:
    sweep = group.sweep
    _, colour = STATES.get(leading_state(sweep), ("", ""))
    made: list[Cell] = [(f"{'▾' if group.opened else '▸'} sweep", colour)]
    if width >= 110:
        made.append(words.when(max(row.created or 0.0 for row in sweep.runs), now))
    count, total = len(group.shown), len(sweep.runs)
    made.append(f"{count} of {total}" if count < total else f"{total} run{'s' * (total > 1)}")
    if width >= 110:
        made.append("")
    best = sweep.best
    made.append(words.loss(best.best_eval_loss) if best else words.NOTHING)
    text = f"{sweep.id}  {states_words(sweep)}"
    if best:
        text += f"  best {values_words(best, sweep.keys) or best.name}"
    made.append(text)
    return made
