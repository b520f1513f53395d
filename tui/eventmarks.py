"""What happened during a run, on its charts: a row of letters, and thin lines for what is rare."""

import numpy as np

from engine.charts.lines import LETTERS, LINED
from tui.frame import BAD, MARKER, Frame
from tui.raster import Area

__all__ = ["LETTERS", "LINED", "draw_markers"]


def draw_markers(frame: Frame, area: Area) -> None:
    """Letters on the row above the plot; several of one place stand beside one another."""
    row = area.top - 1
    free = np.ones(area.width, dtype=bool)
    line = ord(":" if area.options.charset == "ascii" else "╎")
    for kind, letter in LETTERS.items():
        xs = np.array(sorted(mark.x for mark in area.options.markers if mark.kind == kind))
        if not len(xs):
            continue
        columns = np.unique(area.cell_of(xs))
        for column in columns[(columns >= 0) & (columns < area.width)].tolist():
            # The letter of a second kind of the same step goes beside the first.
            near = [at for at in (column, column + 1) if at < area.width and free[at]]
            if near:
                free[near[0]] = False
                frame.write(row, area.left + near[0], letter, MARKER)
            if kind in LINED:
                rows = slice(area.top, area.top + area.height)
                styles = frame.styles[rows, area.left + column]
                blank = (styles < 0) & (styles != BAD)
                frame.chars[rows, area.left + column][blank] = line
                styles[blank] = MARKER
