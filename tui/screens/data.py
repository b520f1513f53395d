"""Data: from the raw file to what the model sees."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui import keymap
from tui.screens.base import WorkbenchScreen

__all__ = ["DataScreen"]


class DataScreen(WorkbenchScreen):
    SCREEN = "data"
    BINDINGS = keymap.bindings("data")

    def compose_body(self) -> ComposeResult:
        yield Static(
            "No dataset yet.\n\n"
            "A dataset is made when a run first needs it (2, then s),\n"
            "or by: tunebench clean FILE",
            classes="empty",
            markup=False,
        )
