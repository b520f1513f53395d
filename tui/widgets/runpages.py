"""One run whole: its state, and pages that turn: curves, numbers, samples, events, recipe, log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from engine.jobs.folder import RunFolder
from engine.text import safe
from tui.chartstate import ChartState
from tui.feed import RunDetail, Snapshot
from tui.runwords import event_runs, kin_of, number_runs, sample_runs
from tui.widgets.chartgrid import ChartGrid
from tui.widgets.lines import PLAIN, LinesView, Run
from tui.widgets.logpage import LogPage
from tui.widgets.runstate import RunState

if TYPE_CHECKING:
    from tui.app import WorkbenchApp
    from tui.curvebook import RunCurves

__all__ = ["VIEWS", "RunPages", "view_line"]

VIEWS = ("curves", "numbers", "samples", "events", "recipe", "log")


def view_line(views: tuple[str, ...], shown: int) -> Text:
    """The names of the views, the one that is shown marked."""
    line = Text(" ", no_wrap=True)
    for index, view in enumerate(views):
        line.append(
            f"[{view}]" if index == shown else f" {view} ",
            "bold reverse" if index == shown else "#9e9e9e",
        )
    line.append("   [ ] turn the page   esc back", "#9e9e9e")
    return line


class RunPages(Vertical):
    """Shows what :meth:`show` hands it; the screen's keys call the rest."""

    DEFAULT_CSS = """
    RunPages #views { height: 1; }
    """

    def __init__(self, state: ChartState, *, id: str) -> None:
        super().__init__(id=id)
        self.view = 0
        self._chart_state = state

    def compose(self) -> ComposeResult:
        yield RunState(id="state")
        yield Static("", id="views", markup=False)
        with ContentSwitcher(initial="curves", id="pages"):
            yield ChartGrid(self._chart_state, id="curves")
            yield LinesView(id="numbers", classes="pane")
            yield LinesView(id="samples", classes="pane")
            yield LinesView(id="events", classes="pane")
            yield LinesView(id="recipe", classes="pane")
            yield LogPage(id="log")

    def on_mount(self) -> None:
        for id in VIEWS[1:-1]:
            title = "recipe.toml" if id == "recipe" else id
            self.query_one(f"#{id}").border_title = title

    @property
    def shows_curves(self) -> bool:
        return VIEWS[self.view] == "curves"

    @property
    def page(self) -> Widget | None:
        """What scrolls on the page that is shown."""
        if self.shows_curves:
            return None
        return self.log_page.view if self.shows_log else self.query_one(f"#{VIEWS[self.view]}")

    @property
    def grid(self) -> ChartGrid:
        return self.query_one(ChartGrid)

    @property
    def shows_log(self) -> bool:
        return VIEWS[self.view] == "log"

    @property
    def log_page(self) -> LogPage:
        return self.query_one(LogPage)

    def turn(self, by: int) -> None:
        self.view = (self.view + by) % len(VIEWS)

    def show(
        self, detail: RunDetail, snapshot: Snapshot, now: float, curves: "Sequence[RunCurves]"
    ) -> None:
        """``curves``: of the run, and of the baseline; empty before it has any."""
        self.query_one("#state", RunState).show(detail, now)
        self.query_one("#views", Static).update(view_line(VIEWS, self.view))
        view = VIEWS[self.view]
        self.query_one("#pages", ContentSwitcher).current = view
        if view == "curves":
            self.grid.show(curves)
        elif view == "log":
            home = cast("WorkbenchApp", self.app).home
            self.log_page.open(RunFolder(home.runs / detail.row.id).log)
        elif view == "numbers":
            self._put(view, number_runs(detail, kin_of(detail.row, snapshot)))
        elif view == "samples":
            self._put(view, sample_runs(detail))
        elif view == "events":
            self._put(view, event_runs(detail))
        else:
            self._put(view, [(safe(detail.recipe[:200_000]) or "no recipe.toml", PLAIN)])

    def _put(self, id: str, runs: list[Run]) -> None:
        view = self.query_one(f"#{id}", LinesView)
        if getattr(view, "shown_runs", None) != runs:
            view.shown_runs = runs  # type: ignore[attr-defined]
            view.show(runs)
