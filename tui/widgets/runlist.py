"""The history as a table of runs and sweeps: filter, order, and what is open."""

from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from tui.feed import Snapshot
from tui.runtable import ORDERS, Group, cells, columns, key_of, lines
from tui.widgets.field import PlainInput
from tui.widgets.rows import Rows

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["RunList"]


class RunList(Vertical):
    """Shows a snapshot's runs; the screen's keys call the rest and show again."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.filter = ""
        self._order = ORDERS[0]
        self._lines: list[RunRow | Group] = []
        self._key: tuple[str, str] | None = None
        """Of the line that the cursor is on."""
        self.line: RunRow | Group | None = None
        """That line itself: asked for with every key, by every action."""
        self._unfolded: set[str] = set()
        self.marked: list[str] = []
        """Ids of the runs that are to be compared, in the order of their marking."""
        self._titles = ("", "")

    def compose(self) -> ComposeResult:
        with Horizontal(id="filter"):
            yield Static("filter ", markup=False)
            yield PlainInput(
                id="wanted", placeholder="words of name, state, model, dataset, sweep, tag"
            )
        yield Rows(id="table", classes="pane")

    @property
    def table(self) -> Rows:
        return self.query_one("#table", Rows)

    @property
    def filtering(self) -> bool:
        """The filter is being written."""
        focused = self.screen.focused
        return focused is not None and focused.id == "wanted"

    def show(self, snapshot: Snapshot, width: int, now: float, pinned: str | None = None) -> None:
        """``width``: of the screen, which decides on the columns; ``pinned``: the baseline."""
        self.marked = [id for id in self.marked if id in snapshot.by_id]
        signs = dict.fromkeys(self.marked, "▪") | ({pinned: "★"} if pinned else {})
        self._lines = lines(snapshot, self.filter, self._order, self._unfolded)
        table = self.table
        at = next((i for i, line in enumerate(self._lines) if key_of(line) == self._key), None)
        if at is None:
            at = min(table.cursor, max(0, len(self._lines) - 1))
            self._key = key_of(self._lines[at]) if self._lines else None
        self.line = self._lines[at] if self._lines else None
        table.show(
            columns(width, bool(signs)),
            len(self._lines),
            lambda index: cells(self._lines[index], width, now, signs),
            cursor=at,
            empty="no run matches",
        )
        self._show_titles(len(snapshot.rows))
        self.query_one("#filter").display = bool(self.filter) or self.filtering

    def _show_titles(self, total: int) -> None:
        shown = str(total)
        if self.filter:
            heads = [line for line in self._lines if isinstance(line, Group) or not line.sweep]
            count = sum(len(x.shown) if isinstance(x, Group) else 1 for x in heads)
            shown = f"{count} of {total}"
        order = {"created": "newest first", "best": "best validation first"}.get(
            self._order, f"by {self._order}"
        )
        if (shown, order) != self._titles:  # setting a title repaints the whole table
            self._titles = (shown, order)
            self.table.border_title = Text(f"Runs  {shown}")
            self.table.border_subtitle = Text(order)

    def moved(self, index: int) -> None:
        if index < len(self._lines):
            self.line = self._lines[index]
            self._key = key_of(self.line)

    def mark(self) -> None:
        """Mark the run under the cursor, or no longer; the next line gets the cursor."""
        line = self.line
        if line is None or isinstance(line, Group):
            return
        if line.id in self.marked:
            self.marked.remove(line.id)
        else:
            self.marked.append(line.id)
        self.moved(self.table.cursor + 1)

    # --- sweeps

    @property
    def sweep(self) -> str | None:
        """The sweep that the cursor is on or in."""
        line = self.line
        return line.sweep.id if isinstance(line, Group) else line.sweep if line else None

    def fold(self, opened: bool | None = None) -> None:
        """Open or close that sweep; None: the other way round. The cursor stays on it."""
        line, id = self.line, self.sweep
        if id is None:
            return
        if opened is None:
            opened = isinstance(line, Group) and not line.opened
        if not opened:
            self._unfolded.discard(id)
            self._key = ("sweep", id)
        elif isinstance(line, Group):
            self._unfolded.add(id)

    # --- filter and order

    def find(self) -> None:
        self.query_one("#filter").display = True
        self.screen.set_focus(self.query_one("#wanted", Input))

    def clear(self) -> None:
        self.query_one("#wanted", Input).value = ""

    def on_input_changed(self, event: Input.Changed) -> None:
        self.filter = event.value

    def next_order(self) -> None:
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
