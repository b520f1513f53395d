"""Runs: the history of all runs."""

from textual.app import ComposeResult
from textual.widgets import Static

from tui import keymap
from tui.screens.base import WorkbenchScreen

__all__ = ["RunsScreen"]


class RunsScreen(WorkbenchScreen):
    SCREEN = "runs"
    BINDINGS = keymap.bindings("runs")

    def compose_body(self) -> ComposeResult:
        yield Static("No run yet.", classes="empty", markup=False)
