"""Which columns the history's table has, and in which order."""

from rich.text import Text
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from engine.text import clip
from tui.screens.help import Chooser

__all__ = ["RunColumnsScreen"]


class RunColumnsScreen(Chooser):
    """Enter adds or removes a column, ctrl+p and ctrl+n move it; esc closes and keeps them.

    Dismisses with the names in order; an empty list: the usual ones for the screen's width.
    """

    HEADING = "Columns of the table"
    ASK = "a field of runs, or a key of recipes"
    BINDINGS = [  # noqa: RUF012
        *(one for one in Chooser.BINDINGS if one[1] != "cancel"),
        ("escape,ctrl+c", "done", "done"),
        ("ctrl+p", "shift(-1)", "earlier"),
        ("ctrl+n", "shift(1)", "later"),
        ("ctrl+r", "reset", "the usual ones"),
    ]

    def __init__(self, chosen: list[str], offers: list[tuple[str, str]]) -> None:
        super().__init__()
        self.chosen = list(chosen)
        self._offers = offers

    def on_mount(self) -> None:
        super().on_mount()
        box = self.query_one(".chooser")
        box.border_subtitle = "enter on/off · ctrl+p n move · ctrl+r reset · esc done"

    def options(self, words: list[str]) -> list[Option]:
        about, room = dict(self._offers), max(20, min(60, self.app.size.width - 50))
        made = []
        for name in (*self.chosen, *(name for name, _ in self._offers if name not in self.chosen)):
            told = about.get(name, "a key that no run here has")
            if not all(word in f"{name} {told}".lower() for word in words):
                continue
            number = f"{self.chosen.index(name) + 1}" if name in self.chosen else ""
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f"[{number:>2}] ", "bold #5fafff")
            line.append(f"{clip(name, 34):<34}")
            line.append(f" {clip(told, room)}", "#9e9e9e")
            made.append(Option(line, id=name))
        return made

    @property
    def _marked(self) -> str | None:
        options = self.query_one(OptionList)
        at = options.highlighted
        return None if at is None else options.get_option_at_index(at).id

    def _again(self, name: str | None) -> None:
        """Fill the list anew, with the cursor on ``name``."""
        self._fill(self.query_one(Input).value)
        options = self.query_one(OptionList)
        found = (at for at, one in enumerate(options.options) if one.id == name)
        options.highlighted = next(found, options.highlighted)

    def choose(self, id: str | None) -> None:
        if id is None:
            return
        if id in self.chosen:
            self.chosen.remove(id)
        else:
            self.chosen.append(id)
        self._again(id)

    def action_shift(self, by: int) -> None:
        name = self._marked
        if name is None or name not in self.chosen:
            return
        at = self.chosen.index(name)
        to = max(0, min(at + by, len(self.chosen) - 1))
        self.chosen.insert(to, self.chosen.pop(at))
        self._again(name)

    def action_reset(self) -> None:
        self.dismiss([])

    def action_done(self) -> None:
        self.dismiss(self.chosen)
