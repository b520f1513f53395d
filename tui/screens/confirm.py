"""Asks before something that cannot be taken back."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.text import clip, safe
from tui.widgets.field import PlainInput

__all__ = ["ConfirmScreen"]


class ConfirmScreen(ModalScreen[bool], inherit_bindings=False):
    """Dismisses with True only when the user typed what was asked for and pressed enter.

    ``word`` is what to type: ``y``, or for the worst the run's name. Nothing else confirms, so a
    stray enter does no harm.
    """

    BINDINGS = [("escape", "cancel", "cancel"), ("ctrl+c", "cancel", "cancel")]  # noqa: RUF012

    def __init__(self, title: str, lines: list[str], word: str = "y") -> None:
        super().__init__()
        self._title, self._lines, self.word = title, lines, word

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = Text(clip(self._title, 60))
            for line in self._lines:
                yield Static(Text(safe(line[:2000])), markup=False)
            yield Static(
                Text(f"Type {clip(self.word, 64)} and press enter; esc cancels.", "bold"),
                markup=False,
                classes="ask",
            )
            yield PlainInput(id="word")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip() == self.word:
            self.dismiss(True)
        else:
            self.query_one("#word", Input).value = ""

    def action_cancel(self) -> None:
        self.dismiss(False)
