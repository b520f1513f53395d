"""Charts of several runs over each other, and whose line is whose."""

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from engine.text import clip
from tui import words
from tui.chartstate import ChartState
from tui.feed import Snapshot
from tui.theme import SERIES_COLOURS
from tui.widgets.chart import PLAIN, SAMPLE
from tui.widgets.chartgrid import ChartGrid

if TYPE_CHECKING:
    from tui.curvebook import RunCurves

__all__ = ["ComparePage"]

LEGEND_LINES = 6


class ComparePage(Vertical):
    """The screen's keys choose the runs and how the charts are looked at."""

    DEFAULT_CSS = "ComparePage #legend { height: auto; padding: 0 1; }"

    def __init__(self, state: ChartState, *, id: str) -> None:
        super().__init__(id=id)
        self.runs: Sequence[str] = ()
        """Their ids."""
        self._state = state
        self._looks: dict[str, int] = {}
        self._legend = Text()

    def compose(self) -> ComposeResult:
        yield Static("", id="legend", markup=False)
        yield ChartGrid(self._state, id="compared")

    @property
    def grid(self) -> ChartGrid:
        return self.query_one(ChartGrid)

    def choose(self, runs: Sequence[str]) -> None:
        self.runs = runs

    def keep(self, there: Container[str]) -> bool:
        """Forget runs that were deleted; False: none is left."""
        self.runs = [id for id in self.runs if id in there]
        return bool(self.runs)

    def show(self, curves: "Sequence[RunCurves]", snapshot: Snapshot) -> None:
        if curves:
            from tui.chartview import looks

            # A run keeps its look as long as it is compared, whatever others come and go.
            kept = {id: look for id, look in self._looks.items() if id in set(self.runs)}
            self._looks = looks([run.id for run in curves], kept)
        legend = self._legend_of(curves, snapshot)
        if legend != self._legend:
            self._legend = legend
            self.query_one("#legend", Static).update(legend)
        self.grid.show(curves, self._looks)

    def _legend_of(self, curves: "Sequence[RunCurves]", snapshot: Snapshot) -> Text:
        """A line a run: its look and letter, its name, its best loss; in two columns if need be."""
        if not curves:
            return Text("reading the runs …", "#9e9e9e")
        from tui.chartview import look_of
        from tui.frame import charset_for

        sample = PLAIN if charset_for() == "ascii" else SAMPLE
        width = self.app.size.width - 2
        across = -(-len(curves) // LEGEND_LINES)
        if len(curves) > 3 and width >= 100:
            across = max(across, 2)
        room = width // across
        made = Text(no_wrap=True)
        for number, run in enumerate(curves):
            pinned = run.id == self._state.pinned
            colour, mark = look_of(self._looks.get(run.id, number))
            letter = chr(ord("a") + number) if number < 26 else " "
            style = "bold #ffffff" if pinned else SERIES_COLOURS[colour]
            line = Text(no_wrap=True, end="")
            line.append(f"{sample['solid' if pinned else mark]} {letter} ", style)
            row = snapshot.by_id.get(run.id) or run.detail.row
            told = f"  {row.state}, best {words.loss(row.best_eval_loss)}"
            told += ", baseline" if pinned else ""
            line.append(clip(run.name, max(8, room - line.cell_len - len(told) - 2)), "bold")
            line.append(told, "#9e9e9e")
            line.truncate(room - 1, pad=True)
            made.append_text(line)
            if (number + 1) % across == 0 and number + 1 < len(curves):
                made.append("\n")
        return made
