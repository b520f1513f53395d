"""The first and the last line of every screen: where one is, and what the keys do now."""

from rich.text import Text
from textual.app import RenderResult
from textual.timer import Timer
from textual.widget import Widget

from engine.text import clip
from tui import keymap
from tui.theme import STATES

__all__ = ["FooterBar", "HeaderBar", "tail"]

HINTS = 6
TOLD_SECONDS = 4.0


class HeaderBar(Widget):
    """Screens with their keys (the current one marked), home, and the running run's state."""

    DEFAULT_CSS = "HeaderBar { dock: top; height: 1; background: $panel; }"
    _facts: tuple[str, str, str, bool] = ("", "", "", False)

    def show(self, screen: str, home: str, live: tuple[str, str] | None, low: bool) -> None:
        """``live``: (state, words about the running run); ``low``: the bandwidth is."""
        facts = (screen, home, "\t".join(live) if live else "", low)
        if facts != self._facts:
            self._facts = facts
            self.refresh()

    def render(self) -> RenderResult:
        screen, home, live, low = self._facts
        width = self.size.width
        line = Text(no_wrap=True, end="")
        below, over = keymap.OVER.get(screen, (screen, ""))
        for id, title in keymap.SCREENS.items():
            key = keymap.key_of(f"go_{id}")
            if id == below:
                title = f"{title}: {over}" if over else title
                line.append(f"[{key} {title}]", "bold reverse")
            else:
                line.append(f" {key} ", "bold #5fafff")
                line.append(f"{title} ", "#d0d0d0")
        if low:
            line.append("  low bandwidth", "#ffaf5f")
        right = Text(no_wrap=True, end="")
        if live:
            state, _, words = live.partition("\t")
            symbol, colour = STATES.get(state, ("?", ""))
            room = width - line.cell_len - 4
            right.append(f"{symbol} ", colour)
            right.append(clip(words, max(0, room)), "#d0d0d0")
        room = width - line.cell_len - right.cell_len - 5
        if room >= 8:
            line.append("  " + tail(home, room), "#9e9e9e")
        line.append(" " * max(1, width - line.cell_len - right.cell_len - 1))
        return line + right


class FooterBar(Widget):
    """At most six hints: the screen's own possible actions first, then help and commands."""

    DEFAULT_CSS = "FooterBar { dock: bottom; height: 1; background: $panel; }"
    _hints: tuple[tuple[str, str], ...] = ()
    _told: tuple[str, str] | None = None
    _over: Timer | None = None

    def show(self, hints: list[tuple[str, str]]) -> None:
        """``hints``: (key, words), most important first."""
        if tuple(hints) != self._hints:
            self._hints = tuple(hints)
            self._told = None
            self.refresh()

    def tell(self, key: str, words: str) -> None:
        """Say for a moment, instead of the hints, why a key does nothing."""
        if self._over is not None:
            self._over.stop()
        self._over = self.set_timer(TOLD_SECONDS, self.forget)
        if (key, words) != self._told:
            self._told = key, words
            self.refresh()

    def forget(self) -> None:
        """Say the hints again."""
        if self._told is not None:
            self._told = None
            self.refresh()

    def render(self) -> RenderResult:
        line = Text(" ", no_wrap=True, end="")
        if self._told is not None:
            key, words = self._told
            line.append(key, "bold #ffaf5f")
            line.append(f" {words}", "#d0d0d0")
            line.truncate(self.size.width, overflow="ellipsis")
            return line
        for key, words in self._hints[:HINTS]:
            line.append(key, "bold #5fafff")
            line.append(f" {words}   ", "#d0d0d0")
        line.right_crop(3)
        line.truncate(self.size.width, overflow="ellipsis")
        return line


def tail(path: str, cells: int) -> str:
    """The end of a path tells more than its beginning."""
    whole = clip(path, 10_000)
    return whole if len(whole) <= cells else "…" + whole[-(cells - 1) :]
