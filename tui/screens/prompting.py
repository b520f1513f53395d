"""Where the Play screen's prompts come from and go to: history, saved sets, conversations."""

import asyncio

from engine.text import clip
from tui import promptrows
from tui.answertext import in_words
from tui.screens.ask import AskScreen
from tui.screens.choose import ChooseScreen
from tui.screens.playing import PlayingScreen

__all__ = ["PromptingScreen"]


class PromptingScreen(PlayingScreen):
    def rearrange(self) -> None:
        """Who is in sight, or what stands in the panes, changed."""

    def action_find(self) -> None:
        self.run_worker(self._find_prompt(), group="find", exclusive=True)

    async def _find_prompt(self) -> None:
        try:
            found = await asyncio.to_thread(promptrows.asked_before, self.workbench.home)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        if not found:
            self.workbench.say("no prompt was asked before")
            return
        options = [(str(n), promptrows.in_a_line(prompt)) for n, prompt in enumerate(found)]

        def chosen(number: str | None) -> None:
            if number is not None:
                self.row, self.prompt = None, found[int(number)]
                self.show_prompt()
                self.send(self.prompt)

        self.workbench.push_screen(ChooseScreen("Prompts asked before", options), chosen)

    def action_prompt_set(self) -> None:
        self.run_worker(self._choose_set(), group="sets", exclusive=True)

    async def _choose_set(self) -> None:
        try:
            sets = await asyncio.to_thread(promptrows.set_names, self.workbench.home)
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        options = [("", "the test rows of the run")]
        options += [(name, f"{name}  {count:,} prompt{'s' * (count != 1)}") for name, count in sets]

        def chosen(name: str | None) -> None:
            if name is not None:
                self.take_set(name)

        self.workbench.push_screen(ChooseScreen("Prompts from", options), chosen)

    def action_keep_prompt(self) -> None:
        def named(name: str | None) -> None:
            if name:
                self.run_worker(self._keep_prompt(name), group="keep")

        if not self.prompt:
            self.workbench.say("nothing was asked yet", "warning")
            return
        ask = AskScreen("Keep the prompt", "Name of the set, a new one or one there is:",
                        self.prompt_set)  # fmt: skip
        self.workbench.push_screen(ask, named)

    async def _keep_prompt(self, name: str) -> None:
        home, reference = self.workbench.home, self.reference
        try:
            count = await asyncio.to_thread(
                promptrows.keep_in_set, home, name, self.prompt, reference
            )
        except Exception as error:
            self.workbench.say(in_words(error), "error")
            return
        self.workbench.say(f"saved in set {clip(name, 40)}, which has {count:,} now")

    def action_system_prompt(self) -> None:
        def said(words: str | None) -> None:
            self.system = words or ""
            self.forget_turns()
            self.show_prompt()

        words = "What the model is told before every prompt; nothing takes it away."
        self.workbench.push_screen(AskScreen("System prompt", words, self.system), said)

    def action_chat(self) -> None:
        self.chat = not self.chat
        self.forget_turns()
        told = "a conversation from now on" if self.chat else "every prompt stands for itself"
        self.workbench.say(told)
        self.rearrange()
