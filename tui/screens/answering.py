"""How the Play screen's columns answer: sampling, what they are given, what is marked."""

import asyncio
from typing import Any

from textual.widgets import Input

from engine.text import clip
from tui import answers
from tui.answertext import MARKS, in_words
from tui.lineup import Seat
from tui.screens.judging import JudgingScreen
from tui.screens.page import PageScreen
from tui.screens.sampling import ITSELF, Sampled, SamplingScreen
from tui.widgets.answerpanes import AnswerPanes

__all__ = ["AnsweringScreen"]


STAY_SECONDS = 600.0


class AnsweringScreen(JudgingScreen):
    staying = False
    """The models outlive the workbench for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.panes = AnswerPanes(self.lineup, id="answers")

    def action_sampling(self) -> None:
        self.run_worker(self._ask_sampling(), group="sampling", exclusive=True)

    async def _ask_sampling(self) -> None:
        seat = self.panes.seat_in_focus()
        if self.sampling is None:
            try:
                self.sampling = await asyncio.to_thread(self._read_sampling)
            except Exception as error:
                self.workbench.say(in_words(error), "error")
                return
        if seat is None:
            return
        sampling = self.sampling

        def taken(made: Sampled | None) -> None:
            if made is None:
                return
            whom, settings = made
            if whom == ITSELF:
                held = sampling.model_dump()
                own = settings.model_dump()
                seat.sampling = {key: own[key] for key in own if own[key] != held[key]}
            else:
                self.sampling = settings
                seat.sampling = {}
            self.panes.touch_all()
            self.panes.paint()

        screen = SamplingScreen(
            seat.settings(sampling), clip(seat.label, 40), own=bool(seat.sampling)
        )
        self.workbench.push_screen(screen, taken)

    def action_marks(self) -> None:
        order = list(MARKS)
        self.marks = self.panes.marks = order[(order.index(self.marks) + 1) % len(order)]
        told = MARKS[self.marks]
        if self.marks == "probabilities" and not any(s.answer.pieces for s in self.lineup.seats):
            told += ", from the next prompt on"
        self.workbench.clear_notifications()  # of the mark before
        self.workbench.say(f"marked: {told}" if self.marks else told, seconds=4)
        if self.marks == "copies":
            self.run_worker(self.find_copies(), group="copies", exclusive=True)
        self.panes.touch_all()
        self.panes.paint()
        self.show_prompt()

    def action_formatted(self) -> None:
        seat = self.panes.seat_in_focus()
        if seat is not None:
            self.run_worker(self._show_formatted(seat), group="formatted", exclusive=True)

    async def _show_formatted(self, seat: Seat) -> None:
        prompt = self.given(seat, self.prompt or self.query_one("#prompt", Input).value)
        home = self.workbench.home

        def make() -> Any:
            seat.column = seat.column or answers.column(home, seat.ref)
            return answers.formatted(seat.column, prompt)

        try:
            made = await asyncio.to_thread(make)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        tokens = [{"id": id, "text": text, "trained": False} for id, text in made.tokens]
        room = f" of {made.context:,}" if made.context else ""
        title = f"What {clip(seat.label, 30)} is given: {len(tokens):,} tokens{room}"
        self.workbench.push_screen(PageScreen(title, lambda pane: pane.show_tokens(tokens)))

    async def action_halt(self) -> None:
        await self.asker.halt()

    async def action_stay(self) -> None:
        try:
            loaded = await self.asker.stay(0 if self.staying else STAY_SECONDS)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        if not loaded:
            self.workbench.say("no models are loaded yet", "warning")
            return
        self.staying = not self.staying
        told = "for 10 minutes after you leave" if self.staying else "only as long as you are here"
        self.workbench.say(f"the models stay loaded {told}")

    async def action_free(self) -> None:
        if self.asker.busy:
            self.workbench.say("still answering; ctrl+x stops the answers", "warning")
            return
        try:
            await self.asker.free()
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        self.workbench.say("the models' memory is free; the next prompt loads them again")
