"""The log of the run that Train shows, on the whole screen: over Train, esc goes back to it."""

from textual.app import ComposeResult

from engine.jobs.folder import RunFolder
from tui import keymap
from tui.screens.logacts import LogActions
from tui.widgets.logpage import LogPage

__all__ = ["LogScreen"]


class LogScreen(LogActions):
    """``run``: the run's id. Left with esc, or with the key that opened it."""

    SCREEN = "log"
    BINDINGS = keymap.bindings("log")

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run

    def compose_body(self) -> ComposeResult:
        yield LogPage(id="log")

    def on_mount(self) -> None:
        row = self.workbench.snapshot.by_id.get(self._run)
        log = RunFolder(self.workbench.home.runs / self._run).log
        self.log_page.open(log, row.name if row else self._run)
        self.set_focus(self.log_page.view)

    def watched_runs(self) -> frozenset[str]:
        return frozenset({self._run})

    def action_back(self) -> None:
        if not self.log_page.back():
            self.dismiss(None)

    def action_maximise(self) -> None:
        self.dismiss(None)
