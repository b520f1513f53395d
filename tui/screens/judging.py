"""Blind rounds on the Play screen: two columns without names, one key for the verdict."""

import asyncio
from typing import Any

from engine.text import clip
from tui import ballot
from tui.answertext import in_words
from tui.evaluated import LOOKS, evaluation_runs
from tui.lineup import Seat
from tui.screens.ask import AskScreen
from tui.screens.choose import ChooseScreen
from tui.screens.page import PageScreen
from tui.screens.prompting import PromptingScreen
from tui.widgets.lines import BOLD, PLAIN

__all__ = ["JudgingScreen"]


class JudgingScreen(PromptingScreen):
    """Asks a hidden pair while ``blind``, and keeps what is voted."""

    blind = False
    """Each prompt goes to a hidden pair."""
    last_vote = ""
    """Its id, for a note or to take it back."""

    @property
    def to_judge(self) -> tuple[Seat, Seat] | None:
        """The hidden pair, when both have answered."""
        pair = self.lineup.pair
        if len(pair) != 2 or self.asker.busy:
            return None
        if not all(seat.answer.stop_reason and not seat.answer.error for seat in pair):
            return None
        return pair[0], pair[1]

    def action_blind(self) -> None:
        if self.blind:
            self.blind = False
            self.lineup.reveal()
            self.workbench.say("names are shown again")
        elif len(self.lineup.seats) < 2:
            self.workbench.say("blind needs two columns: c adds one", "warning")
        else:
            self.blind = True
            self.workbench.say(
                "blind: names are hidden until you vote; n asks the next prompt", seconds=4
            )
        self.rearrange()
        self.refresh_bars()

    def action_vote_left(self) -> None:
        self._vote("left")

    def action_vote_right(self) -> None:
        self._vote("right")

    def action_vote_tie(self) -> None:
        self._vote("tie")

    def action_vote_bad(self) -> None:
        self._vote("both bad")

    def _vote(self, verdict: str) -> None:
        pair = self.to_judge
        if pair is not None:
            self.run_worker(self._keep(pair, verdict), group="vote", exclusive=True)

    async def _keep(self, pair: tuple[Seat, Seat], verdict: str) -> None:
        try:
            self.last_vote = await asyncio.to_thread(
                ballot.cast_vote,
                *(
                    self.workbench.home,
                    self.prompt,
                    self.row.source if self.row else "",
                    pair,
                    verdict,
                ),
                blind=True,
                reference=self.reference,
                sampling=self.sampling,
            )
        except Exception as error:
            self.workbench.say(f"the vote was not kept: {in_words(error)}", "error")
            return
        left, right = (clip(seat.label, 30) for seat in pair)
        said = {"left": left, "right": right}.get(verdict)
        told = f"{said} is better" if said else ballot.VERDICTS[verdict]
        self.workbench.say(f"voted: {told} (left was {left}, right {right})")
        self.lineup.reveal()
        self.rearrange()
        self.refresh_bars()
        self.next_prompt()

    def action_note(self) -> None:
        """On the last vote."""

        def noted(words: str | None) -> None:
            if words:
                self.run_worker(self._about_vote(ballot.note_vote, words, told="noted"))

        self.workbench.push_screen(AskScreen("A note on the last vote", "Why?"), noted)

    def action_take_back(self) -> None:
        self.run_worker(self._about_vote(ballot.take_back, told="the last vote is taken back"))

    async def _about_vote(self, do: Any, *words: str, told: str) -> None:
        try:
            await asyncio.to_thread(do, self.workbench.home, self.last_vote, *words)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        if do is ballot.take_back:
            self.last_vote = ""
            self.refresh_bars()
        self.workbench.say(told)

    def action_votes(self) -> None:
        self.run_worker(self._show_votes(), group="votes", exclusive=True)

    async def _show_votes(self) -> None:
        try:
            lines = await asyncio.to_thread(ballot.win_rate_lines, self.workbench.home)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        runs = [(f"{line}\n", PLAIN if line.startswith(" ") else BOLD) for line in lines]
        self.workbench.push_screen(
            PageScreen.of_runs("Votes", runs, "tunebench votes export saves them · esc closes")
        )

    def action_evaluation(self) -> None:
        options = [(look, words) for look, words in LOOKS.items()]

        def chosen(look: str | None) -> None:
            if look is not None:
                self.run_worker(self._show_evaluation(look), group="evaluation", exclusive=True)

        self.workbench.push_screen(ChooseScreen("The run's evaluation", options), chosen)

    async def _show_evaluation(self, look: str) -> None:
        run = self.run_id
        if run is None:
            self.workbench.say("no run is among the columns", "warning")
            return
        try:
            title, runs = await asyncio.to_thread(evaluation_runs, self.workbench.home, run, look)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        self.workbench.push_screen(PageScreen.of_runs(title, runs))

    def before_asking(self) -> None:
        if self.blind:
            self.lineup.hide()
            self.rearrange()

    @property
    def round_words(self) -> str:
        """What the prompt's pane says during a blind round; "": there is none."""
        if not self.blind:
            return ""
        return "which one is better?" if self.to_judge else "blind"
