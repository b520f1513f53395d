"""The recipe form: choose a recipe, edit what matters most, see at once what is wrong."""

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
from tui.draft import Draft, Repeated
from tui.widgets.field import Field, Toggle

if TYPE_CHECKING:
    from engine.recipe import Recipe
    from tui.app import WorkbenchApp
    from tui.recipesheet import RecipeSheet

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
"""Heading -> keys: the short list that the form begins with."""

TOGGLES = frozenset({"model.load_in_4bit"})


@dataclass
class Loaded(Message):
    """A recipe was read (or not) in the thread."""

    name: str
    sheet: "RecipeSheet | None"
    error: str
    builtins: tuple[str, ...]
    repeated: Repeated | None = None


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
        self.sheet: RecipeSheet | None = None
        """All keys, as edited; None before a recipe was read."""
        self.read = ""
        """What the recipe was read from, as it was asked for."""
        self.repeated: Repeated | None = None
        """The run whose recipe this is, with what was edited; None: no run's."""
        self._taken = False
        self._failed = False
        self._fields: dict[str, Field] = {}
        self._builtins: tuple[str, ...] = ()

    def on_mount(self) -> None:
        self.border_title = "Recipe"
        cast("WorkbenchApp", self.app).when_painted(self._load_first)

    def _load_first(self) -> None:
        if not self._taken:  # a run's recipe was asked for before this screen was painted
            self.load(self._start)

    @property
    def recipe(self) -> "Recipe | None":
        """The recipe as edited; None while anything in it is wrong."""
        return self.sheet.recipe if self.sheet and not self._failed else None

    @property
    def draft(self) -> Draft | None:
        """The run that would start; None while anything in the recipe is wrong."""
        recipe, sheet = self.recipe, self.sheet
        if recipe is None or sheet is None:
            return None
        name = None if sheet.name == sheet.proposed else sheet.name
        untold = [key for key in sheet.keys if sheet.is_untold(key)]
        return Draft(recipe, name, sheet.changes(), untold, self.repeated)

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
        return self._fields[key]

    @property
    def ready(self) -> bool:
        """There are fields to edit."""
        return bool(self._fields)

    def focus_name(self) -> None:
        self.screen.set_focus(self.field("name").box)

    # --- reading a recipe

    @work(thread=True, group="recipe", exclusive=True, exit_on_error=False)
    def load(self, name: str) -> None:
        """Read a recipe in a thread: importing pydantic takes 150 ms the first time."""
        from engine.errors import UserError
        from engine.recipe import builtin_recipes, load_recipe
        from tui.recipesheet import RecipeSheet

        names = tuple(builtin_recipes())
        try:
            self.post_message(Loaded(name, RecipeSheet(load_recipe(name)), "", names))
        except UserError as error:
            self.post_message(Loaded(name, None, str(error), names))

    def take(self, run: Repeated, recipe: "Recipe") -> None:
        """Edit this run's recipe from now on."""
        self._taken = True
        self._take_recipe(run, recipe)

    @work(thread=True, group="recipe", exclusive=True, exit_on_error=False)
    def _take_recipe(self, run: Repeated, recipe: "Recipe") -> None:
        from engine.recipe import builtin_recipes
        from tui.recipesheet import RecipeSheet

        sheet = RecipeSheet(recipe, run.next_name, run.untold)
        self.post_message(Loaded(f"run {run.name}", sheet, "", tuple(builtin_recipes()), run))

    async def on_loaded(self, message: Loaded) -> None:
        if not self._fields:
            await self.mount_all(self._parts())
            self._fields = {field.key: field for field in self.query(Field)}
        self._builtins = message.builtins
        if not self.query("#builtins"):  # the workbench was left while the recipe was read
            return
        told = f"{' · '.join(message.builtins)} · or a TOML file"
        if message.repeated is not None and message.repeated.untold:
            told = "? not told by its import"
        self.query_one("#builtins", Static).update(Text(told))
        self.field("recipe").wrong(message.error)
        self._failed = message.sheet is None
        if message.sheet is not None:
            self.sheet, self.read = message.sheet, message.name
            self.repeated = message.repeated
            self.field("recipe").put(message.name)
            self.field("name").put(message.sheet.name)
        self.show_sheet()

    def next_recipe(self) -> None:
        """Take the built-in recipe after this one."""
        if self._builtins:
            now = self.field("recipe").value
            at = self._builtins.index(now) + 1 if now in self._builtins else 0
            self.load(self._builtins[at % len(self._builtins)])

    # --- editing

    def show_sheet(self) -> None:
        """Bring the fields up to date with the sheet, and say under them what is wrong."""
        if self.sheet is None:
            return
        for _, keys in FIELDS:
            for key in keys:
                field = self.field(key)
                if field.value != self.sheet.text(key):
                    field.put(self.sheet.text(key))
        self._say_wrong()

    def _say_wrong(self) -> None:
        sheet = self.sheet
        assert sheet is not None
        shown = {"name"}
        self.field("name").wrong(sheet.wrong.get("name", ""))
        for _, keys in FIELDS:
            for key in keys:
                shown.add(key)
                self.field(key).wrong(sheet.wrong.get(key, ""))
                self.field(key).doubt(sheet.is_untold(key))
        # What has no field here, and what does not fit together, is said below all.
        others = [f"{key}: {words}" for key, words in sheet.wrong.items() if key not in shown]
        below = sheet.crosswise or next(iter(others), "")
        note = self.query_one("#crosswise", Static)
        note.update(Text(f"✗ {safe_line(below)}" if below else ""))
        note.set_class(bool(below), "-wrong")
        more = sum(key not in shown for key, _, _ in sheet.changes())
        self.border_subtitle = f"a: all keys{f', {more} changed there' if more else ''}"
        self.post_message(self.Edited())

    def _take(self, box: Widget, value: str) -> None:
        sheet = self.sheet
        field = next((one for one in self._fields.values() if one.box is box), None)
        if sheet is None or field is None:
            return
        if field.key == "name":
            sheet.rename(value.strip())
        else:
            sheet.put(field.key, value)
        self._say_wrong()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if not self._is_recipe(event.input):
            self._take(event.input, event.value)

    def on_toggle_changed(self, event: Toggle.Changed) -> None:
        event.stop()
        self._take(event.toggle, event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._is_recipe(event.input):
            self.load(event.value.strip())
        else:
            self.screen.focus_next()

    def on_input_blurred(self, event: Input.Blurred) -> None:
        event.stop()
        wanted = event.value.strip()
        if self._is_recipe(event.input) and self.sheet is not None and wanted != self.read:
            self.load(wanted)

    def _is_recipe(self, box: Input) -> bool:
        return box is self.field("recipe").box
