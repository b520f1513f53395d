"""Play: one prompt, the base and the tuned model side by side."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui import keymap
from tui.screens.base import WorkbenchScreen

__all__ = ["PlayScreen"]


class PlayScreen(WorkbenchScreen):
    SCREEN = "play"
    BINDINGS = keymap.bindings("play")

    def compose_body(self) -> ComposeResult:
        yield Static(
            "Nothing to play with yet.\n\n"
            "Train a model first (2, then s): base and tuned\nanswer here side by side.",
            classes="empty",
            markup=False,
        )
