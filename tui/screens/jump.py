"""Jump mode: a letter over every pane and field in sight; pressing it goes there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.errors import NoWidget
from textual.geometry import Offset, Region, Size
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

__all__ = ["LETTERS", "JumpScreen", "Place", "places", "spread"]

LETTERS = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"
"""The home row first, then what the fingers reach from it, then the same with shift."""
CELLS = 3
"""Of a label: a letter in brackets, which is seen without colour too."""


@dataclass(frozen=True)
class Place:
    """Where one can go, and where its label stands."""

    letter: str
    widget: Widget
    at: Offset


def places(screen: Screen) -> list[Place]:
    """What can take the focus and is in sight, from left to right and from top to bottom."""
    within = screen.maximized
    seen: list[tuple[Region, Widget]] = []
    for widget in screen.focus_chain:
        if within is not None and within not in widget.ancestors_with_self:
            continue
        try:
            region = screen.find_widget(widget).visible_region
        except NoWidget:
            continue
        if region:
            seen.append((region, widget))
    seen.sort(key=lambda found: (found[0].y, found[0].x))
    offsets = spread((region.offset for region, _ in seen), screen.size.width)
    return [
        Place(letter, widget, at)
        for letter, (_, widget), at in zip(LETTERS, seen, offsets, strict=False)
    ]


def spread(offsets: Iterable[Offset], width: int) -> list[Offset]:
    """Labels at these corners, moved so that none covers another or leaves the screen."""
    taken: set[Offset] = set()
    found = []
    for offset in offsets:
        x, y = max(0, min(offset.x, width - CELLS)), offset.y
        while any(Offset(x + by, y) in taken for by in range(CELLS)):
            x += CELLS
            if x + CELLS > width:
                x, y = max(0, min(offset.x, width - CELLS)), y + 1
        taken.update(Offset(x + by, y) for by in range(CELLS))
        found.append(Offset(x, y))
    return found


class JumpScreen(ModalScreen[Widget | None], inherit_bindings=False):
    """Labels over the screen below, which stands still meanwhile; dismisses with where to go."""

    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = []
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = []
    DEFAULT_CSS = """
    JumpScreen { background: transparent; align: left top; }
    JumpScreen > .letter {
        position: absolute; width: 3; height: 1;
        background: $accent; color: #121212; text-style: bold;
    }
    JumpScreen > #how {
        position: absolute; width: 100%; height: 1; background: $panel; color: $foreground;
    }
    """

    def __init__(self, found: list[Place]) -> None:
        super().__init__()
        self.places = found
        self._first_size: Size | None = None

    def compose(self) -> ComposeResult:
        for place in self.places:
            label = Static(Text(f"[{place.letter}]", end=""), classes="letter")
            label.styles.offset = (place.at.x, place.at.y)
            yield label
        how = Static(Text(" a letter goes there   esc back ", end=""), id="how")
        how.styles.offset = (0, self.app.size.height - 1)
        yield how

    def on_key(self, event: events.Key) -> None:
        event.stop()
        found = [place.widget for place in self.places if place.letter == event.character]
        if found or event.key in ("escape", "ctrl+c"):
            self._leave(found[0] if found else None)

    def on_resize(self, event: events.Resize) -> None:
        """What is below has moved."""
        if self._first_size is None:
            self._first_size = event.size
        elif event.size != self._first_size:
            self._leave(None)

    def _leave(self, widget: Widget | None) -> None:
        if self.is_current:  # of several keys at once, or sizes, the first one counts
            self.dismiss(widget)
