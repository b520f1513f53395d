"""What a report consists of; ``html`` and ``markdown`` say how it looks.

Texts may come from outside: whoever writes blocks escapes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.export.figures import Figure

__all__ = ["Answers", "Block", "Code", "Fold", "Heading", "Items", "Pictures", "Table", "Words"]


@dataclass(frozen=True)
class Heading:
    level: int
    """1: of the page, 2 and 3 of its parts."""
    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph. ``quiet``: said beside what matters."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Items:
    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A head and rows of as many texts; ``best``: cells (row, column) that are marked as such."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    """Columns that are aligned to the right."""
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Answers:
    """What was written for one prompt: (who, text), side by side where there is room."""

    prompt: str
    texts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    text: str
    language: str = ""


@dataclass(frozen=True)
class Pictures:
    """Charts; the first one larger than the others."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Fold:
    """What is shown when asked for, where that is possible."""

    title: str
    blocks: "Sequence[Block]"


Block = Heading | Words | Items | Table | Answers | Code | Pictures | Fold
