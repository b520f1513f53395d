"""Text of any length in a scrollable pane: wrapped by cells, drawn line by line.

Textual's Static lays out its whole text on the event loop; this widget wraps once a width, in a
thread where the text is long, and then draws the visible lines only. What it shows is plain: no
markup, nothing but what engine.text lets through.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from engine.text import steady

__all__ = [
    "ACCENT",
    "BAD",
    "BOLD",
    "GOOD",
    "PLAIN",
    "QUIET",
    "WARM",
    "Line",
    "LinesView",
    "Run",
    "hanging",
    "wrap",
]

PLAIN = Style.null()
BOLD = Style(bold=True)
QUIET = Style(color="#9e9e9e")
ACCENT = Style(color="#5fafff", bold=True)
GOOD = Style(color="#87d787")
WARM = Style(color="#ffaf5f")
BAD = Style(color="#ff8787", bold=True)
THUMB = Style(color="#5fafff")
RAIL = Style(color="#444444")

Run = tuple[str, Style]
"""A piece of one line or of several; outside text must have gone through engine.text."""

SHOWN_CHARACTERS = 400_000
"""Of one text at most this much is shown: wrapping that takes about 0.1 s."""
AT_ONCE = 20_000
"""Characters that are wrapped on the event loop, in at most 10 ms; more of them in a thread."""


class Line(list[Segment]):
    """A line that is not drawn yet.

    A Strip brings seven caches of its own: thousands of them are megabytes, and make the garbage
    collector stop the screen for 70 ms instead of 20.
    """

    __slots__ = ()

    @property
    def text(self) -> str:
        return "".join([segment.text for segment in self])

    @property
    def cell_length(self) -> int:
        return sum([cell_len(segment.text) for segment in self])

    def fitted(self, width: int) -> "Line":
        """The line cut or filled up to ``width`` cells."""
        left = width - self.cell_length
        if left < 0:
            return Line(Strip(self).crop_extend(0, width, None))
        return Line([*self, Segment(" " * left)]) if left else self


def wrap(runs: Iterable[Run], width: int) -> list[Line]:
    """Runs of text as lines of at most ``width`` cells, broken at spaces where there are some."""
    width = max(1, width)
    lines: list[Line] = []
    line: list[Run] = []

    def end() -> None:
        for piece in _fold(line, width):
            lines.append(Line([Segment(text, style) for text, style in piece]))
        line.clear()

    for text, style in runs:
        first, *rest = text.split("\n")
        if first:
            line.append((first, style))
        for part in rest:
            end()
            if part:
                line.append((part, style))
    end()
    return lines


def hanging(head: Sequence[Run], text: str, style: Style, width: int) -> list[Line]:
    """``head`` before the first line of ``text``; the lines after it are indented as far."""
    first = Line([Segment(part, look) for part, look in head])
    indent = first.cell_length
    if indent > width - 12:  # too narrow for a column of its own
        return wrap([*head, (text, style)], width)
    lines = wrap([(text, style)], width - indent)
    made = [Line([*first, *lines[0]])]
    return made + [Line([Segment(" " * indent), *line]) for line in lines[1:]]


def _fold(line: Sequence[Run], width: int) -> Iterable[list[Run]]:
    """One logical line, folded. Always gives at least one, maybe empty, line."""
    text = "".join(part for part, _ in line)
    ends = _breaks(text, width)
    if len(ends) == 1:
        yield list(line)
        return
    start, index, taken = 0, 0, 0
    for end in ends:
        piece: list[Run] = []
        while start < end:
            part, style = line[index]
            step = min(end - start, len(part) - taken)
            piece.append((part[taken : taken + step], style))
            start += step
            taken += step
            if taken == len(part):
                index, taken = index + 1, 0
        yield piece


def _breaks(text: str, width: int) -> list[int]:
    """Ends of the lines that ``text`` folds into; a space at an end stays on its line."""
    if len(text) <= width and text.isascii():
        return [len(text)]
    ends: list[int] = []
    start, size = 0, len(text)
    while start < size:
        plain = text[start : start + width].isascii()
        stop = min(size, start + width) if plain else _fitting(text, start, width)
        if stop < size:
            space = text.rfind(" ", start, stop + 1)
            if space > start:
                # The space may hang over the edge; drawing crops it.
                stop = space + 1
        stop = max(stop, start + 1)
        ends.append(stop)
        start = stop
    return ends or [0]


def _fitting(text: str, start: int, width: int) -> int:
    cells, index, size = 0, start, len(text)
    while index < size:
        cells += get_character_cell_size(text[index])
        if cells > width:
            return index
        index += 1
    return size


class LinesView(Widget, can_focus=True):
    """A scrollable pane of text. Give it runs with :meth:`show`, or a layout of your own.

    It scrolls by itself: Textual's ScrollView lays the whole screen out anew whenever the length of
    the text changes, 30 ms at 120x40, and a streamed answer changes ten times a second.
    """

    DEFAULT_CSS = "LinesView { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._layout_for: Callable[[int], list[Line]] = lambda width: []
        self._lines: list[Line] = []
        self._made_for = -1
        self._characters = 0
        self._to_end = False
        self._away = False
        """Somebody moved while the end was followed: it is no longer, until they go there."""
        self._wrapping = False
        self._grown: Run = "", PLAIN
        """The text whose lines are shown, while it grows."""
        self._look = PLAIN
        self.top = 0
        """The first line in sight."""

    @property
    def text_lines(self) -> list[str]:
        """The lines as they are wrapped now (for tests and for copying)."""
        return [line.text for line in self._lines]

    def show(self, runs: Iterable[Run] | str, *, follow: bool = False) -> None:
        """Show runs, or one outside text as it is.

        ``follow``: keep the end in sight, until somebody moves away from it.
        """
        pieces = [(steady(runs[:SHOWN_CHARACTERS]), PLAIN)] if isinstance(runs, str) else list(runs)
        if isinstance(runs, str) and len(runs) > SHOWN_CHARACTERS:
            left = len(runs) - SHOWN_CHARACTERS
            pieces.append((f"\n… {left:,} more characters are not shown", QUIET))
        if follow and len(pieces) == 1 and self._grow(*pieces[0]):
            return
        size = sum(len(text) for text, _ in pieces)
        self.show_layout(lambda width: wrap(pieces, width), follow=follow, size=size)
        if follow and len(pieces) == 1:
            self._grown = pieces[0]

    def _grow(self, text: str, style: Style) -> bool:
        """Lay out only what is new of a text that grew: all lines but its last one stay.

        Four streams of 14,000 characters took 20 ms a frame as a whole.
        """
        before, look = self._grown
        if not self._lines or not before or look != style or not text.startswith(before):
            return False
        if self._made_for != self.size.width - 1 or self._wrapping or self._away:
            return False
        self._grown, self._to_end = (text, style), True
        self._layout_for = lambda width: wrap([(text, style)], width)
        last = self._lines[-1].text
        self._put(
            [*self._lines[:-1], *wrap([(text[len(before) - len(last) :], style)], self._made_for)]
        )
        return True

    def show_layout(
        self, layout: Callable[[int], list[Line]], *, follow: bool = False, size: int = 0
    ) -> None:
        """Show what ``layout`` makes for a width in cells; called again when the width changes.

        ``size``: characters that it lays out; where they are many it is called in a thread.
        """
        self._away = self._away and follow
        self._grown = "", PLAIN
        self._layout_for, self._characters = layout, size
        self._to_end = follow and not self._away
        self._made_for = -1
        if size > AT_ONCE and not follow:
            self._put([])  # rather nothing than the text before this one
        self._make()

    def _make(self) -> None:
        width = self.size.width - 1  # the last cell is the scroll bar's
        if width > 0 and width != self._made_for:
            self._made_for = width
            if self._characters <= AT_ONCE:
                self._put(self._layout_for(width))
            elif not self._wrapping:
                self._wrapping = True
                self.run_worker(self._wrap_aside, group="wrap")
        if not self._to_end:
            self.top = min(self.top, self._last_top)

    async def _wrap_aside(self) -> None:
        """One layout at a time; of those wanted meanwhile only the last one is made."""
        try:
            made: object = None
            while self._characters > AT_ONCE and made != (self._layout_for, self._made_for):
                made = layout, width = self._layout_for, self._made_for
                lines = await asyncio.to_thread(layout, width)
                if self._to_end or made == (self._layout_for, self._made_for):
                    self._put(lines)
        finally:
            self._wrapping = False

    def _put(self, lines: list[Line]) -> None:
        before, top, height = self._lines, self.top, self.size.height
        self._lines = lines
        if not self._to_end:
            self.top = min(self.top, self._last_top)
        elif len(lines) - self.top > height:
            # By half a pane at once: a line at a time, four streams of text were 250 kB a second.
            self.top = max(0, len(lines) - height + height // 2)
        else:
            self.top = min(self.top, max(0, len(lines) - 1))
        if self.top != top or (max(len(before), len(lines)) > height and not self._to_end):
            self.refresh()
            return
        # Of a text that grows, and has room, one line is another one.
        for y in range(height):
            at = top + y
            if before[at : at + 1] != lines[at : at + 1]:
                self.refresh(Region(0, y, self.size.width, 1))

    def on_resize(self, event: events.Resize) -> None:
        self._make()

    # --- scrolling

    @property
    def _last_top(self) -> int:
        return max(0, len(self._lines) - self.size.height)

    def go(self, top: int) -> None:
        """Put line ``top`` (counted from 0) first, as far as there is text for it."""
        if self._to_end:
            self._to_end, self._away = False, True
            self.refresh()  # the scroll bar
        top = max(0, min(top, self._last_top))
        if top != self.top:
            self.top = top
            self.refresh()

    def action_scroll_up(self) -> None:
        self.go(self.top - 1)

    def action_scroll_down(self) -> None:
        self.go(self.top + 1)

    def action_page_up(self) -> None:
        self.go(self.top - max(1, self.size.height - 1))

    def action_page_down(self) -> None:
        self.go(self.top + max(1, self.size.height - 1))

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.go(self._last_top)
        self._away = False

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.go(self.top + 3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.go(self.top - 3)
        event.stop()

    # --- drawing

    def render_lines(self, crop: Region) -> list[Strip]:
        self._look = self.rich_style  # 0.1 ms: once a repaint, not once a line
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        base = self._look
        index = self.top + y
        # None while the end is followed: it would move with every line.
        bar = scroll_bar(y, self.top, height, 0 if self._to_end else len(self._lines))
        if index >= len(self._lines):
            return Strip([Segment(" " * (width - 1)), bar]).apply_style(base)
        strip = Strip(self._lines[index]).crop_extend(0, width - 1, None)
        return Strip([*strip, bar]).apply_style(base)


def scroll_bar(y: int, top: int, height: int, count: int) -> Segment:
    """One cell of a scroll bar for ``count`` lines; blank when all of them are in sight."""
    if count <= height or height <= 0:
        return Segment(" ")
    thumb = max(1, round(height * height / count))
    start = round(top / (count - height) * (height - thumb))
    return Segment("┃", THUMB) if start <= y < start + thumb else Segment("│", RAIL)
