"""Beginning runs from the recipe form: new ones, queued ones, and ones that go on with a run."""

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import SuspendNotSupported
from textual.message import Message

from engine.edit import edit
from engine.errors import UserError
from engine.history.row import ENDS
from tui import acts, lookahead
from tui.draft import Draft, Repeated
from tui.screens.ask import AskScreen
from tui.screens.goingon import GoingOn, Started
from tui.screens.requests import RunRequests
from tui.widgets.recipeform import RecipeForm

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from engine.recipe import Recipe

__all__ = ["Started", "Starting"]


@dataclass
class Reviewed(Message):
    """What is known at once of what would run."""

    draft: Draft
    rows: list[tuple[str, str]]
    probe: bool


class Starting(GoingOn, RunRequests):
    """A screen with a recipe form and a chosen run."""

    def __init__(self) -> None:
        super().__init__()
        self.form = RecipeForm(id="form")
        """Held, not queried: the footer asks about 20 actions at every key, 3 ms each."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        form, row = self.form, self.chosen()
        if action in ("start", "write_recipe", "edit_text"):
            return form.recipe is not None
        if action == "go_on":
            ended = row is not None and row.state in ENDS and row.checkpoint is not None
            return ended and form.recipe is not None
        if action == "take_recipe":
            return form.ready and row is not None
        return super().check_action(action, parameters)

    # --- a new run

    def action_start(self) -> None:
        if (draft := self.form.draft) is None:
            return
        if run := draft.repeated:  # its name may have been given away since it was proposed
            draft = replace(draft, repeated=replace(run, next_name=self._free_name(run.name)))
        self._review(draft, not self.workbench.snapshot.live)

    def _free_name(self, name: str) -> str:
        from engine.jobs.create import numbered

        snapshot = self.workbench.snapshot
        return numbered(name, {*(row.name for row in snapshot.rows), *snapshot.sweeps})

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def _review(self, draft: Draft, probe: bool) -> None:
        try:
            machine = self.workbench.read_system()
            rows = lookahead.basics(self.workbench.home, draft, machine)
        except UserError as error:
            self.app.call_from_thread(self.workbench.say, str(error), "error")
            return
        on_gpu = bool(machine.gpus) and draft.recipe.model.device != "cpu"
        self.post_message(Reviewed(draft, rows, probe and on_gpu))

    def on_reviewed(self, message: Reviewed) -> None:
        from tui.screens.review import Decision, ReviewScreen

        def decided(decision: Decision | None) -> None:
            if decision is None:
                return
            form = self.form
            if form.sheet is not None and decision.settings:
                for key, value in decision.settings.items():
                    form.sheet.put(key, str(value))
                form.show_sheet()
            if decision.what == "start":
                begin = partial(acts.start_run, home, decision.recipe, draft.name, repeats)
                self.begin(begin, "started; it goes on when the workbench is closed")
            elif decision.what == "queue":
                begin = partial(acts.queue_run, home, decision.recipe, draft.name, repeats)
                self.begin(begin, "in the queue; it starts when its turn comes")

        home, draft = self.workbench.home, message.draft
        repeats = draft.repeated.id if draft.repeated else None
        screen = ReviewScreen(draft.title, draft.recipe, message.rows, probe=message.probe)
        self.app.push_screen(screen, decided)

    # --- going on with a run under another recipe

    def action_go_on(self) -> None:
        row, form = self.chosen(), self.form
        if row is not None and form.recipe is not None:
            self.compare(row, form.recipe)

    # --- recipes

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def _take_recipe(self, row: "RunRow") -> None:
        try:
            found = acts.recipe_again(self.workbench.home, row.id)
        except UserError as error:
            self.app.call_from_thread(self.workbench.say, str(error), "error")
            return
        self.app.call_from_thread(self._put_recipe, row, *found)

    def _put_recipe(self, row: "RunRow", recipe: "Recipe", untold: frozenset[str]) -> None:
        self.form.take(Repeated(row.id, row.name, self._free_name(row.name), untold), recipe)
        if untold:
            words = "import did not tell all of it; what is marked ? has the default"
            self.workbench.say(f"the recipe of {row.name}: its {words}", "warning", 12.0)

    def edit_again(self, row: "RunRow", recipe: "Recipe", untold: frozenset[str]) -> None:
        """Put a run's recipe into the form, to be trained again with a change."""
        self._put_recipe(row, recipe, untold)
        self.show_form()
        if not untold:
            words = "change it, here or with esc V in $EDITOR; then esc s says what differs"
            self.workbench.say(f"the recipe of {row.name}: {words}")

    def show_form(self) -> None:
        """Bring the form into sight, with a field focused."""
        raise NotImplementedError

    def action_edit_text(self) -> None:
        """The recipe as TOML in ``$EDITOR``; what was changed there is changed in the form."""
        recipe = self.form.recipe
        if recipe is None:
            return
        file, why = None, ""
        try:
            with self.app.suspend():
                # Nothing may be raised in here: Textual would not take the terminal back.
                try:
                    file = edit(recipe.to_toml(), "recipe.toml")
                except UserError as error:
                    why = str(error)
                except Exception as error:
                    why = f"{type(error).__name__}: {error}"
        except SuspendNotSupported:
            why = "this terminal cannot be handed to an editor"
        if file is None:
            self.workbench.say(why, "error")
        else:
            self._take_edited(recipe, file)

    @work(thread=True, group="recipe", exclusive=True, exit_on_error=False)
    def _take_edited(self, before: "Recipe", file: Path) -> None:
        from engine.recipe import read_recipe
        from tui.recipesheet import RecipeSheet

        try:
            recipe = read_recipe(file)
        except UserError as error:
            words = f"{error}; the text is kept there"
            self.app.call_from_thread(self.workbench.say, words, "error", 15.0)
            return
        shutil.rmtree(file.parent, ignore_errors=True)
        texts = RecipeSheet(recipe)
        changed = [key for key, _, _ in before.changes(recipe) if key in texts.keys]
        found = {key: texts.text(key) for key in changed}
        renamed = recipe.name if recipe.name != before.name else ""
        self.app.call_from_thread(self._put_edited, found, renamed)

    def _put_edited(self, found: dict[str, str], renamed: str) -> None:
        sheet = self.form.sheet
        if sheet is None:
            return
        for key, text in found.items():
            sheet.put(key, text)
        if renamed:
            sheet.rename(renamed)
        self.form.show_sheet()
        self.form.field("name").put(sheet.name)
        self.workbench.say(f"{len(found)} changed in the editor" if found else "nothing changed")

    def action_take_recipe(self) -> None:
        if row := self.chosen():
            self._take_recipe(row)

    def action_write_recipe(self) -> None:
        recipe = self.form.recipe
        if recipe is None:
            return

        def named(name: str | None) -> None:
            if not name:
                return
            path = Path(name).expanduser()
            write = partial(acts.write_recipe, path, recipe)
            said = f"written: {path}; tunebench train {path} trains it"
            if not path.exists():
                self.act(partial(write, False), said)
                return
            lines = [f"{path} is there already.", "Its text is replaced by this recipe."]
            self._ask("Replace the file?", lines, "y", partial(write, True), said)

        words = "The whole recipe with every value, as TOML. Name the file:"
        self.app.push_screen(AskScreen("Write the recipe", words, f"{recipe.name}.toml"), named)
