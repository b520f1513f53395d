"""What can be asked of a run while it goes on: note, evaluate, save, answer the prompts."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message

from engine.history.row import ENDS
from engine.text import clip
from tui import acts
from tui.feed import RunDetail
from tui.screens.acting import RunActions
from tui.screens.ask import AskScreen

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["RunRequests"]

WORDS = {
    "evaluate": ("evaluate", "evaluates now"),
    "save": ("save a checkpoint", "saves a checkpoint"),
    "sample": ("answer its prompts", "answers its prompts"),
}
"""Action -> what is asked, and what the run does when it takes it."""


@dataclass
class Asked(Message):
    """A request was written."""

    run: str
    name: str
    attempt: int
    action: str
    number: int


class RunRequests(RunActions):
    """Asks in a thread; says when the journal acknowledges it, or when it came too late."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[tuple[str, int], Asked] = {}
        """(run, number) -> request that was not acknowledged yet."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("evaluate_now", "save_now", "sample_now"):
            row = self.chosen()
            return row is not None and row.state in ("starting", "running")
        if action == "note":
            return self.chosen() is not None
        return super().check_action(action, parameters)

    def action_evaluate_now(self) -> None:
        self._ask_for("evaluate")

    def action_save_now(self) -> None:
        self._ask_for("save")

    def action_sample_now(self) -> None:
        self._ask_for("sample")

    def _ask_for(self, action: str) -> None:
        if row := self.chosen():
            self._request(row, action)

    @work(thread=True, group="act", exit_on_error=False)
    def _request(self, row: "RunRow", action: str) -> None:
        from engine.errors import UserError

        say = partial(self.app.call_from_thread, self.workbench.say)
        try:
            number = acts.ask_run(self.workbench.home, row.id, action)
        except UserError as error:
            say(str(error), "error")
        except Exception as error:
            say(f"{type(error).__name__}: {error}", "error")
        else:
            self.post_message(Asked(row.id, row.name, row.attempt, action, number))

    def on_asked(self, message: Asked) -> None:
        self._asked[message.run, message.number] = message
        self.settle_requests(self.workbench.snapshot.details)
        self.requests_changed()

    def requests_changed(self) -> None:
        """Show :meth:`asked_words` anew."""
        raise NotImplementedError

    def asked_words(self, run: str) -> str:
        """What this run was asked for and has not taken yet, for its state; "" for nothing."""
        found = [WORDS[one.action][0] for one in self._asked.values() if one.run == run]
        return f"asked to {', '.join(found)}: after this step" if found else ""

    def settle_requests(self, details: dict[str, RunDetail]) -> None:
        """Say what became of the requests, by the newest events of their runs."""
        for (run, number), one in list(self._asked.items()):
            detail = details.get(run)
            if detail is None:
                continue
            row = detail.row
            same = row.attempt == one.attempt
            event = next((e for e in detail.controls if same and e.get("number") == number), None)
            if event is None and same and row.state not in ENDS:
                continue
            del self._asked[run, number]
            name = clip(one.name, 40)
            if event is not None and event.get("taken", True):
                at = f" at step {row.step}" if row.step is not None else ""
                self.workbench.say(f"{name}: {WORDS[one.action][1]}{at}")
            else:
                wanted = WORDS[one.action][0]
                self.workbench.say(f"{name}: too late to {wanted}: the run has ended", "warning")

    # --- notes

    def action_note(self) -> None:
        row = self.chosen()
        if row is None:
            return

        def written(text: str | None) -> None:
            if text:
                note = partial(acts.note_run, self.workbench.home, row.id, text)
                self.act(note, f"{clip(row.name, 40)}: noted")

        title = f"A note on {row.name}"
        step = f", at step {row.step}" if row.step is not None and row.state not in ENDS else ""
        self.app.push_screen(AskScreen(title, f"One line, kept with the run{step}."), written)
