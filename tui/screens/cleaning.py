"""The form that starts a cleaning."""

import asyncio

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.errors import UserError
from engine.recipe import DataSection, Recipe, load_recipe
from engine.text import clip, safe
from tui.widgets.field import PlainInput

__all__ = ["CleanForm"]

FIELDS = (
    ("source", "source", "JSON Lines, plain or .gz; or builtin:catalogue"),
    ("prompt_column", "prompt column", "what the model is given"),
    ("completion_column", "completion column", "what the model shall write"),
    ("name", "dataset name", "empty: the file's name"),
)


_ANY_FILE = Recipe(name="clean", data=DataSection(source=""))
"""The default rules and shares, for a file that no recipe names."""


class CleanForm(ModalScreen[Recipe | None], inherit_bindings=False):
    """Dismisses with the recipe to prepare, once its source can be used; with None on esc."""

    BINDINGS = [  # noqa: RUF012
        ("escape,ctrl+c", "cancel", "cancel"),
        ("tab,down", "next", "next field"),
        ("shift+tab,up", "previous", "field before"),
    ]
    DEFAULT_CSS = """
    CleanForm .dialog { padding: 0 2; }
    CleanForm .label { height: 1; }
    CleanForm .dialog PlainInput { margin: 0; }
    CleanForm #wrong { color: $error; height: auto; }
    """

    def __init__(self, recipe_name: str) -> None:
        super().__init__()
        self._recipe = load_recipe(recipe_name) if recipe_name else _ANY_FILE

    def compose(self) -> ComposeResult:
        recipe = self._recipe
        with Vertical(classes="dialog") as box:
            box.border_title = "Clean a source"
            box.border_subtitle = "enter: next field, then start · esc cancels"
            split = recipe.split
            sizes = (
                f"{split.train:,.0f} + {split.validation:,.0f} + {split.test:,.0f} rows"
                if split.by_count
                else f"{split.train:.0%} + {split.validation:.0%} + {split.test:.0%}"
            )
            whose = "Default rules and split" if recipe is _ANY_FILE else f"As recipe {recipe.name}"
            yield Static(Text(f"{whose}: {sizes}", "#9e9e9e"), markup=False)
            for id, label, hint in FIELDS:
                line = Text.assemble((label, "bold"), (f"  {hint}", "#9e9e9e"))
                yield Static(line, markup=False, classes="label")
                yield PlainInput(getattr(recipe.data, id), id=id)
            yield Static(Text(""), id="wrong", markup=False)

    def action_next(self) -> None:
        self.focus_next()

    def action_previous(self) -> None:
        self.focus_previous()

    def action_cancel(self) -> None:
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == FIELDS[-1][0]:
            self.run_worker(self._check, exclusive=True)
        else:
            self.focus_next()

    async def _check(self) -> None:
        """The source is looked at before the form closes: what is wrong stands beside it."""
        try:
            recipe = self._filled()
            from engine.data.sources import check_source

            await asyncio.to_thread(check_source, recipe)
        except UserError as error:
            self.query_one("#wrong", Static).update(Text(f"✗ {safe(clip(str(error), 600))}"))
            return
        self.dismiss(recipe)

    def _filled(self) -> Recipe:
        values = {id: self.query_one(f"#{id}", Input).value.strip() for id, _, _ in FIELDS}
        tree = self._recipe.model_dump()
        if values["source"] != self._recipe.data.source and values["name"] == tree["data"]["name"]:
            values["name"] = ""  # the name of a recipe's dataset belongs to the recipe's source
        tree["data"].update(values)
        try:
            return Recipe.model_validate(tree)
        except ValueError as failure:
            errors = getattr(failure, "errors", list)()
            place = ".".join(map(str, errors[0]["loc"])) if errors else "recipe"
            words = errors[0]["msg"] if errors else str(failure)
            raise UserError(f"{place}: {words}") from None
