"""What the history knows of runs that are compared, read in a thread; and lines as panes show them.

Nothing is ingested here: the feed does that twice a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.segment import Segment

from engine.text import steady
from tui.widgets.lines import BOLD, PLAIN, QUIET, Line

if TYPE_CHECKING:
    from engine.commands.side_tables import Lines
    from engine.history.beside import Answered, Evaluated
    from engine.history.compare import Yardstick
    from engine.history.differing import Differences
    from engine.history.row import RunRow
    from engine.history.votes import WinRate
    from engine.history.why import Why
    from engine.home import Home

__all__ = ["Comparison", "as_lines", "read"]

_STYLES = {"head": BOLD, "plain": PLAIN, "quiet": QUIET}


@dataclass(frozen=True)
class Comparison:
    """All but the curves."""

    runs: tuple["RunRow", ...]
    judged: "Yardstick"
    differences: "Differences"
    why: "Why | None"
    """Of two runs: from the first one to the second."""
    samples: list["Answered"]
    votes: list[tuple[int, int, "WinRate"]]
    evaluations: list["Evaluated"]


def read(home: "Home", runs: Sequence["RunRow"]) -> Comparison:
    """Blocks for up to 0.3 s. Raises what opening and reading ``runs.db`` raises."""
    from engine.history.beside import evaluations_beside, samples_beside, votes_between
    from engine.history.compare import yardstick
    from engine.history.differing import differ
    from engine.history.ingest import ingest_all
    from engine.history.store import open_store
    from engine.history.why import why

    store = open_store(home)
    try:
        if store.in_memory:  # it cannot be written: nobody has filled it
            ingest_all(home, store, live=False)
        explained = why(store, *runs) if len(runs) == 2 else None
        differences = explained.differences if explained else differ(store, runs)
        return Comparison(
            tuple(runs),
            yardstick(runs, [one.values for one in differences.settings]),
            differences,
            explained,
            samples_beside(store, runs),
            votes_between(store, runs),
            evaluations_beside(store, runs),
        )
    finally:
        store.close()


def as_lines(lines: "Lines") -> list[Line]:
    """Lines of the command line's tables as a pane shows them."""
    return [Line([Segment(steady(text), _STYLES[weight])]) for text, weight in lines]
