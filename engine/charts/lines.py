"""What goes into a drawing: lines, what happened beside them, options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from engine.charts.extremes import Floats
from engine.charts.series import Series

__all__ = ["LETTERS", "LINED", "Line", "Mark", "Marker", "Options"]

Mark = Literal["solid", "dots", "dashed", "dotted", "dashdot", "points"]

LETTERS = {"resume": "r", "note": "n", "checkpoint": "c", "evaluation": "e"}
"""Kind of a marker -> its letter, the most telling first: it is the one that stays where it is
narrow."""
LINED = ("resume", "note")


@dataclass(frozen=True)
class Line:
    """One series. ``x`` ascends; NaN and infinities of ``y`` are gaps with a mark below.

    ``mark`` tells series apart without colour: ``solid``, ``dashed``, ``dotted``, ``dashdot``;
    ``dots``: a stippled band from the highest to the lowest value of every dot column; ``points``:
    a symbol a value. ``pinned``: drawn on top of the others. ``tag``: a character at its right end.

    A line of arrays is looked at once, at its first frame; one of a :class:`Series` only where the
    series has grown.
    """

    name: str
    x: Floats
    y: Floats
    mark: Mark = "solid"
    pinned: bool = False
    tag: str = ""
    grown: Series | None = field(default=None, compare=False, repr=False)
    quiet: bool = False
    """Left out of the legend."""

    @classmethod
    def of(
        cls,
        name: str,
        series: Series,
        mark: Mark = "solid",
        *,
        pinned: bool = False,
        tag: str = "",
        quiet: bool = False,
    ) -> "Line":
        return cls(name, series.x, series.y, mark, pinned, tag, series, quiet)

    @cached_property
    def points(self) -> Series:
        return self.grown if self.grown is not None else Series.of(self.x, self.y)


@dataclass(frozen=True)
class Marker:
    """Something that happened at ``x``: ``kind`` is checkpoint, evaluation, resume or note."""

    x: float
    kind: Literal["checkpoint", "evaluation", "resume", "note"]


@dataclass(frozen=True)
class Options:
    """How to draw. ``x_range`` None: the data's own."""

    charset: str = "braille"
    log_y: bool = False
    x_range: tuple[float, float] | None = None
    y_zero: bool = False
    """Let the axis begin at zero."""
    guides: bool = True
    log_x: bool = False
    markers: Sequence[Marker] = ()
    """Events, drawn as letters on a row above the plot."""
    cursor: float | None = None
    """The x where a vertical line is drawn."""
