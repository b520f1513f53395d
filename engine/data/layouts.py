"""The text around a row's prompt and completion: alpaca, plain, or the chat template."""

import re
from functools import cached_property

from engine.data.templates import ChatTemplate
from engine.data.tokenizer_files import TokenizerFiles
from engine.errors import UserError
from engine.recipe import FormatSection

__all__ = ["COMPLETION", "INSTRUCTION", "PROMPT", "SYSTEM", "Layout"]

PROMPT, COMPLETION, INSTRUCTION, SYSTEM = (f"\ue000{chr(0xE0F0 + n)}\ue001" for n in range(4))
"""Private-use characters that stand for a row's and the recipe's own texts in :attr:`frames`."""
_MARKS = re.compile("(\ue000[\ue0f0-\ue0f3]\ue001)")
_ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{prompt}\n\n### Response:\n"
)
_ALPACA_BARE = "### Input:\n{prompt}\n\n### Response:\n"


class Layout:
    """One format section for one tokenizer. Raises :class:`UserError` when the two do not fit."""

    def __init__(
        self, files: TokenizerFiles, section: FormatSection, special: dict[str, int]
    ) -> None:
        self._where = files.where
        self._section = section
        self._special = special
        self._eos = files.special_tokens.get("eos_token", "")
        self._chat: ChatTemplate | None = None
        if section.template == "chat":
            if files.chat_template is None:
                raise UserError(
                    f"{files.where}: the tokenizer has no chat template; set format.template to "
                    "alpaca or plain"
                )
            self._chat = ChatTemplate(files.chat_template, files.special_tokens, files.where)

    def texts(self, prompt: str, completion: str | None) -> tuple[str, str]:
        """Prompt text and completion text (with its end token); "" for no completion."""
        instruction = self._section.instruction
        if self._chat is not None:
            return self._chat_texts(prompt, completion)
        if self._section.template == "alpaca":
            layout = _ALPACA if instruction else _ALPACA_BARE
            before = layout.replace("{instruction}", instruction).replace("{prompt}", prompt)
        else:
            before = f"{instruction}\n{prompt}\n" if instruction else f"{prompt}\n"
        return before, "" if completion is None else completion + self._eos

    def _chat_texts(self, prompt: str, completion: str | None) -> tuple[str, str]:
        before, whole = self._render(prompt, completion)
        if completion is None:
            return before, ""
        if not whole.startswith(before):
            raise UserError(
                f"{self._where}: the chat template writes the prompt in another way when an answer "
                "follows; set format.template to alpaca or plain"
            )
        after = whole[len(before) :]
        if self._end is None:
            return before, after + self._eos
        # The answer ends with its end token: the model has nothing to learn from the line break
        # that some templates put behind it.
        return before, after[: len(after) - self._end]

    def _render(self, prompt: str, completion: str | None) -> tuple[str, str]:
        assert self._chat is not None
        section = self._section
        asked = f"{section.instruction}\n\n{prompt}" if section.instruction else prompt
        messages = [{"role": "system", "content": section.system}] if section.system else []
        messages.append({"role": "user", "content": asked})
        before = self._chat.render(messages, add_generation_prompt=True)
        if completion is None:
            return before, ""
        messages.append({"role": "assistant", "content": completion})
        return before, self._chat.render(messages, add_generation_prompt=False)

    @cached_property
    def _end(self) -> int | None:
        """Characters of white space behind the template's end-of-turn token; None without one."""
        before, whole = self._render("a", COMPLETION)
        tail = whole.removeprefix(before).partition(COMPLETION)[2]
        bare = tail.rstrip()
        if any(bare.endswith(token) for token in self._special):
            return len(tail) - len(bare)
        return None

    @cached_property
    def frames(self) -> tuple[list[str], list[str]]:
        """Prompt and completion text cut into the format's own pieces and marks for the row's."""
        section = self._section
        marked = section.model_copy(
            update={
                "instruction": INSTRUCTION if section.instruction else "",
                "system": SYSTEM if section.system else "",
            }
        )
        self._section = marked
        try:
            before, after = self.texts(PROMPT, COMPLETION)
        finally:
            self._section = section
        return _MARKS.split(before), _MARKS.split(after)
