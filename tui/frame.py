"""What comes out of a drawing: characters with style numbers. What goes in: lines, options."""

import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engine.charts.lines import Line, Mark, Marker, Options

if TYPE_CHECKING:
    from tui.raster import Area

__all__ = [
    "AXIS",
    "BAD",
    "CURSOR",
    "GUIDE",
    "MARKER",
    "SUBCELLS",
    "Frame",
    "Line",
    "Mark",
    "Marker",
    "Options",
    "charset_for",
]

AXIS, GUIDE, BAD, MARKER, CURSOR = -1, -2, -3, -4, -5
"""Style numbers that are no series: axis and labels, guides, non-finite marks, events, cursor."""

SUBCELLS = {"braille": (2, 4), "quadrant": (2, 2), "ascii": (1, 2)}
"""Dots of one cell, across and down."""


@dataclass
class Frame:
    """A drawn chart: characters, each with a style number (>= 0: the series)."""

    chars: npt.NDArray[np.uint32]
    styles: npt.NDArray[np.int16]
    note: str = ""
    """Why there is nothing to see."""
    y_ticks: list[float] = field(default_factory=list)
    area: "Area | None" = None
    """Where the plot lies; None: there is none."""

    def write(self, y: int, x: int, text: str, style: int) -> None:
        room = self.chars.shape[1] - x
        codes = [ord(char) for char in text[: max(0, room)]]
        self.chars[y, x : x + len(codes)] = codes
        self.styles[y, x : x + len(codes)] = style

    def row(self, y: int) -> str:
        return self.chars[y].astype("<u4").tobytes().decode("utf-32-le")

    def runs(self, y: int) -> list[tuple[str, int]]:
        """Row ``y`` as (text, style number) pieces."""
        text, styles = self.row(y), self.styles[y]
        cuts = [0, *(np.flatnonzero(np.diff(styles)) + 1).tolist(), len(text)]
        return [(text[a:b], int(styles[a])) for a, b in itertools.pairwise(cuts) if b > a]

    def text(self) -> str:
        """The whole frame without styles, right ends stripped: what tests compare."""
        return "\n".join(self.row(y).rstrip() for y in range(len(self.chars)))


def charset_for(environ: "os._Environ[str] | dict[str, str]" = os.environ) -> str:
    """``TUNEBENCH_CHART`` (braille, quadrant, ascii), else what the terminal's fonts can be
    expected to have: the Linux console has neither braille nor quadrants."""
    wanted = environ.get("TUNEBENCH_CHART", "").lower()
    if wanted in SUBCELLS:
        return wanted
    if environ.get("TERM") in ("linux", "dumb", "vt100", "vt220"):
        return "ascii"
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "UTF-8"
    encoding = locale.upper().replace("-", "")
    return "ascii" if encoding in ("C", "POSIX") else "braille"
