"""Play: one prompt, and what the columns make of it, side by side."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from engine.history.row import ENDS
from engine.text import clip, safe
from tui import answers, keymap, promptrows
from tui.feed import Snapshot
from tui.lineup import Seat
from tui.screens.answering import AnsweringScreen
from tui.screens.playcolumns import ColumnsScreen, Offer
from tui.widgets.field import PlainInput
from tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["PlayScreen"]

REPAINT_SECONDS = 0.1
"""Streamed text is drawn at most ten times a second."""
SLOW_REPAINT_SECONDS = 2.0
"""Over a slow link."""
MOST_CHOICES = 200
"""Of this many runs, the newest, is looked whether they can answer."""
VOTES = {
    "vote_left": "left",
    "vote_right": "right",
    "vote_tie": "tie",
    "vote_bad": "both bad",
}
"""The footer when a verdict is waited for."""


class PlayScreen(AnsweringScreen):
    SCREEN = "play"
    BINDINGS = keymap.bindings("play")
    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    PlayScreen #nothing { display: none; }
    PlayScreen.-nothing #nothing { display: block; }
    PlayScreen.-nothing #play { display: none; }
    PlayScreen #asking { height: 3; }
    PlayScreen #asking PlainInput { padding: 0; }
    PlayScreen #reference { height: 5; display: none; }
    PlayScreen.-tall #reference { height: 10; }
    PlayScreen.-with-reference #reference { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun: set[Seat] = set()
        """Who has said a first word."""
        self._choices: list[RunRow] = []
        """The runs that can answer, newest first."""
        self._known: tuple[str, ...] = ()

    # --- layout

    def compose_body(self) -> ComposeResult:
        yield Static(
            "Nothing to play with yet.\n\n"
            "Train a model first (2, then s): base and tuned\nanswer here side by side.\n\n"
            "c takes any other model: a folder, a hub id,\na GGUF file, or an endpoint: URL#MODEL.",
            id="nothing",
            classes="empty",
            markup=False,
        )
        with Vertical(id="play"):
            with Vertical(id="asking", classes="pane") as asking:
                asking.border_title = "Prompt"
                yield PlainInput(
                    placeholder="i: write a prompt   n: take a test row",
                    id="prompt",
                    select_on_focus=False,
                )
            yield self.panes
            reference = LinesView(id="reference", classes="pane")
            reference.border_title = "Reference: what the row really says"
            yield reference

    def on_mount(self) -> None:
        self.set_class(True, "-nothing")
        self._painter = self.set_interval(REPAINT_SECONDS, self._paint_on, pause=True)
        self._clock = self.set_interval(1.0, self.asker.tell, pause=True)

    async def on_unmount(self) -> None:
        await self.asker.leave()

    # --- who answers

    def show_snapshot(self, snapshot: Snapshot) -> None:
        ended = [row for row in snapshot.rows if row.state in ENDS][:MOST_CHOICES]
        known = tuple(row.id for row in ended)
        if known != self._known:
            self._known = known
            self.run_worker(partial(self._find_runs, ended), group="choices", exclusive=True)

    async def _find_runs(self, ended: "list[RunRow]") -> None:
        home = self.workbench.home

        def look() -> "list[RunRow]":
            return [row for row in ended if answers.can_answer(home, row.id)]

        self._choices = await asyncio.to_thread(look)
        if not self.lineup.seats and self._choices:
            run = self._choices[0]
            self.lineup.add(f"{run.id}@base", f"base: {run.model or 'before training'}")
            self.lineup.add(run.id, f"tuned: {run.name}")
            self.rearrange()
        self.set_class(not self.lineup.seats, "-nothing")
        if self.lineup.seats and self.focused is None:
            self.focus_answers()
        self.refresh_bars()

    def _offers(self) -> list[Offer]:
        offers = []
        for run in self._choices:
            offers.append(Offer(run.id, run.name, _about(run)))
            offers.append(Offer(f"{run.id}@base", f"base of {run.name}", run.model or ""))
        return offers

    def action_columns(self) -> None:
        screen = ColumnsScreen(
            [Offer(seat.ref, seat.label) for seat in self.lineup.seats], self._offers()
        )
        self.workbench.push_screen(screen, lambda _: self._take_columns(screen.chosen))

    def _take_columns(self, chosen: list[Offer]) -> None:
        if self.asker.busy:
            self.workbench.say("still answering; ctrl+x stops the answers", "warning")
            return
        for seat in list(self.lineup.seats):
            if all(offer.ref != seat.ref for offer in chosen):
                self.lineup.remove(seat.ref)
        for offer in chosen:
            if offer.ref not in self.lineup:
                self.lineup.add(offer.ref, offer.label)
        if len(self.lineup.seats) < 2:
            self.blind = False
        self.lineup.reveal()
        self.sampling = self.sampling if self.run_id is not None else None
        self.copies = None
        self.set_class(not self.lineup.seats, "-nothing")
        self.rearrange()
        self.focus_answers()
        self.refresh_bars()

    def rearrange(self) -> None:
        self.panes.assign()
        self.show_prompt()

    def focus_answers(self) -> None:
        if self.panes.seats:
            self.set_focus(self.panes.pane_of(self.panes.seats[0]))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        asks = ("send", "write", "next_row", "random_row", "sampling", "formatted", "marks")
        if action in asks or action in (
            "system_prompt",
            "chat",
            "blind",
            "keep_prompt",
            "free",
            "stay",
        ):
            return bool(self.lineup.seats)
        if action in VOTES:
            return self.to_judge is not None
        if action in ("note", "take_back"):
            return bool(self.last_vote)
        if action in ("previous_view", "next_view"):
            return self.lineup.pages(self.panes.size.width or 80) > 1
        if action == "halt":
            return self.asker.busy
        return True

    def hint(self, action: Any) -> str:
        if self.to_judge is None:
            typing = self.query_one("#prompt").has_focus
            return "" if action.id == "send" and not typing else str(action.show)
        return VOTES.get(action.id, "" if action.screen else action.show)

    def action_next_view(self) -> None:
        self._turn(1)

    def action_previous_view(self) -> None:
        self._turn(-1)

    def _turn(self, by: int) -> None:
        self.lineup.turn(by, self.panes.size.width)
        self.rearrange()
        self.focus_answers()

    # --- the prompt

    def action_write(self) -> None:
        self.set_focus(self.query_one("#prompt"))

    def action_send(self) -> None:
        value = self.query_one("#prompt", Input).value
        # A field has one line: what it shows of a longer prompt is not what is asked again.
        again = self.prompt and value == promptrows.in_a_line(self.prompt)
        self.send(self.prompt if again else value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_send()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self.query_one("#prompt", Input).has_focus:
            self.forget_row()

    def action_next_row(self) -> None:
        self.next_prompt()

    def action_random_row(self) -> None:
        self.random_prompt()

    def show_prompt(self) -> None:
        if not self.query("#reference"):  # the workbench is being left
            return
        row = self.row
        self.set_class(bool(self.reference), "-with-reference")
        if self.reference:
            self.query_one("#reference", LinesView).show(self.reference)
        if self.prompt and (row is not None or not self.query_one("#prompt").has_focus):
            field = self.query_one("#prompt", Input)
            with self.prevent(Input.Changed):
                field.value = promptrows.in_a_line(self.prompt)
                field.cursor_position = len(field.value)
        told = [self.round_words] if self.round_words else []
        pages = self.lineup.pages(self.panes.size.width or 80)
        if pages > 1:
            told.append(f"[ ] page {self.lineup.page + 1} of {pages}")
        if row is not None:
            name = "test row" if row.source.endswith(":test") else clip(row.source, 30)
            told.append(f"{name} {row.number + 1:,} of {row.count:,}")
            if row.changed:
                told.append("its dataset changed since: perhaps trained on")
        if self.system:
            told.append("system prompt")
        if self.chat:
            told.append("conversation")
        if self.marks:
            told.append(f"marked: {self.marks}")
        self.query_one("#asking").border_subtitle = Text(clip(" · ".join(told), 110))

    # --- answers

    def asking_began(self) -> None:
        if not self.query("#asking"):
            return
        self.panes.touch_all()
        self.panes.paint()
        self._painter.resume()
        self._clock.resume()
        self.show_prompt()
        if self.query_one("#prompt").has_focus:
            self.focus_answers()
        self.refresh_bars()

    def answer_changed(self, seat: Seat) -> None:
        begins = bool(seat.answer.text) and seat not in self._begun
        self.panes.touch(seat)
        if begins:  # the first word at once, what follows at the painter's turns
            self._begun.add(seat)
            self.panes.paint()
            self._painter.reset()

    def asking_ended(self) -> None:
        if not self.query("#asking"):
            return
        self._painter.pause()
        self._clock.pause()
        self._begun.clear()
        self.panes.touch_all()
        self.panes.paint()
        self.show_prompt()
        self.refresh_bars()

    def _paint_on(self) -> None:
        if self.workbench.link.due("answers", SLOW_REPAINT_SECONDS):
            self.panes.paint()


def _about(row: "RunRow") -> str:
    loss = f", validation loss {row.best_eval_loss:.3f}" if row.best_eval_loss else ""
    return safe(f"{row.state}, step {row.step or 0}{loss}")
