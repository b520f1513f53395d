"""What the Runs screen does beyond one run: sweeps as a whole, the queue, notes and tags."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import work

from engine.history.row import ENDS
from tui import acts, queueacts
from tui.screens.ask import AskScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.goingon import GoingOn, Started
from tui.words import bytes_words

if TYPE_CHECKING:
    from engine.history.queries import SweepRow
    from engine.history.row import RunRow

__all__ = ["GroupActions"]


class GroupActions(GoingOn):
    """A screen with one run chosen, or one sweep."""

    def group(self) -> "SweepRow | None":
        """The sweep that the actions are about; None: they are about :meth:`chosen`."""
        return None

    @property
    def _them(self) -> Sequence["RunRow"]:
        if sweep := self.group():
            return sweep.runs
        row = self.chosen()
        return (row,) if row else ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        rows = self._them
        states = {row.state for row in rows}
        if action in ("note", "tag"):
            return bool(rows)
        if action == "take_off":
            return "queued" in states
        if action == "enqueue":
            return bool(states & (ENDS - {"finished"}))
        if self.group() is not None and action in ("stop", "delete", "kill", "resume"):
            if action == "stop":
                return bool(states - ENDS)
            return action == "delete" and not states - ENDS - {"queued"}
        if action == "kill" and "queued" in states:
            return False
        return super().check_action(action, parameters)

    @work(thread=True, group="act", exit_on_error=False)
    def do(self, what: Callable[[], str]) -> None:
        """Do something in a thread, and say what came of it ("": nothing), or why nothing did."""
        from engine.errors import UserError

        say = partial(self.app.call_from_thread, self.workbench.say)
        try:
            said = what()
        except UserError as error:
            say(str(error), "error")
        except Exception as error:
            say(f"{type(error).__name__}: {error}", "error")
        else:
            if said:
                say(said)
        self.app.call_from_thread(self.done)

    def done(self) -> None:
        """Something was done, or tried: look again."""

    def confirm(self, title: str, lines: list[str], then: Callable[[], str]) -> None:
        """Ask for a ``y`` before something that cannot just be taken back."""

        def answered(yes: bool | None) -> None:
            if yes:
                self.do(then)

        self.app.push_screen(ConfirmScreen(title, lines), answered)

    def on_started(self, message: Started) -> None:
        self.workbench.say(message.words)

    # --- ending, deleting

    def action_stop(self) -> None:
        sweep, row = self.group(), self.chosen()
        if sweep is None:
            if row is not None and row.state == "queued":
                self.action_take_off()
            else:
                super().action_stop()
            return
        waiting = sum(one.state == "queued" for one in sweep.runs)
        running = sum(one.state not in ENDS and one.state != "queued" for one in sweep.runs)
        lines = []
        if running:
            lines.append(f"{running} running: finishes its step, saves and ends.")
        if waiting:
            lines.append(f"{waiting} waiting: taken off the queue, not started.")
        lines.append("What has ended stays as it is.")
        ids = [one.id for one in sweep.runs if one.state not in ENDS]
        home = self.workbench.home
        title = f"Stop {_runs(waiting + running)} of {sweep.id}?"
        self.confirm(title, lines, partial(queueacts.stop_all, home, ids))

    def action_delete(self) -> None:
        if (sweep := self.group()) is not None:
            self._delete_all(sweep.id, [row.id for row in sweep.runs])
        else:
            super().action_delete()

    @work(thread=True, group="act", exit_on_error=False)
    def _delete_all(self, name: str, ids: list[str]) -> None:
        """How big they are, is counted first, in a thread."""
        home = self.workbench.home
        size = bytes_words(sum(acts.folder_bytes(home.runs / id) for id in ids))
        self.app.call_from_thread(
            self.confirm,
            f"Delete all {_runs(len(ids))} of {name}?",
            [
                f"The folders of {_runs(len(ids))} go to the trash: journals, logs, checkpoints, "
                f"adapters ({size}). u brings all of them back, or one; Z empties the trash."
            ],
            partial(queueacts.delete_all, home, ids),
        )

    # --- the queue

    def action_take_off(self) -> None:
        waiting = [row for row in self._them if row.state == "queued"]
        if not waiting:
            return
        sweep = self.group()
        whose = f"{_runs(len(waiting))} of {sweep.id}" if sweep else waiting[0].name
        self.confirm(
            f"Take {whose} off the queue?",
            ["It is not started, and stays in the history as stopped. E puts it back, last."],
            partial(queueacts.take_off, self.workbench.home, [row.id for row in waiting]),
        )

    def action_enqueue(self) -> None:
        home = self.workbench.home
        ids = [row.id for row in self._them if row.state in ENDS and row.state != "finished"]
        if self.group() is None and ids:
            self.do(partial(queueacts.enqueue, home, ids[0]))
        elif ids:
            self.do(partial(queueacts.enqueue_all, home, ids))

    # --- notes and tags

    def action_note(self) -> None:
        ids = [row.id for row in self._them]

        def written(text: str | None) -> None:
            if text:
                self.do(partial(_annotated, partial(queueacts.annotate, home, ids, text), "noted"))

        home = self.workbench.home
        words = "One line, kept with the run and shown among its numbers."
        self.app.push_screen(AskScreen(f"A note on {self._whom()}", words), written)

    def action_tag(self) -> None:
        ids = [row.id for row in self._them]

        def written(text: str | None) -> None:
            if text:
                tags = text.split()
                what = partial(queueacts.annotate, home, ids, "", tags)
                self.do(partial(_annotated, what, f"tagged {' '.join(tags)}"))

        home = self.workbench.home
        there = " ".join(self.workbench.snapshot.tags.get(ids[0], ())) if len(ids) == 1 else ""
        words = "Words between spaces; TAG- takes one away. / finds runs by their tags."
        words += f"\nThere are: {there}" if there else ""
        self.app.push_screen(AskScreen(f"Tags of {self._whom()}", words), written)

    def _whom(self) -> str:
        sweep = self.group()
        return f"all {_runs(len(sweep.runs))} of {sweep.id}" if sweep else self._them[0].name


def _annotated(what: Callable[[], None], said: str) -> str:
    what()
    return said


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
