"""The text of a row in segments, trained and not: alpaca, plain, the chat template, or bare text.

A pair is [what the model is given, its answer]; a conversation has one trained segment for every
answer of the assistant; a text is one trained segment.
"""

from collections.abc import Iterable
from functools import cached_property

from engine.data.encoding import Text
from engine.data.rows import Row
from engine.data.templates import ChatTemplate
from engine.data.tokenizer_files import TokenizerFiles
from engine.errors import UserError
from engine.recipe import FormatSection

__all__ = ["ALPACA", "ALPACA_BARE", "Format"]

_CONTENT = "\ue000\ue001"
"""Private-use characters that stand for an answer while the template is looked at."""
ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{prompt}\n\n### Response:\n"
)
_ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
ALPACA_BARE = "### Input:\n{prompt}\n\n### Response:\n"


class Format:
    """One format section for one tokenizer. Raises :class:`UserError` when the two do not fit."""

    def __init__(
        self, files: TokenizerFiles, section: FormatSection, special: Iterable[str]
    ) -> None:
        self._where = files.where
        self._template = section.template
        self._special = tuple(special)
        self._eos = files.special_tokens.get("eos_token", "")
        self._chat: ChatTemplate | None = None
        if section.template == "chat":
            if files.chat_template is None:
                raise UserError(
                    f"{files.where}: the tokenizer has no chat template; set format.template to "
                    "alpaca or plain"
                )
            where = "format.chat_template" if section.chat_template else files.where
            self._chat = ChatTemplate(
                files.chat_template, files.special_tokens, where, section.date
            )

    def text(self, row: Row) -> list[Text]:
        """A row that is nothing but text, whatever the template."""
        return [Text(row.completion + self._eos, True)]

    def pair(self, row: Row, with_answer: bool = True) -> list[Text]:
        """What is asked (instruction, system and prompt, as far as there are any), and the answer.

        Without ``with_answer`` only what is asked.
        """
        if self._chat is not None:
            return self._conversation(self._asked(row), row.completion if with_answer else None)
        before = self._before(row)
        if not with_answer:
            return [Text(before, False)]
        return [Text(before, False), Text(row.completion + self._eos, True)]

    def conversation(self, row: Row) -> list[Text]:
        """Every answer of the assistant trained, with the token that ends its turn."""
        messages = [{"role": m.role, "content": m.content} for m in row.messages]
        if self._chat is None:
            return self.pair(self._single(messages, row))
        if row.system and not any(message["role"] == "system" for message in messages):
            messages.insert(0, {"role": "system", "content": row.system})
        segments: list[Text] = []
        done = ""
        last = max((n for n, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                turn = self._conversation(
                    messages[:place], message["content"], done, ends=place == last
                )
                segments += turn
                done += "".join(segment.text for segment in turn)
        return segments

    def open(self, row: Row) -> list[Text]:
        """A conversation that waits for an answer: what the model is given to go on from.

        One question is a pair's, with the system message that comes with it. Of several turns the
        first one is: so it stays as it was when it was asked. Earlier answers are segments of their
        own, as in training. Raises :class:`UserError` where there is no place for them.
        """
        messages = [{"role": m.role, "content": m.content} for m in row.messages]
        system = row.system
        if messages and messages[0]["role"] == "system":
            system, messages = messages[0]["content"], messages[1:]
        roles = [message["role"] for message in messages]
        if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
            raise UserError(
                "a conversation has a system message or none, then turns of user and assistant, "
                f"and ends with the user's; this one has: {', '.join(roles) or 'no turns'}"
            )
        first = Row(messages[0]["content"], "", row.instruction, system)
        if len(messages) == 1:
            return self.pair(first, with_answer=False)
        if self._chat is None:
            raise UserError(
                f'format.template: "{self._template}" has a place for one question only, and this '
                "conversation has more turns; ask it anew, or use a model with format.template = "
                '"chat"'
            )
        turns = [*self._asked(first), *messages[1:]]
        try:
            segments: list[Text] = []
            done = ""
            for place, turn in enumerate(turns):
                if turn["role"] == "assistant":
                    said = self._conversation(turns[:place], turn["content"], done, ends=False)
                    segments += said
                    done += "".join(segment.text for segment in said)
            return [*segments, *self._conversation(turns, None, done)]
        except UserError:  # a template that writes earlier turns in another way
            return self._conversation(turns, None)

    def _conversation(
        self,
        messages: list[dict[str, str]],
        answer: str | None,
        done: str = "",
        ends: bool = True,
    ) -> list[Text]:
        """What comes behind ``done`` of the messages, and their answer as the template ends it."""
        assert self._chat is not None
        before = self._chat.render(messages, add_generation_prompt=True)
        if not before.startswith(done):
            raise UserError(
                f"{self._where}: the chat template writes earlier turns in another way when more "
                "follow, so a conversation cannot be trained turn by turn; give every turn a row "
                "of its own"
            )
        asked = Text(before[len(done) :] if done else before, False)
        if answer is None:
            return [asked]
        whole = self._chat.render(
            [*messages, {"role": "assistant", "content": answer}], add_generation_prompt=False
        )
        if not whole.startswith(before):
            raise UserError(
                f"{self._where}: the chat template writes the prompt in another way when an answer "
                "follows; set format.template to alpaca or plain"
            )
        after = whole[len(before) :]
        if self._end is None:
            return [asked, Text(after + self._eos if ends else after, True)]
        # The answer ends with its end token: the model has nothing to learn from the line break
        # that some templates put behind it.
        return [asked, Text(after[: len(after) - self._end], True)]

    @cached_property
    def _end(self) -> int | None:
        """Characters of white space behind the template's end-of-turn token; None without one."""
        assert self._chat is not None
        messages = [{"role": "user", "content": "a"}]
        before = self._chat.render(messages, add_generation_prompt=True)
        messages.append({"role": "assistant", "content": _CONTENT})
        whole = self._chat.render(messages, add_generation_prompt=False)
        tail = whole.removeprefix(before).partition(_CONTENT)[2]
        bare = tail.rstrip()
        if any(bare.endswith(token) for token in self._special):
            return len(tail) - len(bare)
        return None

    @staticmethod
    def _asked(row: Row) -> list[dict[str, str]]:
        both = row.instruction and row.prompt
        asked = f"{row.instruction}\n\n{row.prompt}" if both else row.instruction or row.prompt
        messages = [{"role": "system", "content": row.system}] if row.system else []
        messages.append({"role": "user", "content": asked})
        return messages

    def _before(self, row: Row) -> str:
        if self._template == "alpaca":
            if not row.instruction:
                before = ALPACA_BARE
            else:
                before = ALPACA if row.prompt else _ALPACA_NO_INPUT
            before = before.replace("{instruction}", row.instruction, 1)
            # From the end: the instruction may spell the mark out.
            before = row.prompt.join(before.rsplit("{prompt}", 1))
            return f"{row.system}\n\n{before}" if row.system else before
        lines = (row.system, row.instruction, row.prompt)
        return "".join(f"{line}\n" for line in lines if line) or "\n"

    def _single(self, messages: list[dict[str, str]], row: Row) -> Row:
        """The one question and answer of a conversation, as a pair."""
        system = row.system
        if messages[0]["role"] == "system":
            system, messages = messages[0]["content"], messages[1:]
        if [message["role"] for message in messages] != ["user", "assistant"]:
            raise UserError(
                f'format.template: "{self._template}" has a place for one question and one answer '
                'only, and this conversation has more; set format.template = "chat"'
            )
        question, answer = (message["content"] for message in messages)
        return Row(question, answer, row.instruction, system)
