"""The recipe form: choose a recipe, edit what matters most, see at once what is wrong."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text
from textual import work
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.text import safe_line
from tui.widgets.field import Field, Toggle

if TYPE_CHECKING:
    from engine.recipe import Recipe
    from tui.app import WorkbenchApp

__all__ = ["FIELDS", "RecipeForm"]

FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("data", ("data.source",)),
    ("model", ("model.model_name_or_path", "model.load_in_4bit")),
    ("lora", ("lora.r", "lora.lora_alpha", "lora.lora_dropout")),
    (
        "train",
        (
            "train.max_length",
            "train.per_device_train_batch_size",
            "train.gradient_accumulation_steps",
            "train.learning_rate",
            "train.num_train_epochs",
            "train.max_steps",
            "train.warmup_steps",
            "train.eval_steps",
            "train.save_steps",
            "train.early_stopping_patience",
            "train.seed",
        ),
    ),
)
"""Heading -> keys. Everything else is edited in a recipe file."""

TEXTS = frozenset({"data.source", "model.model_name_or_path"})
TOGGLES = frozenset({"model.load_in_4bit"})


@dataclass
class Loaded(Message):
    """A recipe was read (or not) in the thread."""

    name: str
    recipe: "Recipe | None"
    error: str
    builtins: tuple[str, ...]


class RecipeForm(VerticalScroll, can_focus=False):
    """Holds the recipe as edited. ``recipe`` is None while anything in it is wrong."""

    DEFAULT_CSS = """
    RecipeForm { height: 1fr; }
    RecipeForm .heading { color: $foreground; text-style: bold; margin: 1 0 0 0; height: 1; }
    RecipeForm .quiet { color: $quiet; height: auto; padding: 0 0 0 2; }
    RecipeForm #crosswise { display: none; color: $error; margin: 1 0 0 0; height: auto; }
    RecipeForm #crosswise.-wrong { display: block; }
    """

    @dataclass
    class Edited(Message):
        """The recipe is another one, or is wrong now."""

    def __init__(self, start: str = "demo", **options: Any) -> None:
        super().__init__(classes="pane", **options)
        self._start = start
        self.base: Recipe | None = None
        """The recipe as it was read."""
        self.recipe: Recipe | None = None
        self.name_given: str | None = None
        """A name for the run, when it was changed by hand."""
        self._builtins: tuple[str, ...] = ()

    def on_mount(self) -> None:
        self.border_title = "Recipe"
        cast("WorkbenchApp", self.app).when_painted(lambda: self.load(self._start))

    def _parts(self) -> Iterator[Widget]:
        """The fields; made with the first recipe, because their 60 widgets slow the first paint."""
        yield Field("recipe", "recipe", 18)
        yield Static("", classes="quiet", id="builtins")
        yield Field("name", "name", 18)
        for heading, keys in FIELDS:
            yield Static(Text(heading), classes="heading")
            wide = heading == "train"
            for key in keys:
                label = key.partition(".")[2]
                yield Field(key, label, 27 if wide else 18, toggle=key in TOGGLES)
        yield Static("", id="crosswise")

    def field(self, key: str) -> Field:
        return next(field for field in self.query(Field) if field.key == key)

    @property
    def ready(self) -> bool:
        """There are fields to edit."""
        return bool(self.query(Field))

    def focus_name(self) -> None:
        self.screen.set_focus(self.field("name").box)

    # --- reading a recipe

    @work(thread=True, group="recipe", exclusive=True, exit_on_error=False)
    def load(self, name: str) -> None:
        """Read a recipe in a thread: importing pydantic takes 150 ms the first time."""
        from engine.errors import UserError
        from engine.recipe import builtin_recipes, load_recipe

        names = tuple(builtin_recipes())
        try:
            self.post_message(Loaded(name, load_recipe(name), "", names))
        except UserError as error:
            self.post_message(Loaded(name, None, str(error), names))

    async def on_loaded(self, message: Loaded) -> None:
        if not self.query(Field):
            await self.mount_all(self._parts())
        self._builtins = message.builtins
        listed = " · ".join(message.builtins)
        self.query_one("#builtins", Static).update(Text(f"{listed} · or a TOML file"))
        self.field("recipe").wrong(message.error)
        if message.recipe is None:
            self.recipe = None
            self.post_message(self.Edited())
            return
        self.base, self.name_given = message.recipe, None
        self.field("recipe").put(message.name)
        self.field("name").put(message.recipe.name)
        for _, keys in FIELDS:
            for key in keys:
                self.field(key).put(_value(message.recipe, key))
        self._check()

    def next_recipe(self) -> None:
        """Take the built-in recipe after this one."""
        if self._builtins:
            now = self.field("recipe").value
            at = self._builtins.index(now) + 1 if now in self._builtins else 0
            self.load(self._builtins[at % len(self._builtins)])

    # --- editing

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._is_recipe(event.input):
            return
        self._check()

    def on_toggle_changed(self, event: Toggle.Changed) -> None:
        event.stop()
        self._check()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._is_recipe(event.input):
            self.load(event.value.strip())
        else:
            self.screen.focus_next()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        wanted = event.value.strip()
        if self._is_recipe(event.input) and self.base is not None and wanted != self._read_name:
            self.load(wanted)

    @property
    def _read_name(self) -> str:
        return getattr(self, "_loaded_name", "")

    def _is_recipe(self, box: Input) -> bool:
        return box is self.field("recipe").box

    def _check(self) -> None:
        """Say under every field what is wrong with it; below all what does not fit together."""
        from engine.errors import UserError

        if self.base is None:
            return
        self._loaded_name = self.field("recipe").value
        settings, fine = [], True
        for key, setting in self._settings():
            try:
                self.base.with_settings([setting])
                self.field(key).wrong("")
                settings.append(setting)
            except UserError as error:
                message = _bare(str(error), key)
                # A rule about two values is said at the end, unless one alone breaks it.
                self.field(key).wrong(message)
                fine = False
        crosswise = ""
        self.recipe = None
        if fine:
            try:
                self.recipe = self.base.with_settings(settings)
            except UserError as error:
                crosswise = _bare(str(error), "")
        name = self.field("name").value.strip()
        self.name_given = name if name != self.base.name else None
        note = self.query_one("#crosswise", Static)
        note.update(Text(f"✗ {safe_line(crosswise)}" if crosswise else ""))
        note.set_class(bool(crosswise), "-wrong")
        self.post_message(self.Edited())

    def _settings(self) -> list[tuple[str, str]]:
        """(key, setting) of every value that is not the recipe's own."""
        assert self.base is not None
        found = [("name", f"name={json.dumps(self.field('name').value.strip())}")]
        for _, keys in FIELDS:
            for key in keys:
                value = self.field(key).value.strip()
                if value == _value(self.base, key):
                    self.field(key).wrong("")
                    continue
                found.append((key, f"{key}={json.dumps(value) if key in TEXTS else value}"))
        return found

    def changes(self) -> list[tuple[str, str, str]]:
        """(key, value in the recipe, value now) of what was edited."""
        if self.base is None:
            return []
        return [
            (key, _value(self.base, key), self.field(key).value.strip())
            for _, keys in FIELDS
            for key in keys
            if self.field(key).value.strip() != _value(self.base, key)
        ]


def _value(recipe: "Recipe", key: str) -> str:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _bare(message: str, key: str) -> str:
    """The engine's words without what the form shows already: where it was set, and the key."""
    message = message.split(": ", 1)[1] if message.startswith("--set") else message
    return message.removeprefix(f"{key}: ")
