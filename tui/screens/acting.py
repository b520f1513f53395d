"""Stopping, killing, resuming, deleting: the same on the Train and the Runs screen."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import work

from engine.history.row import ENDS
from tui import acts
from tui.screens.base import WorkbenchScreen
from tui.screens.confirm import ConfirmScreen
from tui.words import bytes_words

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["RunActions"]


class RunActions(WorkbenchScreen):
    """A screen with one run chosen. Asks before what cannot be taken back; works in a thread."""

    def chosen(self) -> "RunRow | None":
        """The run that the actions are about."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("stop", "kill", "resume", "delete"):
            row = self.chosen()
            if row is None:
                return False
            alive = row.state not in ENDS
            if action == "resume":
                return row.state in ENDS and row.state != "finished"
            return not alive if action == "delete" else alive
        return super().check_action(action, parameters)

    def _ask(
        self, title: str, lines: list[str], word: str, then: Callable[[], Any], said: str
    ) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.act(then, said)

        self.app.push_screen(ConfirmScreen(title, lines, word), answered)

    @work(thread=True, group="act", exit_on_error=False)
    def act(self, what: Callable[[], Any], said: str) -> None:
        """Do something to a run in a thread, and say so, or why it could not be done."""
        from engine.errors import UserError

        say = partial(self.app.call_from_thread, self.workbench.say)
        try:
            what()
        except UserError as error:
            say(str(error), "error")
        except Exception as error:
            say(f"{type(error).__name__}: {error}", "error")
        else:
            say(said)

    def action_stop(self) -> None:
        if row := self.chosen():
            self._ask(
                f"Stop {row.name}?",
                ["It finishes its step, saves a checkpoint and ends. R goes on from there."],
                "y",
                partial(acts.stop_run, self.workbench.home, row.id),
                f"{row.name}: asked to stop",
            )

    def action_kill(self) -> None:
        if row := self.chosen():
            at = f"its last checkpoint ({row.checkpoint})" if row.checkpoint else "nothing"
            self._ask(
                f"Kill {row.name}?",
                ["It ends at once and nothing is saved.", f"What is left is {at}."],
                row.name,
                partial(acts.kill_run, self.workbench.home, row.id),
                f"{row.name}: asked to be killed",
            )

    def action_resume(self) -> None:
        if row := self.chosen():
            self.act(partial(acts.resume_run, self.workbench.home, row.id), f"{row.name}: goes on")

    @work(thread=True, group="act", exit_on_error=False)
    def action_delete(self) -> None:
        """How big it is, is counted first, in a thread."""
        row = self.chosen()
        if row is None:
            return
        home = self.workbench.home
        size = acts.folder_bytes(home.runs / row.id)
        self.app.call_from_thread(
            self._ask,
            f"Delete {row.name}?",
            [
                f"Its folder runs/{row.id} goes to the trash: journal, log, checkpoints, adapter "
                f"({bytes_words(size)}). u brings it back; Z empties the trash."
            ],
            "y",
            partial(acts.delete_run, home, row.id),
            f"{row.name}: moved to the trash",
        )
