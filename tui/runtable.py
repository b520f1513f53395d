"""The history as a table: which runs, in which order, in which groups, in which columns.

A line is a run, or a group: a sweep (runs made together), or the runs of one dataset, model or tag;
on one line that opens. A run on a line of its own belongs to none, or stands below its open group.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.history.queries import SweepRow
from tui import words
from tui.runcolumns import Look, RunColumn
from tui.sweepwords import leading_state, losses, states_words, values_words
from tui.theme import STATES
from tui.widgets.cursortable import Column
from tui.widgets.rows import Cell

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from tui.feed import Snapshot

__all__ = ["GROUPS", "Group", "cells", "in_order", "key_of", "lines", "titles"]

GROUPS = ("sweep", "dataset", "model", "tag", "")
"""What ``b`` cycles through; "": every run on a line of its own."""
NONE = "–"


@dataclass(frozen=True)
class Group:
    """The line of a group."""

    sweep: "SweepRow"
    """Its runs, the best first, under its name."""
    shown: tuple["RunRow", ...]
    """Those of its runs that the filter lets through."""
    opened: bool
    kind: str = "sweep"
    """One of :data:`GROUPS`."""


def key_of(line: "RunRow | Group") -> tuple[str, str]:
    """What tells a line from all others, whatever becomes of the order."""
    return (line.kind, line.sweep.id) if isinstance(line, Group) else ("run", line.id)


def lines(
    snapshot: "Snapshot",
    rows: Sequence["RunRow"],
    by: str,
    opened: Set[str],
    wanted: str = "",
    order: str = "created",
) -> list["RunRow | Group"]:
    """The table's lines. ``rows``: those to be shown, in their ``order`` (a column's name).

    ``opened``: groups that show their runs. A group comes where the first of its runs would, by
    name where that is the order; a sweep that the filter (``wanted``) found by its runs and not by
    its name is open.
    """
    if not by or (by == "sweep" and not snapshot.sweeps):
        return list(rows)
    members: dict[str, list[RunRow]] = {}
    for row in rows:
        for name in _names(row, by, snapshot):
            members.setdefault(name, []).append(row)
    every = snapshot.sweeps if by == "sweep" else _groups(snapshot, by)
    parts = wanted.lower().split()
    found: list[RunRow | Group] = []
    done: set[str] = set()
    for row in rows:
        names = _names(row, by, snapshot)
        if not names:
            found.append(row)
        for name in names:
            if name in done:
                continue
            done.add(name)
            there = members[name]
            by_run = by == "sweep" and bool(parts) and any(p not in name.lower() for p in parts)
            group = Group(every[name], tuple(there), by_run or name in opened, by)
            found.append(group)
            if group.opened:
                # Newest first is for the history; in a sweep the runs come as they were made.
                found += there[::-1] if order == "created" and by == "sweep" else there
    return _by_name(found) if order == "name" else found


def _by_name(found: list["RunRow | Group"]) -> list["RunRow | Group"]:
    """Groups by their own names, their runs behind them."""
    heads: list[tuple[str, list[RunRow | Group]]] = []
    left = 0
    for line in found:
        if left:
            heads[-1][1].append(line)
            left -= 1
            continue
        name = line.sweep.id if isinstance(line, Group) else line.name
        heads.append((name.lower(), [line]))
        left = len(line.shown) if isinstance(line, Group) and line.opened else 0
    heads.sort(key=lambda pair: pair[0])
    return [line for _, there in heads for line in there]


def _names(row: "RunRow", by: str, snapshot: "Snapshot") -> Sequence[str]:
    if by == "sweep":
        return (row.sweep,) if row.sweep else ()
    if by == "tag":
        return snapshot.tags.get(row.id) or (NONE,)
    value = row.dataset if by == "dataset" else row.model
    return (value or NONE,)


def _groups(snapshot: "Snapshot", by: str) -> dict[str, "SweepRow"]:
    members: dict[str, list[RunRow]] = {}
    for row in snapshot.rows:
        for name in _names(row, by, snapshot):
            members.setdefault(name, []).append(row)
    return {name: SweepRow(name, tuple(sorted(rows, key=losses))) for name, rows in members.items()}


def in_order(
    rows: Sequence["RunRow"], column: RunColumn | None, look: Look, turned: bool = False
) -> list["RunRow"]:
    """``rows`` (newest first) by a column, ``turned`` the other way round than usual.

    None: newest first. Those without a value come last either way, equal ones newest first.
    """
    if column is None or column.rank is None:
        return list(reversed(rows)) if turned else list(rows)
    there: list[tuple[Any, RunRow]] = []
    missing: list[RunRow] = []
    for row in rows:
        value = column.rank(row, look)
        if value is None:
            missing.append(row)
        else:
            there.append((value, row))
    try:
        there.sort(key=lambda pair: pair[0], reverse=column.down != turned)
    except TypeError:  # a recipe's key that is a number here and a word there
        there.sort(key=lambda pair: str(pair[0]), reverse=column.down != turned)
    return [*(row for _, row in there), *missing]


def titles(columns: Sequence[RunColumn], signs: bool) -> list[Column]:
    """The table's columns; with ``signs`` of runs one more, for them."""
    shown = [one.column for one in columns]
    return [Column("", 1), *shown] if signs else shown


def cells(
    line: "RunRow | Group",
    columns: Sequence[RunColumn],
    look: Look,
    signs: Mapping[str, str] | None = None,
) -> list[Cell]:
    """A line's cells in :func:`titles`; the last one takes the rest of the line.

    ``signs``: of marked runs and of the baseline, by id.
    """
    if signs:
        sign = signs.get(line.id, "") if not isinstance(line, Group) else ""
        return [(sign, "#ffd75f"), *cells(line, columns, look)]
    if isinstance(line, Group):
        return _group_cells(line, columns, look)
    names = [one.name for one in columns]
    if line.sweep and names[-2:-1] == ["name"]:
        columns = columns[:-1]  # its values and its name want the room of what differs
    return [one.cell(line, look) for one in columns]


def _group_cells(group: Group, columns: Sequence[RunColumn], look: Look) -> list[Cell]:
    """Under each heading what there is to say of all its runs; behind them name and states."""
    sweep = group.sweep
    _, colour = STATES.get(leading_state(sweep), ("", ""))
    count, total = len(group.shown), len(sweep.runs)
    best = sweep.best
    told = {
        "created": words.when(max(row.created or 0.0 for row in sweep.runs), look.now),
        "step": f"{count} of {total}" if count < total else f"{total} run{'s' * (total > 1)}",
        "best_eval_loss": words.loss(best.best_eval_loss) if best else words.NOTHING,
    }
    made: list[Cell] = [(f"{'▾' if group.opened else '▸'} {group.kind}", colour)]
    for one in columns[1:]:
        if one.name in ("took", "name") or not one.column.width:
            break
        made.append(told.get(one.name, ""))
    text = f"{sweep.id}  {states_words(sweep)}"
    if not any(one.name == "step" for one in columns[: len(made)]):
        text = f"{sweep.id}  {told['step']}: {states_words(sweep)}"
    if best:
        text += f"  best {values_words(best, sweep.keys) or best.name}"
    made.append(text)
    return made[: len(columns)]
