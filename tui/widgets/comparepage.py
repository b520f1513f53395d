"""Several runs compared, in pages that turn: curves, metrics, differences, samples, votes."""

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from engine.text import clip, safe_line
from tui import words
from tui.chartstate import ChartState
from tui.comparison import Comparison, as_lines, read
from tui.feed import Snapshot
from tui.theme import SERIES_COLOURS
from tui.widgets.chart import PLAIN, SAMPLE
from tui.widgets.chartgrid import ChartGrid
from tui.widgets.lines import QUIET, LinesView
from tui.widgets.runpages import view_line

if TYPE_CHECKING:
    from engine.commands.side_tables import Lines
    from engine.history.row import RunRow
    from tui.app import WorkbenchApp
    from tui.curvebook import RunCurves

__all__ = ["VIEWS", "ComparePage"]

VIEWS = ("curves", "metrics", "differences", "samples", "votes")
LEGEND_LINES = 6

Layout = Callable[[int], "Lines"]
"""Width in cells -> what is shown."""


def _title(view: str, found: Comparison | None) -> str:
    if view == "differences" and found is not None and found.why is not None:
        return "differences, ranked; not causes"
    return {
        "metrics": "metrics, the best marked *",
        "differences": "only what differs",
        "samples": "the last answers to the fixed prompts",
        "votes": "votes between them",
    }[view]


def _layout(view: str, rows: "Sequence[RunRow]", found: Comparison | None) -> Layout:
    from engine.commands import difference_words, side_tables
    from engine.history.compare import yardstick

    if view == "metrics":
        judged = found.judged if found else yardstick(rows)
        evaluations = found.evaluations if found else []

        def metrics(width: int) -> "Lines":
            made = side_tables.metric_lines(rows, judged, width, with_legend=False)
            if evaluations:
                made += [("", "plain"), *side_tables.evaluation_lines(evaluations, rows, width)]
            return made

        return metrics
    assert found is not None
    if view == "differences" and found.why is not None:
        explained = found.why
        return lambda width: difference_words.why_lines(explained, width)
    if view == "differences":
        differences = found.differences
        return lambda width: difference_words.difference_lines(
            differences, width, with_legend=False
        )
    if view == "samples":
        nothing = "no run has answered a prompt while it trained (evaluate.sample_rows)"
        return lambda width: side_tables.sample_lines(found.samples, width) or [(nothing, "quiet")]
    return lambda width: side_tables.vote_lines(found.votes, found.runs, width)


class ComparePage(Vertical):
    """The screen's keys choose the runs, turn the pages and say how the charts are looked at."""

    DEFAULT_CSS = """
    ComparePage #legend { height: auto; padding: 0 1; }
    ComparePage #compare-views { height: 1; }
    ComparePage #compare-pages { height: 1fr; }
    """

    def __init__(self, state: ChartState, *, id: str) -> None:
        super().__init__(id=id)
        self.runs: Sequence[str] = ()
        """Their ids."""
        self.view = 0
        self._state = state
        self._looks: dict[str, int] = {}
        self._legend = Text()
        self._turns = 0
        self._wanted: tuple[object, ...] = ()
        """What :attr:`_found` was, or is being read for."""
        self._found: Comparison | None = None
        self._problem = ""
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static("", id="legend", markup=False)
        yield Static("", id="compare-views", markup=False)
        with ContentSwitcher(initial="compared", id="compare-pages"):
            yield ChartGrid(self._state, id="compared")
            for view in VIEWS[1:]:
                yield LinesView(id=f"compare-{view}", classes="pane")

    @property
    def grid(self) -> ChartGrid:
        return self.query_one(ChartGrid)

    @property
    def shows_curves(self) -> bool:
        return VIEWS[self.view] == "curves"

    @property
    def page(self) -> Widget | None:
        """What scrolls on the page that is shown; None: the charts."""
        return None if self.shows_curves else self._pane

    @property
    def _pane(self) -> LinesView:
        return self.query_one(f"#compare-{VIEWS[self.view]}", LinesView)

    def choose(self, runs: Sequence[str]) -> None:
        """Compare these from now on, their curves first."""
        self.runs, self.view = runs, 0
        self._wanted, self._found = (), None

    def turn(self, by: int) -> None:
        self.view = (self.view + by) % len(VIEWS)
        self._turns += 1  # votes may have been given meanwhile

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
        self.query_one("#compare-views", Static).update(view_line(VIEWS, self.view))
        switcher = self.query_one("#compare-pages", ContentSwitcher)
        switcher.current = "compared" if self.shows_curves else self._pane.id
        if self.shows_curves:
            self.grid.show(curves, self._looks)
        else:
            self._show_text(snapshot)

    # --- pages of text

    def _show_text(self, snapshot: Snapshot) -> None:
        rows = [snapshot.by_id[id] for id in self.runs if id in snapshot.by_id]
        details = [snapshot.details.get(row.id) for row in rows]
        wanted = (
            self._turns,
            *((row.id, row.name, row.state, row.attempt, row.best_eval_loss) for row in rows),
            *(len(one.samples) if one else 0 for one in details),
        )
        if wanted != self._wanted:
            self._wanted, self._problem = wanted, ""
            self._read(wanted, rows)
        found = self._found
        view, shown = VIEWS[self.view], (self.view, rows if self.view == 1 else None, found)
        if (shown, self._problem) == self._shown:
            return
        self._shown = shown, self._problem
        pane = self._pane
        pane.border_title = _title(view, found)
        if self._problem:
            pane.show([(self._problem, QUIET)])
        elif found is None and view != "metrics":
            pane.show([("reading the history …", QUIET)])
        else:
            layout = _layout(view, rows, found)
            pane.show_layout(lambda width: as_lines(layout(width)))

    @work(thread=True, group="compared", exclusive=True, exit_on_error=False)
    def _read(self, wanted: tuple[object, ...], rows: "Sequence[RunRow]") -> None:
        try:
            found, problem = read(cast("WorkbenchApp", self.app).home, rows), ""
        except Exception as error:  # a locked or broken store: the next turn tries again
            found, problem = None, safe_line(f"The history cannot be read: {error}")[:400]
        self.app.call_from_thread(self._take, wanted, found, problem)

    def _take(self, wanted: tuple[object, ...], found: Comparison | None, problem: str) -> None:
        if wanted != self._wanted:
            return
        self._found, self._problem = found or self._found, problem
        if not self.shows_curves:
            self._show_text(cast("WorkbenchApp", self.app).snapshot)

    # --- the legend

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
