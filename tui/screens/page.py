"""A page of text over the screen: what a model is given, what votes say."""

from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from engine.text import clip
from tui.widgets.lines import LinesView, Run
from tui.widgets.tokens import TokensView

__all__ = ["MOVES", "PageScreen"]

MOVES = [
    ("j,down", "scroll('scroll_down')", "down"),
    ("k,up", "scroll('scroll_up')", "up"),
    ("ctrl+d,pagedown", "scroll('page_down')", "page down"),
    ("ctrl+u,pageup", "scroll('page_up')", "page up"),
    ("g,home", "scroll('first')", "first"),
    ("G,end", "scroll('last')", "last"),
]
"""Keys of a dialog that move the one pane in it."""


class PageScreen(ModalScreen[None], inherit_bindings=False):
    """Shows what ``fill`` puts into its pane; the moving keys move, esc closes."""

    BINDINGS = [  # noqa: RUF012
        ("escape,q,ctrl+c,enter", "close", "close"),
        *MOVES,
    ]
    DEFAULT_CSS = """
    PageScreen { align: center middle; }
    PageScreen .page { width: 90%; height: 85%; border: heavy $primary; background: $surface;
        padding: 0 1; }
    """

    def __init__(self, title: str, fill: Callable[[TokensView], None], foot: str = "") -> None:
        super().__init__()
        self._title, self._fill, self._foot = title, fill, foot

    @classmethod
    def of_runs(cls, title: str, runs: list[Run], foot: str = "") -> "PageScreen":
        return cls(title, lambda pane: pane.show(runs), foot)

    def compose(self) -> ComposeResult:
        with Vertical(classes="page") as box:
            box.border_title = Text(clip(self._title, 70))
            box.border_subtitle = Text(clip(self._foot or "esc closes", 70))
            yield TokensView(id="page")

    def on_mount(self) -> None:
        pane = self.query_one(TokensView)
        self._fill(pane)
        self.set_focus(pane)

    def action_scroll(self, how: str) -> None:
        pane = self.query_one(LinesView)
        getattr(pane, f"action_{how}")()

    def action_close(self) -> None:
        self.dismiss(None)
