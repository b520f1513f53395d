"""Asks for one line of text."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.text import clip, safe
from tui.widgets.field import PlainInput

__all__ = ["AskScreen"]


class AskScreen(ModalScreen[str | None], inherit_bindings=False):
    """Dismisses with what was typed, without spaces around it; None when nothing was."""

    BINDINGS = [("escape", "cancel", "cancel"), ("ctrl+c", "cancel", "cancel")]  # noqa: RUF012

    def __init__(self, title: str, lines: list[str], verb: str = "writes it down") -> None:
        super().__init__()
        self._title, self._lines, self._verb = title, lines, verb

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog review") as box:
            box.border_title = Text(clip(self._title, 60))
            for line in self._lines:
                yield Static(Text(safe(line[:2000])), markup=False)
            yield Static(
                Text.assemble(
                    ("enter", "bold #5fafff"),
                    f" {self._verb}   ",
                    ("esc", "bold #5fafff"),
                    " goes back",
                ),
                markup=False,
                classes="ask",
            )
            yield PlainInput(id="line")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)

    def action_cancel(self) -> None:
        self.dismiss(None)
