"""Who answers on the Play screen: columns in their order, pages of them, and the hidden pair."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui.answertext import Answer

if TYPE_CHECKING:
    from engine.recipe import GenerateSection

__all__ = ["AT_MOST", "Lineup", "Seat", "fitting"]

NARROWEST = 30
"""Cells of a column in which text can be read."""
AT_MOST = 4
"""Columns beside each other."""


def fitting(width: int) -> int:
    """How many columns stand beside each other in so many cells."""
    return max(1, min(AT_MOST, width // NARROWEST))


@dataclass(eq=False)
class Seat:
    """One column."""

    ref: str
    """What the engine finds it by: a run, RUN@STEP, RUN@base, a folder, URL#MODEL."""
    label: str
    column: Any = None
    """The engine's Column, once it was looked up."""
    sampling: "Mapping[str, Any]" = field(default_factory=dict)
    """Settings that are its own; the others are those of all."""
    answer: Answer = field(default_factory=Answer)
    turns: list[dict[str, str]] = field(default_factory=list)
    """What was said before in this conversation, by the user and by this column."""

    def settings(self, of_all: "GenerateSection") -> "GenerateSection":
        return of_all.model_copy(update=dict(self.sampling))


class Lineup:
    """Columns, the page of them that is shown, and in a blind round the two that are judged."""

    def __init__(self, shuffle: Callable[[list[Seat]], None] = random.shuffle) -> None:
        self.seats: list[Seat] = []
        self.page = 0
        self.pair: list[Seat] = []
        """Left and right of the blind round; empty: nobody is hidden."""
        self._shuffle = shuffle

    def __contains__(self, ref: str) -> bool:
        return any(seat.ref == ref for seat in self.seats)

    def add(self, ref: str, label: str, column: Any = None) -> Seat:
        seat = Seat(ref, label, column, answer=Answer(label))
        self.seats.append(seat)
        return seat

    def remove(self, ref: str) -> None:
        self.seats = [seat for seat in self.seats if seat.ref != ref]
        self.page = 0

    def asked(self) -> list[Seat]:
        """Who is asked: everybody, or the hidden pair."""
        return self.pair or self.seats

    def shown(self, width: int) -> list[Seat]:
        """Who is in sight at this width, from left to right."""
        if self.pair:
            return self.pair
        count = fitting(width)
        return self.seats[self.page * count : (self.page + 1) * count]

    def pages(self, width: int) -> int:
        return 1 if self.pair else max(1, -(-len(self.seats) // fitting(width)))

    def turn(self, by: int, width: int) -> None:
        self.page = (self.page + by) % self.pages(width)

    def hide(self) -> None:
        """Begin a blind round: two columns by chance, in an order by chance."""
        pair = list(self.seats)
        self._shuffle(pair)
        self.pair = pair[:2]

    def reveal(self) -> None:
        self.pair = []
