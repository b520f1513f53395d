"""A bar of several parts with marks, as characters that differ without colour."""

from collections.abc import Sequence
from itertools import groupby

__all__ = ["ESTIMATE", "FREE", "OTHERS", "OTHER_RUNS", "PEAK", "THIS_RUN", "stacked"]

THIS_RUN, OTHER_RUNS, OTHERS, FREE = "━", "═", "╍", "─"
"""Of a device's memory: the run that is looked at, other runs of ours, everybody else, free."""
PEAK, ESTIMATE = "P", "E"
"""The most that the run has taken, and what was estimated before it began."""


def stacked(
    parts: Sequence[tuple[str, float]], marks: Sequence[tuple[str, float]], cells: int
) -> list[str]:
    """Pieces of one character each, ``cells`` cells together.

    ``parts``: (character, share of 0 to 1) from the left on, the last one takes what is left; a
    part that is not nothing has a cell. ``marks``: (character, place of 0 to 1); of two at the same
    place the second one steps aside.
    """
    bar: list[str] = []
    done = 0.0
    for character, share in parts[:-1]:
        done += max(0.0, share)
        end = min(cells, max(round(done * cells), len(bar) + (share > 0)))
        bar += [character] * (end - len(bar))
    bar += [parts[-1][0] if parts else FREE] * (cells - len(bar))
    taken: set[int] = set()
    for character, place in marks:
        at = min(cells - 1, max(0, round(place * cells) - 1))
        while at in taken and at < cells - 1:
            at += 1
        taken.add(at)
        if cells:
            bar[at] = character
    return ["".join(same) for _, same in groupby(bar)]
