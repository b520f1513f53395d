"""What the Play screen does without looks: whom it asks, what, and what comes back."""

import asyncio
import random
from typing import TYPE_CHECKING, Any

from engine.text import clip
from tui import closely, promptrows
from tui.answertext import Answer, in_words
from tui.asker import Asker
from tui.lineup import Lineup, Seat
from tui.promptrows import HeldOutRow
from tui.screens.base import WorkbenchScreen
from tui.screens.confirm import ConfirmScreen

if TYPE_CHECKING:
    from engine.recipe import GenerateSection

__all__ = ["PlayingScreen"]


class PlayingScreen(WorkbenchScreen):
    """Columns, the prompt, its reference, and one question at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.lineup = Lineup()
        self.asker = Asker(lambda: self.workbench.home, self.answer_changed)
        self.prompt: Any = ""
        """What was asked last: a text, or messages; as it is, whatever the field shows."""
        self.row: HeldOutRow | None = None
        """Where the prompt stands, when it came from a list."""
        self.prompt_set = ""
        """The saved set that prompts come from; "": the test rows."""
        self.sampling: GenerateSection | None = None
        """Of all columns; None: not read yet."""
        self.system = ""
        self.chat = False
        """Answers are part of a conversation that goes on."""
        self.marks = ""
        self.copies: Any = None
        """The engine's index of what the run was trained on; None: not opened, or not built."""
        self._number = -1
        self._drawn = 0
        """Rows drawn by chance so far: each has a seed of its own."""

    # --- what the looks do with it

    def answer_changed(self, seat: Seat) -> None:
        """Something came, or is being done."""

    def asking_began(self) -> None: ...

    def asking_ended(self) -> None: ...

    def show_prompt(self) -> None:
        """The prompt, or where it comes from, is another one."""

    # --- who

    @property
    def run_id(self) -> str | None:
        """The run whose test rows, template and sampling count: the first one that answers."""
        for seat in self.lineup.seats:
            id = seat.ref.partition("@")[0]
            if (self.workbench.home.runs / id).is_dir() and id:
                return id
        return None

    # --- asking

    def send(self, prompt: Any) -> None:
        """Ask everybody."""
        if self.asker.busy:
            self.workbench.say("still answering; ctrl+x stops the answers", "warning")
            return
        if not self.lineup.seats:
            return
        if isinstance(prompt, str) and not prompt.strip():
            self.workbench.say("the prompt is empty: i writes one, n takes a test row", "warning")
            return
        self.prompt = prompt
        self.run_worker(self._send(prompt), group="send", exclusive=True)

    async def _send(self, prompt: Any) -> None:
        try:
            if self.sampling is None:
                self.sampling = await asyncio.to_thread(self._read_sampling)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        self.before_asking()
        seats = self.lineup.asked()
        for seat in seats:
            seat.answer = Answer(seat.label, done=False, before=self._said_before(seat, prompt))
            self.answer_changed(seat)
        self.asker.ask(
            seats,
            [self.given(seat, prompt) for seat in seats],
            self.sampling,
            probabilities=self.marks == "probabilities",
            ended=self._answered,
        )
        self.asking_began()
        source = self.row.source if self.row else "typed"
        self.run_worker(self._remember(prompt, source), group="remember")

    def before_asking(self) -> None:
        """Last changes to who is asked."""

    def _read_sampling(self) -> "GenerateSection":
        from engine.recipe import GenerateSection

        run = self.run_id
        if run is None:
            return GenerateSection()
        return promptrows.recipe_of(self.workbench.home, run).generate

    def given(self, seat: Seat, prompt: Any) -> Any:
        """What a column is asked: the text as it is, or a conversation."""
        if not isinstance(prompt, str) or not (self.chat or self.system):
            return prompt
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = seat.turns if self.chat else []
        return [*system, *turns, {"role": "user", "content": prompt}]

    def _said_before(self, seat: Seat, prompt: Any) -> list[tuple[str, str]]:
        if not self.chat or not isinstance(prompt, str):
            return []
        turns = [*seat.turns, {"role": "user", "content": prompt}]
        return [("you" if one["role"] == "user" else "model", one["content"]) for one in turns]

    async def _remember(self, prompt: Any, source: str) -> None:
        try:
            await asyncio.to_thread(promptrows.remember, self.workbench.home, prompt, source)
        except Exception as error:
            self.workbench.say(f"the prompt was not kept: {in_words(error)}", "warning")

    def _answered(self) -> None:
        if not self.is_attached:
            return
        if self.asker.consent:
            self._ask_consent(self.asker.consent)
        seats = list(self.lineup.asked())
        for seat in seats:
            if self.chat and isinstance(self.prompt, str) and not seat.answer.error:
                seat.turns += [
                    {"role": "user", "content": self.prompt},
                    {"role": "assistant", "content": seat.answer.text},
                ]
        self.asking_ended()
        self.run_worker(self._read_closely(seats), group="reading", exclusive=True)

    async def _read_closely(self, seats: list[Seat]) -> None:
        """Say where answers repeat themselves, and what is copied where that is known."""
        home, run = self.workbench.home, self.run_id
        if self.copies is None:
            self.copies = await asyncio.to_thread(closely.open_copies, home, run)
        await asyncio.to_thread(closely.look, [seat.answer for seat in seats], self.copies)
        for seat in seats:
            self.answer_changed(seat)
        self.asking_ended()

    async def find_copies(self) -> None:
        """Build the index of the training rows where there is none, and look again."""
        run = self.run_id
        if self.copies is None and run is not None:
            app, home = self.workbench, self.workbench.home
            self.workbench.say("reading the training rows for copies; answers go on meanwhile")
            try:
                self.copies = await asyncio.to_thread(
                    closely.build_copies, home, run, lambda words: None, lambda: not app.is_running
                )
            except Exception as error:
                self.workbench.say(in_words(error), "error")
                return
        if not self.asker.busy:
            await self._read_closely(self.lineup.asked())

    def _ask_consent(self, why: str) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.asker.allowed = True
                self.send(self.prompt)

        self.workbench.push_screen(ConfirmScreen("Load it beside the training?", [why]), answered)

    # --- prompts from a list

    def next_prompt(self) -> None:
        self._take(self._number + 1)

    def random_prompt(self) -> None:
        """By the seed of the sampling, so that the same rows come again in the same order."""
        seed = self.sampling.seed if self.sampling is not None else 0
        self._drawn += 1
        self._take(random.Random(f"{seed} {self._drawn}").getrandbits(31))

    def _take(self, number: int) -> None:
        if self.asker.busy:
            self.workbench.say("still answering; ctrl+x stops the answers", "warning")
        else:
            self.run_worker(self._take_row(number), group="row", exclusive=True)

    async def _take_row(self, number: int) -> None:
        home, run = self.workbench.home, self.run_id
        try:
            if self.prompt_set:
                row = await asyncio.to_thread(promptrows.set_row, home, self.prompt_set, number)
            elif run is not None:
                row = await asyncio.to_thread(promptrows.test_row, home, run, number)
            else:
                self.workbench.say("no run answers, so there are no test rows: P takes a set")
                return
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        self.row, self._number = row, row.number
        self.prompt = row.prompt
        self.show_prompt()
        self.send(row.prompt)

    def take_set(self, name: str) -> None:
        """Prompts come from this saved set from now on ("": from the test rows)."""
        self.prompt_set, self._number = name, -1
        words = f"set {clip(name, 40)}" if name else "the test rows"
        self.workbench.say(f"prompts come from {words}: n takes the first")

    def forget_row(self) -> None:
        """The prompt is no longer that of a list."""
        if self.row is not None:
            self.row = None
            self.show_prompt()

    @property
    def reference(self) -> str:
        return self.row.reference if self.row is not None else ""

    # --- the conversation

    def forget_turns(self) -> None:
        for seat in self.lineup.seats:
            seat.turns = []
