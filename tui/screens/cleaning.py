"""The form that starts a cleaning: the source is shown as it will be read before it is used."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.errors import UserError
from engine.recipe import DataSection, Recipe, load_recipe
from engine.text import clip, safe
from tui import keymap
from tui.sourcelook import field_of, look_at
from tui.widgets.field import Choice, Field, Press

if TYPE_CHECKING:
    from tui.app import WorkbenchApp

__all__ = ["CleanForm"]

LABEL = 17
LAYOUTS = ("auto", "columns", "alpaca", "sharegpt", "messages", "prompt-completion", "text")
DATA = ("source", "name", "layout", "prompt_column", "completion_column")
SPLIT = ("train", "validation", "test")
LOOKED_AT = frozenset({"source", "name", "layout", "prompt_column", "completion_column"})
"""Fields after which the source is looked at again."""
LABELS = {"name": "dataset name", "prompt_column": "prompt column",
          "completion_column": "completion column", "validation": "validation"}  # fmt: skip
HINTS = {
    "source": "a file or folder, a hub dataset id, builtin:catalogue",
    "name": "empty: the source's name",
    "prompt_column": "empty: recognised",
    "completion_column": "empty: recognised",
    "train": "rows, or a share below 1",
    "validation": "rows or share; early stopping uses it",
    "test": "rows or share; only ever reported",
}

_ANY_FILE = Recipe(name="clean", data=DataSection(source=""))
"""The default rules and shares, for a file that no recipe names."""

Answer = tuple[str, Recipe]
"""("start" or "rules", the recipe as filled in)."""


class CleanForm(ModalScreen[Answer | None], inherit_bindings=False):
    """Dismisses once the source can be used; with None on esc.

    ``recipe``: what the fields begin with, or the name of a built-in one, or "" for any file.
    """

    # No style of it depends on the size of the terminal: it need not be styled twice.
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = []
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = []
    BINDINGS = [  # noqa: RUF012
        ("escape,ctrl+c", "cancel", "cancel"),
        ("tab,down", "next", "next field"),
        ("shift+tab,up", "previous", "field before"),
        ("ctrl+j,f5", "start", "start"),
        (",".join(keymap.keys_of("jump_pane")), "app.jump_pane", "go to a field"),
    ]
    DEFAULT_CSS = """
    CleanForm .dialog { padding: 0 2; width: 92; scrollbar-size-vertical: 1; }
    CleanForm .dialog PlainInput { margin: 0; }
    CleanForm #look { height: auto; margin: 0 0 0 2; color: $foreground; display: none; }
    CleanForm #look.-looked { display: block; }
    CleanForm #sizes, CleanForm #buttons { height: auto; }
    CleanForm .quiet { color: $quiet; height: auto; }
    """

    def __init__(self, recipe: Recipe | str, *, with_rules: bool = True) -> None:
        super().__init__()
        if isinstance(recipe, str):
            recipe = load_recipe(recipe) if recipe else _ANY_FILE
        self._recipe = recipe
        self._with_rules = with_rules
        self._looked: DataSection | None = None
        """What was last looked at."""

    def compose(self) -> ComposeResult:
        recipe = self._recipe
        with Vertical(classes="dialog") as box:
            box.border_title = "Clean a source"
            box.border_subtitle = "tab: next field · ctrl+j: start · esc cancels"
            yield Field("source", "source", LABEL, placeholder=HINTS["source"])
            yield Static(Text(""), id="look", markup=False)
            for key in DATA[1:]:
                choices = LAYOUTS if key == "layout" else ()
                label, hint = LABELS.get(key, key), HINTS.get(key, "")
                yield Field(key, label, LABEL, choices=choices, placeholder=hint)
            for key in SPLIT:
                yield Field(key, key, LABEL, placeholder=HINTS[key])
            rules = clip(", ".join(recipe.clean.rules) or "none", 300)
            yield Static(Text(f"{'rules':<{LABEL}}  {rules}"), markup=False, classes="quiet")
            with Horizontal(id="buttons"):
                yield Press("start cleaning", id="start")
                if self._with_rules:
                    yield Press("try the rules first", id="rules")

    def on_mount(self) -> None:
        for key in DATA:
            self.field(key).put(str(getattr(self._recipe.data, key)))
        for key in SPLIT:
            self.field(key).put(f"{getattr(self._recipe.split, key):g}")
        for field in self.query(Field):
            if isinstance(field.box, Input):
                field.box.cursor_position = len(field.box.value)
        self.set_focus(self.field("source").box)
        self._look()

    def field(self, key: str) -> Field:
        return next(field for field in self.query(Field) if field.key == key)

    # --- moving about

    def action_next(self) -> None:
        self.focus_next()

    def action_previous(self) -> None:
        self.focus_previous()

    def action_cancel(self) -> None:
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.focus_next()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        self._left(event.input)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        self._left(event.choice)

    def on_press_pressed(self, event: Press.Pressed) -> None:
        self._finish("rules" if event.press.id == "rules" else "start")

    def action_start(self) -> None:
        self._finish("start")

    def _left(self, box: object) -> None:
        """A field was left: say what is wrong, and look at the source anew when it is another."""
        key = next((field.key for field in self.query(Field) if field.box is box), "")
        if self.filled() is not None and key in LOOKED_AT:
            self._look()

    # --- what is filled in

    def filled(self) -> Recipe | None:
        """The recipe as filled in; what is wrong is said beside its field."""
        tree = self._recipe.model_dump()
        values = {key: self.field(key).value.strip() for key in DATA}
        if values["source"] != self._recipe.data.source and values["name"] == tree["data"]["name"]:
            values["name"] = ""  # the name of a recipe's dataset belongs to the recipe's source
        tree["data"].update(values)
        tree["split"].update({key: _size(self.field(key).value) for key in SPLIT})
        for field in self.query(Field):
            if field.key not in LOOKED_AT or field.key == "name":
                field.wrong("")
        try:
            return Recipe.model_validate(tree)
        except ValueError as failure:
            for error in getattr(failure, "errors", list)():
                place = error["loc"][-1] if error["loc"] else ""
                known = place if place in (*DATA, *SPLIT) else "test"
                self.field(str(known)).wrong(error["msg"].removeprefix("Value error, "))
            return None

    # --- looking at the source

    def _look(self) -> None:
        recipe = self.filled()
        if recipe is None or not recipe.data.source or recipe.data == self._looked:
            return
        self._looked = recipe.data
        self.run_worker(partial(self._look_at, recipe.data), group="look", exclusive=True)

    async def _look_at(self, data: DataSection) -> bool:
        """Show what the source is; False: it cannot be used, which is said beside its field."""
        waiting = self.set_timer(0.3, lambda: self._say(Text("looking at it … esc cancels")))
        home = cast("WorkbenchApp", self.app).home
        try:
            runs = await asyncio.to_thread(look_at, home, data)
        except (UserError, OSError) as error:
            self._say(Text(""))
            self._wrong(str(error))
            return False
        finally:
            waiting.stop()
        for key in LOOKED_AT:
            self.field(key).wrong("")
        self._say(Text.assemble(*runs))
        return True

    def _say(self, words: Text) -> None:
        look = self.query_one("#look", Static)
        look.update(words)
        look.set_class(bool(words), "-looked")

    def _wrong(self, message: str) -> None:
        key = field_of(message)
        message = message.partition("; name the columns with --set")[0]  # here they are fields
        for each in LOOKED_AT:
            self.field(each).wrong(safe(clip(message, 400)) if each == key else "")

    def _finish(self, what: str) -> None:
        self.run_worker(partial(self._checked, what), group="look", exclusive=True)

    async def _checked(self, what: str) -> None:
        """The source is looked at before the form closes: what is wrong stands beside it."""
        recipe = self.filled()
        if recipe is None:
            return
        if not recipe.data.source:
            self._wrong("name a file, a folder, a hub dataset or builtin:catalogue")
            self.set_focus(self.field("source").box)
            return
        self._looked = recipe.data
        if await self._look_at(recipe.data):
            self.dismiss((what, recipe))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        event.widget.scroll_visible(animate=False)


def _size(text: str) -> str | float:
    """A count or share as people write it: 150,000, 0.9, 90 %."""
    plain = text.strip().replace(",", "").replace("_", "").replace(" ", "")
    try:
        return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)
    except ValueError:
        return text
