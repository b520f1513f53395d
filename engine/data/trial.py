"""The rules tried on the first rows of a source, in memory: what they would do, at once.

2,000 rows take some 50 ms, so a screen can run them anew at every change of a rule.
"""

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from engine.data.clean import Cleaner, Job
from engine.data.repeats import Repeats
from engine.data.rows import RawRow, Row
from engine.data.sources import Look, look, open_source
from engine.home import Home
from engine.recipe import DataSection, Recipe
from engine.sections.data import CleanSection

__all__ = ["TRIAL_ROWS", "Trial", "Tried", "TriedRow"]

TRIAL_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class TriedRow:
    """One row before and after."""

    line: int
    raw: bytes
    before: Row | None
    """As it was read; None when it could not be."""
    after: Row | None
    """As the rules leave it, dropped or not; None when it could not be read."""
    reason: str | None
    """Why it is dropped; None: it stays."""
    evidence: str
    changed: tuple[str, ...]
    """Rules that changed it, in their order."""


@dataclass
class Tried:
    """What the rules did to the rows of a trial."""

    rows: list[TriedRow]
    dropped: dict[str, int]
    """Reason -> rows, in the order of the questions, zeros included."""
    changed: dict[str, int]
    repairs: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def kept(self) -> int:
        return sum(row.reason is None for row in self.rows)


class Trial:
    """The first rows of a source, read once, cleaned as often as wanted."""

    def __init__(self, look: Look, rows: list[RawRow]) -> None:
        self.look = look
        self.rows = rows

    @classmethod
    def read(cls, home: Home, data: DataSection, rows: int = TRIAL_ROWS) -> "Trial":
        """Read the first rows. Raises :class:`UserError` when the source cannot be used."""
        look_at = look(home, data)
        source = open_source(home, data, look_at)
        parser = source.parser()
        found: list[RawRow] = []
        with closing(source.chunks()) as chunks:
            for chunk in chunks:
                found += parser.rows(chunk)
                if len(found) >= rows:
                    break
        return cls(look_at, found[:rows])

    def run(self, recipe: Recipe) -> Tried:
        """Clean them by a recipe's rules. Raises :class:`UserError` when a rule does."""
        began = time.monotonic()
        clean = recipe.clean
        cleaner = Cleaner(Job(clean, self.look.shape, recipe.model.model_name_or_path))
        made = [(raw, cleaner.decide(raw)) for raw in self.rows]
        kept = [
            (raw.line, row) for raw, (reason, row, *_) in made if not reason and row is not None
        ]
        repeated = self._repeats(clean, cleaner, kept)
        order = cleaner.changing
        rows = []
        for raw, (reason, row, evidence, by_rules) in made:
            if reason is None:
                reason, evidence = repeated.get(raw.line, (None, ""))
            changed = tuple(name for name in order if name in by_rules)
            rows.append(TriedRow(raw.line, raw.raw, raw.row, row, reason, evidence, changed))
        dropped = Counter(row.reason for row in rows if row.reason)
        changes = Counter(name for row in rows for name in row.changed)
        return Tried(
            rows=rows,
            dropped={reason: dropped[reason] for reason in cleaner.reasons},
            changed={name: changes[name] for name in order},
            repairs=dict(Counter(raw.repair for raw in self.rows if raw.repair)),
            seconds=time.monotonic() - began,
        )

    @staticmethod
    def _repeats(
        clean: CleanSection, cleaner: Cleaner, kept: list[tuple[int, Row]]
    ) -> dict[int, tuple[str, str]]:
        lines = [line for line, _ in kept]
        repeats = Repeats(clean).sift(lines, cleaner.marks([row for _, row in kept]))
        return {lines[place]: (reason, evidence) for place, reason, evidence in repeats}
