"""A table of live rows that draws what is in sight and nothing else: any number costs the same.

Textual's DataTable measures every cell it is given (3 s for 10,000 rows); here widths are fixed and
cells are cut by terminal cells when their row is drawn.
"""

from collections.abc import Callable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip

from engine.text import clip
from tui.widgets.cursortable import MARKED, UNFOCUSED, Column, CursorTable

__all__ = ["Cell", "Rows"]

Cell = str | tuple[str, str]
"""Outside text or ours, or (text, colour); always cut and made safe by the table."""


class Rows(CursorTable):
    """Rows drawn on demand; one column may have width 0: what the others leave.

    The last cell of a row with fewer cells than columns takes the rest of the line.
    """

    CLICKS = 2

    DEFAULT_CSS = "Rows { height: 1fr; min-height: 2; }"

    def __init__(self, *, id: str, classes: str, empty: str = "nothing here yet") -> None:
        super().__init__(id=id, classes=classes)
        self._row: Callable[[int], Sequence[Cell]] = lambda index: ()
        self._empty = empty
        self._sent: dict[int, list[Cell]] = {}
        """Line on the screen -> the cells that it shows."""

    def show(
        self,
        columns: Sequence[Column],
        count: int,
        row: Callable[[int], Sequence[Cell]],
        *,
        cursor: int | None = None,
        empty: str | None = None,
    ) -> None:
        """``row(index)`` gives the cells of one row and is asked only for visible ones."""
        before = (self.columns, self.count, self.cursor, self.top, self._empty)
        self.columns, self.count, self._row = columns, count, row
        if empty is not None:
            self._empty = empty
        self.cursor = min(max(0, self.cursor if cursor is None else cursor), max(0, count - 1))
        self.keep_in_sight()
        if before != (self.columns, self.count, self.cursor, self.top, self._empty):
            self.refresh()
            return
        # Only rows that read differently are sent: one live run of 36 in sight, not all of them.
        changed = [
            Region(0, y, self.size.width, 1)
            for y, cells in self._sent.items()
            if self.top + y - 1 < count and list(row(self.top + y - 1)) != cells
        ]
        if changed:
            self.refresh(*changed)

    def on_resize(self, event: events.Resize) -> None:
        self._sent.clear()

    def _widths(self, width: int) -> list[int]:
        fixed = 2 + sum(column.width + 1 for column in self.columns)
        widths = []
        for column in self.columns:
            widths.append(column.width or max(0, width - fixed))
        return widths

    def _line(
        self, cells: Sequence[Cell], width: int, style: Style, plain: bool, mark: str = "  "
    ) -> Strip:
        segments = [Segment(mark, style)]
        widths = self._widths(width)
        if 0 < len(cells) < len(widths):  # the last one has the room of those that are not there
            last = len(cells) - 1
            widths[last] = sum(widths[last:]) + len(widths) - len(cells)
        for index, (column, cell_width, cell) in enumerate(
            zip(self.columns, widths, cells, strict=False)
        ):
            right = column.right and (index < len(cells) - 1 or len(cells) == len(widths))
            text, colour = cell if isinstance(cell, tuple) else (cell, "")
            text = clip(text, cell_width)
            pad = max(0, cell_width - cell_len(text))
            text = " " * pad + text if right else text + " " * pad
            look = style if plain or not colour else style + Style(color=colour)
            segments += [Segment(text, look), Segment(" ", style)]
        return Strip(segments).adjust_cell_length(width, style)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if y == 0:
            return self._line([c.title for c in self.columns], width, base + Style(bold=True), True)
        index = self.top + y - 1
        if not self.count and y == 2:
            text = set_cell_size(f" {self._empty}", width)
            return Strip([Segment(text, base)])
        if index >= self.count:
            return Strip.blank(width, base)
        cells = self._sent[y] = list(self._row(index))
        if index == self.cursor:  # the mark before it is seen without colour too
            look = MARKED if self.has_focus else UNFOCUSED
            return self._line(cells, width, base + look, True, "› ")
        return self._line(cells, width, base, False)
