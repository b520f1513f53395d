"""Every key of the recipe as a list: found by name or description, edited in place.

115 keys are drawn line by line; only the value under the cursor has an input, while it is edited.
"""

from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from engine.text import clip, safe
from tui.widgets.field import PlainInput
from tui.widgets.lines import BAD, BOLD, PLAIN, QUIET, WARM, Line
from tui.widgets.namedlines import Named, NamedLines

if TYPE_CHECKING:
    from tui.recipesheet import Key, RecipeSheet

__all__ = ["KeyList", "KeysView", "key_lines"]

LABEL_AT, LABEL = 3, 28
MOST_OF_A_TEXT = 2000


def value_at(width: int) -> tuple[int, int]:
    """(column, cells) of the values in a list of ``width`` cells."""
    return LABEL_AT + LABEL + 1, 26 if width >= 100 else 16


def key_lines(sheet: "RecipeSheet", wanted: str, width: int) -> list[Named]:
    """A heading a section, a line a key, and below it what is wrong with its value."""
    lines: list[Named] = []
    section = None
    _, cells = value_at(width)
    for key in sheet.keys.values():
        if not key.matches(wanted):
            continue
        if key.section != section:
            section = key.section
            lines.append(("", Line([Segment(section or "recipe", BOLD)])))
        changed = sheet.is_changed(key.name)
        mark = "*" if changed else "?" if sheet.is_untold(key.name) else " "
        value = clip(sheet.text(key.name)[:MOST_OF_A_TEXT], cells) or "–"
        parts = [
            Segment(f" {mark} ", WARM),
            Segment(f"{clip(key.label, LABEL):<{LABEL}} ", PLAIN),
            *Line([Segment(value, WARM if changed else BOLD)]).fitted(cells),
            Segment(
                "  " + clip(key.description, max(0, width - LABEL_AT - LABEL - cells - 3)), QUIET
            ),
        ]
        lines.append((key.name, Line(parts)))
        if words := sheet.wrong.get(key.name):
            told = clip(f"✗ {words}", max(8, width - LABEL_AT - 2))
            lines.append(("", Line([Segment(f"     {told}", BAD)])))
    return lines


class KeyList(NamedLines):
    """The lines, with a cursor from key to key."""

    KEEP_CURSOR = True
    BINDINGS = [  # noqa: RUF012
        ("enter", "edit", "edit the value"),
        ("space", "turn(1)", "switch it, or the next choice"),
        ("right,l", "turn(1)", "the next choice"),
        ("left,h", "turn(-1)", "the choice before"),
        ("backspace", "own", "the recipe's own value again"),
    ]

    class Asked(Message):
        """Something is to be done with the key under the cursor: edit, turn or own."""

        def __init__(self, what: str, by: int = 0) -> None:
            super().__init__()
            self.what, self.by = what, by

    def action_edit(self) -> None:
        self.post_message(self.Asked("edit"))

    def action_turn(self, by: int) -> None:
        self.post_message(self.Asked("turn", by))

    def action_own(self) -> None:
        self.post_message(self.Asked("own"))


class KeysView(Vertical):
    """The list with its search, its one editor, and what the key under the cursor means."""

    DEFAULT_CSS = """
    KeysView { layers: list over; height: 1fr; width: 1fr; }
    KeysView #wanted, KeysView #keys, KeysView #about { layer: list; }
    KeysView #wanted { display: none; }
    KeysView.-finding #wanted { display: block; }
    KeysView #keys { height: 1fr; border: none; padding: 0; }
    KeysView #about { height: 3; color: $quiet; }
    KeysView #editor { display: none; layer: over; height: 1; padding: 0; background: #303030; }
    KeysView.-editing #editor { display: block; }
    """

    class Edited(Message):
        """A key has another text."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.sheet: RecipeSheet | None = None
        self._before = ""

    def compose(self) -> ComposeResult:
        yield PlainInput(id="wanted", placeholder="part of a name or description")
        yield KeyList(id="keys", classes="")
        yield Static("", id="about", markup=False)
        yield PlainInput(id="editor", select_on_focus=False)

    @property
    def keys(self) -> KeyList:
        return self.query_one("#keys", KeyList)

    @property
    def editor(self) -> PlainInput:
        return self.query_one("#editor", PlainInput)

    @property
    def _wanted(self) -> PlainInput:
        return self.query_one("#wanted", PlainInput)

    @property
    def key(self) -> "Key | None":
        """The key under the cursor."""
        return self.sheet.keys.get(self.keys.chosen) if self.sheet else None

    # --- showing

    def show_sheet(self, sheet: "RecipeSheet") -> None:
        self.sheet = sheet
        self._show()
        self.call_after_refresh(self._show)  # it has a width then
        self.screen.set_focus(self.keys)

    def _show(self) -> None:
        sheet, wanted = self.sheet, self._wanted.value
        if sheet is None:
            return
        self.keys.show_named(lambda width: key_lines(sheet, wanted, width), keep=True)
        count = sum(key.matches(wanted) for key in sheet.keys.values())
        changed = len(sheet.changes())
        found = f"{count} of {len(sheet.keys)} keys" if wanted else f"all {count} keys"
        self.border_title = Text(
            f"{clip(sheet.name, 30)}: {found}" + (f", {changed} changed *" if changed else "")
        )
        self.border_subtitle = "enter edits · ← → choices · / finds · w writes · a closes"
        self._say()

    def _say(self) -> None:
        key, sheet = self.key, self.sheet
        about = Text()
        if key is not None and sheet is not None:
            about.append(f"{key.name}  ", "bold")
            about.append(key.description)
            if key.choices:
                about.append(f"; one of {', '.join(key.choices)}")
            about.append(f"; default {clip(key.default, 40) or 'empty'}")
            if sheet.is_untold(key.name):
                about.append("; its import did not tell: this is the default")
            if sheet.is_changed(key.name):
                about.append(f"; in the recipe {clip(sheet.own(key.name), 40) or 'empty'}")
        elif sheet is not None:
            about.append("no key has this in its name or description; esc shows all again")
        if sheet is not None and sheet.crosswise:
            about.append(f"\n✗ {safe(sheet.crosswise[:400])}", "#ff8787")
        self.query_one("#about", Static).update(about)

    def on_named_lines_reached(self, message: NamedLines.Reached) -> None:
        message.stop()
        self._say()

    # --- editing

    def on_key_list_asked(self, message: KeyList.Asked) -> None:
        message.stop()
        key, sheet = self.key, self.sheet
        if key is None or sheet is None:
            return
        if message.what == "own":
            self._put(sheet.own(key.name))
        elif message.what == "turn":
            if sheet.turn(key.name, message.by):
                self._edited()
        elif key.is_switch:
            sheet.turn(key.name, 1)
            self._edited()
        elif key.choices:
            self._choose(key)
        else:
            self._edit(key)

    def _choose(self, key: "Key") -> None:
        from tui.screens.choose import ChooseScreen

        def answered(value: str | None) -> None:
            if value is not None:
                self._put(value)

        options = [(value, value) for value in key.choices]
        self.app.push_screen(ChooseScreen(key.name, options), answered)

    def _edit(self, key: "Key") -> None:
        assert self.sheet is not None
        self._before = self.sheet.text(key.name)
        with self.prevent(Input.Changed):
            self.editor.value = self._before
            self.editor.cursor_position = len(self._before)
        self.add_class("-editing")
        self._place()
        self.screen.set_focus(self.editor)

    def _place(self) -> None:
        """Put the editor over the value under the cursor."""
        keys = self.keys
        at, _ = value_at(keys.size.width - 1)
        y = keys.region.y - self.content_region.y + keys.cursor - keys.top
        # An input leaves a cell free on both sides of its text.
        self.editor.styles.offset = (at - 1, y)
        self.editor.styles.width = max(8, keys.size.width - at)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._place)

    def _put(self, text: str) -> None:
        key, sheet = self.key, self.sheet
        if key is not None and sheet is not None and sheet.put(key.name, text):
            self._edited()

    def _edited(self) -> None:
        self._show()
        self.post_message(self.Edited())

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input is self.editor:
            self._put(event.value)
        else:
            self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave()

    def _leave(self) -> None:
        self.remove_class("-editing")
        self.screen.set_focus(self.keys)

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        if event.widget is self.editor:
            self.remove_class("-editing")

    # --- finding

    def find(self) -> None:
        self.add_class("-finding")
        self.screen.set_focus(self._wanted)

    def back(self) -> bool:
        """What esc does here; False when there is nothing left to go back from.

        In the editor the text is again what it was before.
        """
        focused = self.screen.focused
        if focused is self.editor:
            self._put(self._before)
            self._leave()
        elif focused is self._wanted and self._wanted.value:
            self._leave()
        elif self.has_class("-finding"):
            self._wanted.value = ""
            self.remove_class("-finding")
            self._show()
            self._leave()
        else:
            return False
        return True
