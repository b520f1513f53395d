"""Draws a log of any size line by line, and says where in it one is."""

from functools import partial

from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.strip import Strip

from engine.jobs.loglevels import Level
from engine.jobs.logsearch import Needle
from engine.text import clip
from tui.widgets.lines import PLAIN, QUIET, scroll_bar
from tui.widgets.logreader import LogReader
from tui.widgets.logrows import GUTTER

__all__ = ["FILTERS", "LogView"]

FILTERS = {
    Level.NONE: "",
    Level.WARNING: "warnings and errors",
    Level.ERROR: "errors",
}
THUMBS = 1_000
"""Steps of the scroll bar, which goes by bytes: lines are not counted when it is drawn."""


class LogView(LogReader):
    """One row a line, or wrapped; level by letter and colour; what is looked for is marked."""

    DEFAULT_CSS = "LogView { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._seen: list[list[Segment]] = []
        self._look = PLAIN
        self._thumb = (0, 0, 0)

    # --- words

    @property
    def words(self) -> str:
        """Where one is, and whether what is written now is shown."""
        scan = self.scan
        if scan is not None and self.level and scan.at:
            return f"{self._done(scan.at, scan.size)} looked through · esc stops"
        if self.note:
            return self.note
        if self.following:
            return "following"
        told = f"paused, {self.new_lines:,} new lines" if self.new_lines else "paused"
        return f"{self._place()} · {told} · G follows"

    def _done(self, at: int, size: int) -> str:
        """A scan goes to the file's beginning, or to its end from where one is."""
        return f"{100 - 100 * at // size if self.following else 100 * at // size} %"

    def _place(self) -> str:
        first = self.rows.first
        if first is None or self.file is None:
            return ""
        if self.number is not None and self.count and not self.level:
            return f"line {self.number + self.rows.top + 1:,} of {self.count:,}"
        return f"{100 * first.start // max(1, self.file.size)} %"

    def _nothing(self) -> str:
        if self.error:
            return self.error
        if not self.loaded:
            return "" if not self.level else "looking through the log …"
        if self.level:
            return f"no {FILTERS[self.level]} in this log"
        return "nothing written yet"

    # --- what keys do

    def next_level(self) -> None:
        """All lines, warnings and worse, errors only; where one is stays."""
        order = list(FILTERS)
        self.level = order[(order.index(self.level) + 1) % len(order)]
        first, self.loaded = self.rows.first, False
        if self.following or first is None:
            self._put([], False)
            self.go_last()
        else:
            self._start(partial(self._read_around, first.start))

    def look_for(self, needle: Needle | None) -> None:
        """Mark this text wherever it is in sight."""
        self.rows.needle, self.rows.hit = needle, -1
        self._remake()

    def wrap(self) -> None:
        """Long lines in several rows, or cut at the edge."""
        self.rows.wrapped = not self.rows.wrapped
        self.rows.left = 0
        self._remake()

    def _remake(self) -> None:
        self.rows.remake()
        if self.following:
            self.rows.to_last()
        self.refresh()

    def action_scroll_up(self) -> None:
        self.scroll_rows(-1)

    def action_scroll_down(self) -> None:
        self.scroll_rows(1)

    def action_page_up(self) -> None:
        self.scroll_rows(1 - max(2, self.size.height))

    def action_page_down(self) -> None:
        self.scroll_rows(max(2, self.size.height) - 1)

    def action_first(self) -> None:
        self.go_first()

    def action_last(self) -> None:
        self.go_last()

    def action_scroll_left(self) -> None:
        self._pan(-1)

    def action_scroll_right(self) -> None:
        self._pan(1)

    def _pan(self, way: int) -> None:
        """Half a screen sideways, as far as the lines in sight are wide."""
        rows, room = self.rows, self.size.width - GUTTER - 1
        if rows.wrapped:
            return
        most = max(rows.left if way < 0 else 0, rows.widest - room)
        left = max(0, min(rows.left + way * (room // 2), most))
        if left != rows.left:
            rows.left = left
            rows.remake()
            self.refresh()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.scroll_rows(3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.scroll_rows(-3)
        event.stop()

    def on_resize(self, event: events.Resize) -> None:
        self.rows.resize(self.size.width - 1, self.size.height)
        self._remake()

    # --- drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        self._look = self.rich_style
        self._seen = [row for _, row in self.rows.seen()]
        self._thumb = self._thumb_now()
        return super().render_lines(crop)

    def _thumb_now(self) -> tuple[int, int, int]:
        """(top, height, count) for the scroll bar."""
        rows, size = self.rows, self.file.size if self.file is not None else 0
        first = rows.first
        if first is None or not size or (len(self._seen) < rows.height and not first.start):
            return 0, 1, 0
        count = max(THUMBS, 2 * rows.height)
        top = count - rows.height
        if not (self.following and rows.at_last):
            top = top * first.start // size
        return top, rows.height, count

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        row: list[Segment] = self._seen[y] if y < len(self._seen) else []
        if not self._seen and y == min(1, self.size.height - 1):
            row = [Segment(clip(self._nothing(), width - 2), QUIET)]
        strip = Strip(row).crop_extend(0, width - 1, None)
        return Strip([*strip, scroll_bar(y, *self._thumb)]).apply_style(self._look)
