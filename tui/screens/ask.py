"""Asks for one line: a note, a file's name."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.text import clip, safe
from tui.widgets.field import PlainInput

__all__ = ["AskScreen"]


class AskScreen(ModalScreen[str], inherit_bindings=False):
    """Dismisses with the line on enter, with "" on esc or when nothing was written."""

    BINDINGS = [("escape,ctrl+c", "cancel", "cancel")]  # noqa: RUF012

    def __init__(self, title: str, words: str, value: str = "") -> None:
        super().__init__()
        self._title, self._words, self._value = title, words, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog review") as box:
            box.border_title = Text(clip(self._title, 60))
            yield Static(Text(safe(self._words[:2000])), markup=False)
            yield PlainInput(self._value, id="line", select_on_focus=False)
            yield Static(Text("enter takes it; esc goes back", "#9e9e9e"), markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_cancel(self) -> None:
        self.dismiss("")
