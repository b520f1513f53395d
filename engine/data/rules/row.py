"""What a rule that looks at one row is."""

from typing import NamedTuple, Protocol

from engine.data.rows import Row

__all__ = ["RowRule", "Verdict", "cut"]

_MOST_EVIDENCE = 60


class Verdict(NamedTuple):
    """Why a row is dropped."""

    reason: str
    """The name under which it counts."""
    evidence: str
    """For people, e.g. "12 characters"; empty where the reason says it all."""


class RowRule(Protocol):
    """Keeps a row, perhaps changed, or says why it is dropped.

    What it keeps it keeps again, unchanged (``python`` as far as the user's function does).
    """

    @property
    def name(self) -> str:
        """As in ``clean.rules``."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Under which it may drop a row, in the order in which it looks."""

    def __call__(self, row: Row) -> Row | Verdict: ...


def cut(text: str) -> str:
    """At most 60 characters of a text, on one line."""
    line = " ".join(text[: 2 * _MOST_EVIDENCE].split())
    return line if len(line) <= _MOST_EVIDENCE else f"{line[: _MOST_EVIDENCE - 1]}…"
