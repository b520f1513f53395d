"""One sweep whole: its runs by their best validation loss, their curves, and its parameters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from engine.history.parallel import metrics_of
from engine.history.queries import sweep_values
from engine.text import clip
from tui import words
from tui.chartset import ChartSet
from tui.chartstate import ChartState
from tui.comparison import as_lines
from tui.sweepwords import short_keys, states_words, value_words, values_words
from tui.theme import SERIES_COLOURS, STATES
from tui.widgets.chart import PLAIN, SAMPLE, Chart
from tui.widgets.cursortable import Column
from tui.widgets.lines import Line, LinesView
from tui.widgets.rows import Cell, Rows
from tui.widgets.runpages import view_line

if TYPE_CHECKING:
    from engine.history.queries import SweepRow
    from engine.history.row import RunRow
    from tui.curvebook import RunCurves

__all__ = ["CURVES", "SweepPage", "drawn"]

CURVES = 6
"""So many runs are drawn, the best ones."""
VIEWS = ("validation", "train", "values", "chart")
"""Below the table: two charts of curves, then the sweep by its parameters."""
LETTERS = 26
ROWS = 12
"""The table shows at most so many runs at once; it scrolls."""


def drawn(sweep: "SweepRow") -> tuple["RunRow", ...]:
    """The runs whose curves are drawn."""
    return sweep.runs[:CURVES]


class SweepPage(Vertical):
    """The screen's keys move the table's cursor; :attr:`row` is the run that it is on."""

    DEFAULT_CSS = """
    SweepPage #told, SweepPage #curve-views { height: 1; padding: 0 1; }
    SweepPage #curve-views { padding: 0; }
    """

    def __init__(self, state: ChartState, *, id: str) -> None:
        super().__init__(id=id)
        self.view = 0
        self.set = ChartSet(state)
        self._sweep: SweepRow | None = None
        self._chosen: str | None = None
        """The run on which the cursor stays."""
        self._parameter = 0
        self._metric = 0
        self._text: list[Line] = []
        self._title = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="told", markup=False)
        yield Rows(id="points", classes="pane", empty="no run is left")
        yield Static("", id="curve-views", markup=False)
        yield Chart("validation loss", id="losses")
        yield LinesView(id="parameters", classes="pane")

    @property
    def table(self) -> Rows:
        return self.query_one("#points", Rows)

    @property
    def row(self) -> "RunRow | None":
        """The run under the cursor."""
        runs, at = self._sweep.runs if self._sweep else (), self.table.cursor
        return runs[at] if at < len(runs) else None

    def turn(self, by: int) -> None:
        self.view = (self.view + by) % len(VIEWS)

    @property
    def shows_curves(self) -> bool:
        return self.view < VIEWS.index("values")

    def may_choose(self, what: str) -> bool:
        """Whether ``parameter`` or ``metric`` decides on what is shown."""
        if self._sweep is None or self.shows_curves:
            return False
        many = self._sweep.keys if VIEWS[self.view] == "chart" else ()
        return len(many if what == "parameter" else metrics_of(self._sweep.runs)) > 1

    def next_parameter(self) -> None:
        self._parameter += 1

    def next_metric(self) -> None:
        self._metric += 1

    def show(self, sweep: "SweepRow", curves: "Sequence[RunCurves]") -> None:
        """``curves``: of the runs that are :func:`drawn`, as far as they are known yet."""
        if self._sweep is None or self._sweep.id != sweep.id:
            self._chosen = None
            self._parameter = self._metric = 0
        elif row := self.row:
            self._chosen = row.id  # whatever becomes of the order
        self._sweep = sweep
        # The app's size: this page has none before it is first shown.
        width, height = self.app.size
        self.query_one("#told", Static).update(_told(sweep, width - 2))
        self.query_one("#curve-views", Static).update(view_line(VIEWS, self.view))
        self._show_table(sweep, width, height)
        self._put(self.query_one("#losses", Chart), self.shows_curves)
        self._put(self.query_one("#parameters", LinesView), not self.shows_curves)
        if self.shows_curves:
            self._show_curves(sweep, curves)
        else:
            self._show_parameters(sweep, height)

    @staticmethod
    def _put(widget: Widget, shown: bool) -> None:
        if widget.display != shown:
            widget.display = shown

    # --- the table

    def _show_table(self, sweep: "SweepRow", width: int, height: int) -> None:
        table = self.table
        room = max(4, min(ROWS, height // 2 - (4 if self.shows_curves else 6)))
        lines = min(len(sweep.runs), room) + 3
        if table.styles.height is None or table.styles.height.value != lines:
            table.styles.height = lines
        columns, keys = _columns(sweep, width)
        sample = PLAIN if _charset() == "ascii" else SAMPLE

        def cells(index: int) -> list[Cell]:
            row = sweep.runs[index]
            mark = _mark(index, sample) if self.shows_curves else _letter(index)
            return [mark, *_cells(row, keys), row.name]

        at = next((i for i, one in enumerate(sweep.runs) if one.id == self._chosen), 0)
        table.show(columns, len(sweep.runs), cells, cursor=at)
        if table.border_title is None or str(table.border_title) != "by best validation loss":
            table.border_title = "by best validation loss"

    # --- the curves

    def _show_curves(self, sweep: "SweepRow", curves: "Sequence[RunCurves]") -> None:
        chart = self.query_one("#losses", Chart)
        if not curves:
            chart.show((), "none")
            return
        from tui.metrics import LOSS, VALIDATION_LOSS

        metric = (VALIDATION_LOSS, LOSS)[self.view]
        more = len(sweep.runs) - CURVES
        title = f"{VIEWS[self.view]} loss" + (f" of the best {CURVES}" if more > 0 else "")
        if self.view and (weight := self.set.state.smoothing(self.set.points)):
            title += f", smoothed {weight:g}"
        looks = {row.id: number for number, row in enumerate(drawn(sweep))}
        names = {row.id: values_words(row, sweep.keys) or row.name for row in drawn(sweep)}
        self.set.show(curves, [(chart, replace(metric, title=title))], looks, names)

    # --- the sweep by its parameters

    def _show_parameters(self, sweep: "SweepRow", height: int) -> None:
        """Only what the rows tell: some ms, also of a thousand runs."""
        from engine.commands.parallel_words import parallel_lines, scatter_lines
        from engine.history.compare import measure, yardstick

        pane = self.query_one("#parameters", LinesView)
        names = metrics_of(sweep.runs)
        metric = names[self._metric % len(names)] if names else "best_eval_loss"
        keys = sweep.keys or ("",)
        key = keys[self._parameter % len(keys)]
        judged = yardstick(sweep.runs)
        table = self.table.styles.height
        lines = height - 6 - int(table.value if table else 0)
        plain = _charset() == "ascii"

        def layout(width: int) -> list[Line]:
            if VIEWS[self.view] == "values":
                made = parallel_lines(sweep.runs, metric, judged, width)
                made += [(f"! {words}", "head") for words in judged.words]
                return as_lines(made)
            chart = scatter_lines(
                *(sweep.runs, key, metric, width, lines), ascii=plain, with_key=False
            )
            return as_lines([(line, "plain") for line in chart])

        title = (
            f"{measure(metric).label} by {key}"
            if VIEWS[self.view] == "chart"
            else "the best of each value, * leads"
        )
        if self._title != title:
            self._title = title
            pane.border_title = Text(title)  # a key is outside text: no markup
        hint = "P parameter · m metric" if VIEWS[self.view] == "chart" else "m metric"
        if pane.border_subtitle != hint:
            pane.border_subtitle = hint
        made = layout(self.app.size.width - 3)
        if made != self._text:
            self._text = made
            pane.show_layout(layout)


def _charset() -> str:
    from tui.raster import charset_for

    return charset_for()


def _mark(index: int, sample: dict[str, str]) -> Cell:
    """How the run's curve looks: the legend stands in the table, where there is room for it."""
    from tui.chartview import look_of

    if index >= CURVES:
        return ""
    colour, mark = look_of(index)
    return f"{sample[mark]} {chr(ord('a') + index)}", SERIES_COLOURS[colour]


def _letter(index: int) -> Cell:
    """By which the run is found in the chart of a parameter."""
    from engine.commands.side_tables import letter

    return f"  {letter(index)}" if index < LETTERS else ""


def _told(sweep: "SweepRow", width: int) -> Text:
    best = sweep.best
    line = Text(no_wrap=True, end="")
    line.append(clip(sweep.id, max(8, width // 3)), "bold")
    line.append(f"  sweep of {len(sweep.runs)}: {states_words(sweep)}", "#9e9e9e")
    if best:
        line.append("  best ", "#9e9e9e")
        line.append(words.loss(best.best_eval_loss), "bold")
        line.append(f" {clip(values_words(best, sweep.keys), max(0, width - line.cell_len - 1))}")
    return line


def _columns(sweep: "SweepRow", width: int) -> tuple[list[Column], tuple[str, ...]]:
    """The columns, and the keys that have one: as many as fit."""
    short = short_keys(sweep.keys)
    room = width - 4 - 4 - 3 - 9 - 9 - 12 - 11 - 12
    keys: list[str] = []
    columns: list[Column] = []
    for key in sweep.keys:
        longest = max(cell_len(value_words(_of(row, key))) for row in sweep.runs)
        size = max(5, min(20, max(longest, cell_len(short[key]))))
        if size + 1 > room and columns:
            break
        room -= size + 1
        keys.append(key)
        columns.append(Column(clip(short[key], size), size, True))
    fixed = [
        Column("best val", 8, True),
        Column("train", 8, True),
        Column("step", 11, True),
        Column("state", 10),
        Column("run"),
    ]
    return [Column("", 4), *columns, *fixed], tuple(keys)


def _of(row: "RunRow", key: str) -> Any:
    return sweep_values(row).get(key, words.NOTHING)


def _cells(row: "RunRow", keys: tuple[str, ...]) -> list[Cell]:
    symbol, colour = STATES.get(row.state, ("?", ""))
    last = words.number(row.max_steps) if row.max_steps else "?"
    step = words.NOTHING if row.step is None else f"{words.number(row.step)}/{last}"
    return [
        *(value_words(_of(row, key)) for key in keys),
        words.loss(row.best_eval_loss),
        words.loss(row.loss),
        step,
        (f"{symbol} {row.state}", colour),
    ]
