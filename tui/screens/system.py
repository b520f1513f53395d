"""System: GPUs, processes, versions."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui import keymap
from tui.screens.base import WorkbenchScreen

__all__ = ["SystemScreen"]


class SystemScreen(WorkbenchScreen):
    SCREEN = "system"
    BINDINGS = keymap.bindings("system")

    def compose_body(self) -> ComposeResult:
        yield Static(
            "No readings yet.\n\ntunebench doctor says what is installed and what works.",
            classes="empty",
            markup=False,
        )
