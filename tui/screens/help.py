"""The keys, searchable (``?``), and everything possible now by name (``:``)."""

from collections.abc import Collection
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from engine.text import clip
from tui import keymap
from tui.keymap import Action
from tui.widgets.field import PlainInput

__all__ = ["Chooser", "HelpScreen", "PaletteScreen"]


QUIET = "#9e9e9e"


class Chooser(ModalScreen[Any], inherit_bindings=False):
    """An input over a list that it narrows; enter dismisses with the chosen option's id."""

    # No style of it depends on the size of the terminal: it need not be styled twice.
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = []
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = []
    BINDINGS = [  # noqa: RUF012
        ("escape,ctrl+c", "cancel", "close"),
        ("down,ctrl+j", "move(1)", "down"),
        ("up,ctrl+k", "move(-1)", "up"),
        ("pagedown,ctrl+d", "move(10)", "page down"),
        ("pageup,ctrl+u", "move(-10)", "page up"),
    ]
    HEADING = ""
    ASK = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="chooser") as box:
            box.border_title = self.HEADING
            box.border_subtitle = "type to search · ↑ ↓ · esc closes"
            yield PlainInput(placeholder=self.ASK, id="ask")
            options: OptionList = OptionList(id="list", markup=False)
            options.can_focus = False
            yield options

    def on_mount(self) -> None:
        self._fill("")
        self.set_focus(self.query_one("#ask"))

    def on_input_changed(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, wanted: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(self.options(wanted.lower().split()))
        options.highlighted = next(
            (index for index, option in enumerate(options.options) if not option.disabled), None
        )

    def options(self, words: list[str]) -> list[Option]:
        """What matches all ``words``."""
        raise NotImplementedError

    def action_move(self, by: int) -> None:
        options = self.query_one(OptionList)
        for _ in range(abs(by)):
            if by > 0:
                options.action_cursor_down()
            else:
                options.action_cursor_up()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.choose(options.get_option_at_index(options.highlighted).id)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.choose(event.option.id)

    def choose(self, id: str | None) -> None:
        self.dismiss(id)

    def action_cancel(self) -> None:
        self.dismiss(None)


def _line(keys: str, words: str, note: str = "", grey: bool = False) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f" {keys:<14}", QUIET if grey else "bold #5fafff")
    line.append(words, QUIET if grey else "")
    if note:
        line.append(f"  {note}", QUIET)
    return line


class HelpScreen(Chooser):
    """All keys, the current screen's first, each with its name in ``keys.toml``.

    ``possible``: the ids of what is so on this screen now; its other keys are grey.
    """

    HEADING = "Keys"
    ASK = "search the keys"

    def __init__(self, screen: str, possible: Collection[str]) -> None:
        super().__init__()
        self._screen, self._possible = screen, possible

    def _grey(self, action: Action) -> bool:
        return action.screen == self._screen and action.id not in self._possible

    def options(self, words: list[str]) -> list[Option]:
        others = [id for id in (*keymap.SCREENS, *keymap.OVER) if id != self._screen]
        order = [self._screen, "", *others]
        made: list[Option] = []
        for screen in order:
            if not screen and self._screen == "":
                continue
            title = keymap.title(screen) or "Everywhere"
            rows = [action for action in keymap.of_screen(screen) if _matches(words, action, title)]
            if not rows:
                continue
            here = ""
            if screen == self._screen:
                here = "this screen" + ("; grey: not now" if any(map(self._grey, rows)) else "")
            made.append(Option(Text(f"{title}  {here}".rstrip(), "bold reverse"), disabled=True))
            made += [
                Option(_line(_keys(row), row.words, row.id, grey=self._grey(row))) for row in rows
            ]
        return made

    def choose(self, id: str | None) -> None:
        """Reading only: enter closes."""
        self.dismiss(None)


class PaletteScreen(Chooser):
    """Everything possible now; dismisses with the action's id."""

    HEADING = "Commands"
    ASK = "what to do"

    def __init__(self, actions: list[Action]) -> None:
        super().__init__()
        self._actions = [action for action in actions if action.palette]

    def options(self, words: list[str]) -> list[Option]:
        return [
            Option(
                _line(_keys(action), clip(action.words, 70), keymap.title(action.screen)),
                id=action.id,
            )
            for action in self._actions
            if _matches(words, action, keymap.title(action.screen))
        ]


def _keys(action: Action) -> str:
    return " ".join(map(keymap.shown, action.keys))


def _matches(words: list[str], action: Action, title: str) -> bool:
    place = f"{action.words} {title} {action.group} {action.id.replace('_', ' ')}".lower()
    keys = [keymap.shown(key).lower() for key in action.keys]
    return all(word in place or word in keys for word in words)
