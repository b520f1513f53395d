"""Votes between two answers, and who wins: events of the home's own journal.

A vote holds all that is needed to ask again: prompt, both columns, how each was sampled.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine import __version__
from engine.errors import UserError
from engine.history.judged import VERDICTS, checked_prompt
from engine.history.notes import append_event
from engine.history.store import Store
from engine.home import Home

__all__ = [
    "VERDICTS",
    "Side",
    "Vote",
    "WinRate",
    "add_vote",
    "columns_of",
    "count_votes",
    "get_vote",
    "set_vote_note",
    "votes",
    "wilson",
    "win_rates",
    "withdraw_vote",
]

Z_95 = 1.959963984540054
"""Standard normal deviate that 95 % lie within."""


@dataclass(frozen=True)
class Side:
    """One of the two answers, as it stood on the screen."""

    column: str
    """What ``engine.generate.columns.column_for`` takes: best one that means the same weights for
    ever (``RUN@STEP``, not ``RUN@last``). Votes are counted by it."""
    label: str
    """For people; may come from outside."""
    text: str
    """The answer."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """The settings of a ``GenerateSection``, seed included."""
    stop_reason: str | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Vote:
    """One vote."""

    id: str
    t: float
    """Unix seconds; 0: not known."""
    prompt: str | list[dict[str, str]]
    """A text, or messages with role and content."""
    prompt_set: str
    """Name of the set, file or split that it is from; "": none."""
    left: Side
    right: Side
    verdict: str
    """One of :data:`VERDICTS`."""
    note: str = ""
    blind: bool = True
    """Whether the names were hidden until the vote."""
    reference: str | None = None
    index: int = 0
    """The prompt's number, by which its random numbers are told from the others'."""

    @property
    def winner(self) -> str | None:
        """The better answer's column; None: neither."""
        return {"left": self.left.column, "right": self.right.column}.get(self.verdict)


@dataclass(frozen=True)
class WinRate:
    """How two columns compare, whichever side they stood on."""

    a: str
    b: str
    """The run where ``a`` is none: so the tuned one of a base and a run."""
    a_label: str
    b_label: str
    a_wins: int
    b_wins: int
    ties: int
    both_bad: int
    prompt_set: str | None
    """Of these prompts only ("": of no set); None: of all."""
    rate: float | None
    """``b_wins`` of the decided votes, 0 to 1; None: none is decided."""
    low: float | None
    high: float | None
    """Wilson's interval at 95 % of ``rate``."""

    @property
    def decided(self) -> int:
        """Votes for one of the two."""
        return self.a_wins + self.b_wins

    @property
    def votes(self) -> int:
        return self.decided + self.ties + self.both_bad


def add_vote(
    home: Home,
    *,
    prompt: str | Sequence[Mapping[str, str]],
    prompt_set: str,
    left: Side,
    right: Side,
    verdict: str,
    note: str = "",
    blind: bool = True,
    reference: str | None = None,
    index: int = 0,
) -> str:
    """Journal a vote; returns its id.

    Raises :class:`UserError` when it cannot be written or is between a column and itself,
    ValueError for a verdict or prompt that is none.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"{verdict!r} is no verdict; there are {', '.join(VERDICTS)}")
    if left.column == right.column:
        raise UserError(f"{left.label}: both answers are of one column; a vote needs two")
    return append_event(
        home,
        "vote",
        prompt=checked_prompt(prompt),
        prompt_set=prompt_set,
        left=asdict(left),
        right=asdict(right),
        verdict=verdict,
        note=note,
        blind=blind,
        reference=reference,
        index=index,
        version=__version__,
    )


def set_vote_note(home: Home, id: str, text: str) -> None:
    """Give a vote another note ("": none)."""
    append_event(home, "vote_note", vote=id, text=text)


def withdraw_vote(home: Home, id: str) -> None:
    """Take a vote back: it counts no more. The journal still tells of it."""
    append_event(home, "unvote", vote=id)


def votes(
    store: Store,
    *,
    prompt_set: str | None = None,
    columns: Collection[str] | None = None,
    either: bool = False,
    limit: int | None = None,
) -> list[Vote]:
    """Votes, newest first: of a set ("": of none), and of columns.

    Of one column all that it took part in, of several those between two of them; with ``either``
    all that any of them took part in.
    """
    where, values = _where(prompt_set, columns, either)
    sql = f"{_SELECT} WHERE {where} ORDER BY t DESC, rowid DESC"
    rows = store.query(f"{sql} LIMIT ?", [*values, -1 if limit is None else limit])
    return [_vote(*row) for row in rows]


def count_votes(
    store: Store,
    *,
    prompt_set: str | None = None,
    columns: Collection[str] | None = None,
    either: bool = False,
) -> int:
    """How many :func:`votes` there are."""
    where, values = _where(prompt_set, columns, either)
    return int(store.query(f"SELECT count(*) FROM votes WHERE {where}", values)[0][0])


def get_vote(store: Store, ref: str) -> Vote:
    """The vote with this id or unique beginning of it; UserError when none or several."""
    sql = f"{_SELECT} WHERE substr(id, 1, ?) = ? LIMIT 2"
    found = store.query(sql, (len(ref), ref)) if ref else []
    if len(found) != 1:
        what = "could be any of several votes; write more of it" if found else "is no vote"
        raise UserError(f"{ref!r} {what}; 'tunebench votes list' tells their ids")
    return _vote(*found[0])


def columns_of(store: Store, run: str) -> list[str]:
    """The columns that votes were given on which are this run's (id, name), or this very one."""
    names = {run}
    for row in store.query("SELECT id, name FROM runs WHERE id = ? OR name = ?", (run, run)):
        names |= {*row}
    found = store.query("SELECT a FROM votes UNION SELECT b FROM votes ORDER BY 1")
    return [c for (c,) in found if c in names or c.rpartition("@")[0] in names]


def _where(
    prompt_set: str | None, columns: Collection[str] | None, either: bool = False
) -> tuple[str, list[Any]]:
    parts, values = ["1"], list[Any]()
    if prompt_set is not None:
        parts.append("prompt_set = ?")
        values.append(prompt_set)
    if columns is not None:
        marks = ", ".join("?" * len(columns))
        both = "OR" if either or len(columns) == 1 else "AND"
        parts.append(f"(a IN ({marks}) {both} b IN ({marks}))")
        values += [*columns, *columns]
    return " AND ".join(parts), values


_SELECT = "SELECT id, t, prompt_set, note, document FROM votes"


def _vote(id: str, t: float | None, prompt_set: str, note: str, document: str) -> Vote:
    found = json.loads(document)
    left, right = (Side(**found.pop(name)) for name in ("left", "right"))
    named = {"prompt_set": prompt_set, "left": left, "right": right, "note": note, **found}
    return Vote(id=id, t=t or 0.0, **named)


def win_rates(
    store: Store, *, prompt_set: str | None = None, by_set: bool = False
) -> list[WinRate]:
    """How each two columns compare, those with the most votes first.

    Over all votes, or over those of one set ("": of none); with ``by_set`` one for each pair and
    set.
    """
    where, values = _where(prompt_set, None)
    keys = "a, b, prompt_set" if by_set else "a, b"
    # Of each group the labels are those of its newest vote: SQLite's rule for max().
    rows = store.query(
        f"SELECT a, b, {'prompt_set' if by_set else 'NULL'}, choice, count(*), max(t), a_label, "
        f"b_label FROM votes WHERE {where} GROUP BY {keys}, choice",
        values,
    )
    groups: dict[tuple[str, str, str | None], dict[str, int]] = {}
    labels: dict[tuple[str, str, str | None], tuple[float, str, str]] = {}
    for a, b, name, choice, count, t, a_label, b_label in rows:
        pair = (a, b, name if by_set else prompt_set)
        groups.setdefault(pair, {})[choice] = count
        newest = labels.get(pair)
        if newest is None or (t or 0.0) >= newest[0]:
            labels[pair] = (t or 0.0, a_label, b_label)
    runs = _runs(store) if groups else set()
    found = [_rate(pair, groups[pair], labels[pair][1:], runs) for pair in groups]
    return sorted(found, key=lambda r: (-r.votes, r.a_label, r.b_label, r.prompt_set or ""))


def _runs(store: Store) -> set[str]:
    return {name for row in store.query("SELECT id, name FROM runs") for name in row}


def _rate(
    pair: tuple[str, str, str | None],
    counts: dict[str, int],
    labels: tuple[str, ...],
    runs: set[str],
) -> WinRate:
    (a, b, prompt_set), (a_label, b_label) = pair, labels
    a_wins, b_wins = counts.get("a", 0), counts.get("b", 0)
    if _is_run(a, runs) and not _is_run(b, runs):
        a, b, a_label, b_label, a_wins, b_wins = b, a, b_label, a_label, b_wins, a_wins
    decided = a_wins + b_wins
    low, high = wilson(b_wins, decided)
    return WinRate(
        *(a, b, a_label, b_label, a_wins, b_wins),
        ties=counts.get("tie", 0),
        both_bad=counts.get("both bad", 0),
        prompt_set=prompt_set,
        rate=b_wins / decided if decided else None,
        low=low,
        high=high,
    )


def _is_run(column: str, runs: set[str]) -> bool:
    run, _, which = column.rpartition("@")
    return column in runs or (run in runs and which != "base")


def wilson(wins: int, decided: int) -> tuple[float | None, float | None]:
    """Wilson's score interval at 95 % of a share of ``decided`` votes; None, None of no votes."""
    if not decided:
        return None, None
    share, square = wins / decided, Z_95 * Z_95
    middle = (share + square / (2 * decided)) / (1 + square / decided)
    spread = share * (1 - share) / decided + square / (4 * decided * decided)
    half = Z_95 * math.sqrt(spread) / (1 + square / decided)
    return max(0.0, middle - half), min(1.0, middle + half)
