"""Going on with a run that ended, under the recipe that its end suggests or another one."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message

from tui import acts
from tui.screens.acting import RunActions
from tui.screens.confirm import ConfirmScreen

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from engine.jobs.branch import Change
    from engine.recipe import Recipe

__all__ = ["GoingOn", "Started"]

SHOWN_CHANGES = 12


@dataclass
class Compared(Message):
    """A recipe to go on with, and what it changes. ``restart``: from the beginning."""

    row: "RunRow"
    recipe: "Recipe"
    changes: "list[Change]"
    restart: bool


@dataclass
class Started(Message):
    """A run was launched, or put in the queue."""

    id: str
    words: str


class GoingOn(RunActions):
    """Says what another recipe changes, asks, and starts a run of its own."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "apply":
            row = self.chosen()
            return row is not None and self.is_suggested(row)
        return super().check_action(action, parameters)

    def is_suggested(self, row: "RunRow") -> bool:
        """The run's end suggests a recipe to go on with."""
        detail = self.workbench.snapshot.details.get(row.id)
        return detail is not None and detail.suggested

    def action_apply(self) -> None:
        if row := self.chosen():
            self.compare(row, None)

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def compare(self, row: "RunRow", recipe: "Recipe | None") -> None:
        """``recipe``: None for the one that the run's end suggests."""
        from engine.errors import UserError

        home = self.workbench.home
        say = partial(self.app.call_from_thread, self.workbench.say)
        try:
            if recipe is None:
                recipe, found = acts.recipe_suggested(home, row.id)
            else:
                recipe, found = acts.recipe_going_on(home, row.id, recipe)
        except UserError as error:
            say(str(error), "error")
        except Exception as error:
            say(f"{type(error).__name__}: {error}", "error")
        else:
            self.post_message(Compared(row, recipe, found, row.checkpoint is None))

    def on_compared(self, message: Compared) -> None:
        row, home = message.row, self.workbench.home
        if not message.changes:
            self.workbench.say(f"{row.name}: this recipe changes nothing; R goes on as it is")
            return
        lines = [
            f"{one.key}: {one.before} → {one.after}" + (f"  ({one.words})" if one.words else "")
            for one in message.changes[:SHOWN_CHANGES]
        ]
        if more := len(message.changes) - SHOWN_CHANGES:
            lines += [f"and {more} more"] if more > 0 else []
        begin: partial[str]
        if message.restart:
            title = f"Train {row.name} anew, so?"
            lines.append("It has no whole checkpoint: a new run begins with the first step.")
            begin = partial(acts.start_run, home, message.recipe, None)
        else:
            title = f"Go on with {row.name}, so?"
            last = str(row.checkpoint).rsplit("/", 1)[-1]
            lines.append(f"A new run goes on from {last}; this one stays as it is.")
            begin = partial(acts.branch_run, home, row.id, message.recipe)

        def answered(yes: bool | None) -> None:
            if yes:
                self.begin(begin, f"goes on with {row.name}, as a run of its own")

        self.app.push_screen(ConfirmScreen(title, lines, "y"), answered)

    @work(thread=True, group="start", exclusive=True, exit_on_error=False)
    def begin(self, begin: "partial[str]", words: str) -> None:
        from engine.errors import UserError

        say = partial(self.app.call_from_thread, self.workbench.say)
        try:
            id = begin()
        except UserError as error:
            say(str(error), "error")
        except Exception as error:
            say(f"{type(error).__name__}: {error}", "error")
        else:
            self.post_message(Started(id, words))
