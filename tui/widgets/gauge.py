"""Bars for memory and utilisation; the numbers stand beside them."""

from dataclasses import dataclass, replace
from itertools import zip_longest

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from engine.text import clip
from tui.stackedbar import ESTIMATE, FREE, OTHERS, PEAK, stacked

__all__ = ["Bar", "Gauge"]


LOOKS = {FREE: "#585858", OTHERS: "bold", PEAK: "bold #ffaf5f", ESTIMATE: "bold #ffaf5f"}
COLUMN, WORDS = 12, 30
"""Cells that one device needs at least when they stand in two columns, and from which its words
are said instead of its share."""


@dataclass(frozen=True)
class Bar:
    """One line of a gauge: ``share`` 0..1, or None for words alone."""

    label: str
    share: float | None
    words: str
    parts: tuple[tuple[str, float], ...] = ()
    """(character, share) of what the bar is made of, as :func:`tui.stackedbar.stacked` takes it."""
    marks: tuple[tuple[str, float], ...] = ()
    """(character, place of 0..1) upon it, where it has room for them."""
    full_is_bad: bool = True
    sign: str = ""
    """What it is called on a bar with marks; ``marked``: its words beside such a bar."""
    marked: str = ""


def bar_text(share: float, width: int, colour: str = "#87d787") -> Text:
    """A bar of ``width`` cells; heavy and light lines differ without colour."""
    share = min(1.0, max(0.0, share))
    full = round(share * width)
    return Text.assemble(("━" * full, colour), ("─" * (width - full), "#585858"))


class Gauge(Widget):
    """A few labelled bars under a title; repaints only when a shown value changed."""

    DEFAULT_CSS = "Gauge { height: 1fr; min-height: 1; }"

    def __init__(self, **options: object) -> None:
        super().__init__(classes="pane", **options)  # type: ignore[arg-type]
        self._shown: tuple[str, tuple[Bar, ...]] = ("", ())

    def show(self, title: str, bars: list[Bar]) -> None:
        now = (title, tuple(bars))
        if now != self._shown:
            self._shown = now
            self.border_title = Text(clip(title, 40) or " ")
            self.refresh()

    def render(self) -> RenderResult:
        width, height = self.size
        bars = self._shown[1]
        if len(bars) < height and any(bar.marks for bar in bars):
            return Text("\n").join(_marked(bars, width))
        if len(bars) <= height or width < 2 * COLUMN:
            return Text("\n").join(_line(bar, _label(bars), width) for bar in bars)
        # More devices than lines: two columns.
        half, room = (len(bars) + 1) // 2, (width - 2) // 2
        short = [bar if room >= WORDS else _shorter(bar) for bar in bars]
        lines = []
        for left, right in zip_longest(short[:half], short[half:]):
            line = _line(left, _label(bars), room)
            if right is not None:
                line.append(" " * (room + 2 - line.cell_len))
                line.append_text(_line(right, _label(bars), room))
            lines.append(line)
        return Text("\n").join(lines)


def _marked(bars: tuple[Bar, ...], width: int) -> list[Text]:
    """The bar with marks has a line of its own, as long as can be, and its words the next one."""
    named = [
        replace(bar, label=f"{bar.sign} {bar.label}", words=bar.marked or bar.words)
        if bar.sign
        else bar
        for bar in bars
    ]
    label = _label(tuple(named))
    lines = []
    for bar in named:
        if bar.marks:
            line = Text(f"{bar.label:<{label}} ", no_wrap=True, overflow="ellipsis")
            for piece in stacked(bar.parts, bar.marks, max(0, width - label - 1)):
                line.append(piece, LOOKS.get(piece[0], "#87d787"))
            lines.append(line)
            bar = Bar("", None, bar.words)
        lines.append(_line(bar, label, width))
    return lines


def _shorter(bar: Bar) -> Bar:
    return bar if bar.share is None else replace(bar, words=f"{100 * bar.share:3.0f} %")


def _label(bars: tuple[Bar, ...]) -> int:
    return max((len(bar.label) for bar in bars), default=0)


def _line(bar: Bar, label: int, width: int) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    if bar.share is None:
        line.append(clip(f"{bar.label:<{label}} {bar.words}".rstrip(), width))
        return line
    room = width - label - 2 - len(bar.words)
    line.append(f"{bar.label:<{label}} ")
    if room >= 4:
        colour = "#ffaf5f" if bar.full_is_bad and bar.share >= 0.85 else "#87d787"
        if bar.parts:
            for piece in stacked(bar.parts, (), room):
                line.append(piece, LOOKS.get(piece[0], colour))
        else:
            line.append_text(bar_text(bar.share, room, colour))
        line.append(" ")
    line.append(clip(bar.words, max(1, width - line.cell_len)), "bold")
    return line
