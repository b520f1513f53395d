"""Pick one of a list, by moving or by typing."""

from rich.text import Text
from textual.widgets.option_list import Option

from engine.text import clip
from tui.screens.help import Chooser

__all__ = ["ChooseScreen"]


class ChooseScreen(Chooser):
    """Dismisses with the id of the chosen option, or None."""

    ASK = "type to search"

    def __init__(self, heading: str, options: list[tuple[str, str]]) -> None:
        super().__init__()
        self.HEADING = heading
        self._options = options

    def options(self, words: list[str]) -> list[Option]:
        return [
            Option(Text(clip(text, 100), no_wrap=True), id=id)
            for id, text in self._options
            if all(word in text.lower() for word in words)
        ]
