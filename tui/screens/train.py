"""Train: a recipe, its start, and the live run."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui import keymap
from tui.screens.base import WorkbenchScreen

__all__ = ["TrainScreen"]


class TrainScreen(WorkbenchScreen):
    SCREEN = "train"
    BINDINGS = keymap.bindings("train")

    def compose_body(self) -> ComposeResult:
        yield Static("No run yet.", classes="empty", markup=False)
