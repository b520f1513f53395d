"""From a row to the token ids that the model is trained on: the one path for preview and trainer.

``tokenizers`` and the chat template rendered in a sandbox; no torch, no Transformers.

Prompt and completion are tokenised apart and put together, so the border between them is exact,
then cut at ``max_length``. Special tokens can come from the format only: where the text of a row
spells one out (``<|eot_id|>``), it is tokenised piece by piece, that spelling as plain text.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from engine.data.templates import ChatTemplate
from engine.data.tokenizer_files import TokenizerFiles, load_tokenizer_files
from engine.errors import UserError
from engine.recipe import FormatSection

if TYPE_CHECKING:
    from tokenizers import Encoding

__all__ = ["Example", "Formatter"]

BATCH = 1000
_PROMPT, _COMPLETION, _INSTRUCTION, _SYSTEM = (f"\ue000{chr(0xE0F0 + n)}\ue001" for n in range(4))
_MARKS = re.compile("(\ue000[\ue0f0-\ue0f3]\ue001)")
"""Private-use characters that stand for a row's texts where the template puts them."""
_ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{prompt}\n\n### Response:\n"
)
_ALPACA_BARE = "### Input:\n{prompt}\n\n### Response:\n"


class _Rows(Protocol):
    """A ``pyarrow.Table`` or record batch with the columns prompt and completion."""

    def column(self, name: str) -> Any: ...


@dataclass(slots=True)
class Example:
    """One row as the model sees it. All lists have the length after cutting."""

    text: str
    """Prompt text and completion text, whole; without a beginning-of-text that is only added."""
    input_ids: list[int]
    completion_mask: list[int]
    """1 for tokens of the completion, else 0."""
    length: int
    """Tokens before cutting."""
    truncated_at: int | None
    """Tokens kept (``max_length``) when the example was cut, else None."""
    offsets: list[tuple[int, int]]
    """Where each token lies in ``text`` (characters); (0, 0) for an added beginning-of-text."""


class _Part(NamedTuple):
    """A text, its token ids and their places in it."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


class Formatter:
    """Texts and tokens of rows for one model and one format. Load with :meth:`load`."""

    def __init__(self, files: TokenizerFiles, section: FormatSection, max_length: int) -> None:
        self.max_length = max_length
        self.where = files.where
        self._tokenizer = files.tokenizer
        self._section = section
        self._chat: ChatTemplate | None = None
        if section.template == "chat":
            if files.chat_template is None:
                raise UserError(
                    f"{files.where}: the tokenizer has no chat template; set format.template to "
                    "alpaca or plain"
                )
            self._chat = ChatTemplate(files.chat_template, files.special_tokens, files.where)
        self._eos = files.special_tokens.get("eos_token", "")
        eos_id, pad_id = files.token_id("eos_token"), files.token_id("pad_token")
        if eos_id is None:
            raise UserError(f"{files.where}: the tokenizer names no eos_token")
        self.bos_id = files.token_id("bos_token")
        self.eos_id: int = eos_id
        self.pad_id: int = eos_id if pad_id is None else pad_id
        added = self._tokenizer.encode("", add_special_tokens=True).ids
        self._adds_bos = self.bos_id is not None and added[:1] == [self.bos_id]
        self._special = {
            token.content: number
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content
        }
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._first_characters = {token[0] for token in self._special}
        self.stop_ids = {self.eos_id}
        """Tokens after which an answer is complete: eos, and what ends a turn of the template."""
        ends = self._encode([self.texts("a", "b")[1]])[0].ids[-1:]
        self.stop_ids |= {number for number in ends if number in self._special.values()}

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        format_section: FormatSection,
        max_length: int,
        revision: str = "",
    ) -> "Formatter":
        """The formatter of a tokenizer folder, a hub id in the cache, or the built-in model.

        Raises :class:`UserError` when the tokenizer is not there or has no chat template but needs
        one.
        """
        return cls(load_tokenizer_files(model_name_or_path, revision), format_section, max_length)

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def token(self, number: int) -> str:
        """The vocabulary's own spelling of a token."""
        return self._tokenizer.id_to_token(number) or f"<{number}>"

    def prompt(self, prompt: str) -> str:
        """The text that the model is given to go on from."""
        return self.texts(prompt, None)[0]

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens that the model is given, with beginning-of-text where the model wants one."""
        return self._prompt_parts([prompt], [self.prompt(prompt)])[0].ids

    def example(self, prompt: str, completion: str) -> Example:
        """One row as it is trained."""
        return next(self.examples([(prompt, completion)]))

    def examples(self, rows: "_Rows | Iterable[tuple[str, str]]") -> Iterator[Example]:
        """Examples of many rows, tokenised in batches on all cores.

        ``rows`` is an Arrow table or record batch with the columns prompt and completion, or pairs
        of them.
        """
        if hasattr(rows, "column"):
            columns = (rows.column(name).to_pylist() for name in ("prompt", "completion"))
            rows = zip(*columns, strict=True)
        pairs = iter(rows)
        while batch := list(islice(pairs, BATCH)):
            texts = [self.texts(prompt, completion) for prompt, completion in batch]
            prompts = self._prompt_parts(
                [prompt for prompt, _ in batch], [before for before, _ in texts]
            )
            completions = self._completion_parts(
                [completion for _, completion in batch], [after for _, after in texts]
            )
            yield from map(self._join, prompts, completions)

    def _join(self, prompt: _Part, completion: _Part) -> Example:
        ids = prompt.ids + completion.ids
        mask = [0] * len(prompt.ids) + [1] * len(completion.ids)
        shift = len(prompt.text)
        offsets = prompt.offsets + [(a + shift, b + shift) for a, b in completion.offsets]
        length, most = len(ids), self.max_length
        return Example(
            prompt.text + completion.text,
            ids[:most],
            mask[:most],
            length,
            most if length > most else None,
            offsets[:most],
        )

    # Texts.

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
                f"{self.where}: the chat template writes the prompt in another way when an answer "
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
        before, whole = self._render("a", _COMPLETION)
        tail = whole.removeprefix(before).partition(_COMPLETION)[2]
        bare = tail.rstrip()
        if any(bare.endswith(token) for token in self._special):
            return len(tail) - len(bare)
        return None

    # Tokens.

    def _spells_special(self, text: str) -> bool:
        return (
            any(character in text for character in self._first_characters)
            and self._special_text.search(text) is not None
        )

    def _encode(self, texts: list[str]) -> "list[Encoding]":
        return self._tokenizer.encode_batch(texts, add_special_tokens=False)

    def _prompt_parts(self, prompts: list[str], texts: list[str]) -> list[_Part]:
        section = self._section
        guard = self._spells_special(section.instruction) or self._spells_special(section.system)
        parts = []
        for prompt, text, encoding in zip(prompts, texts, self._encode(texts), strict=True):
            if guard or self._spells_special(prompt):
                part = self._apart(self._frames[0], prompt)
            else:
                part = _Part(text, encoding.ids, encoding.offsets)
            # A template that writes the beginning-of-text itself gets no second one.
            if self._adds_bos and self._chat is None:
                assert self.bos_id is not None
                part = _Part(part.text, [self.bos_id, *part.ids], [(0, 0), *part.offsets])
            parts.append(part)
        return parts

    def _completion_parts(self, completions: list[str], texts: list[str]) -> list[_Part]:
        return [
            self._apart(self._frames[1], completion)
            if self._spells_special(completion)
            else _Part(text, encoding.ids, encoding.offsets)
            for completion, text, encoding in zip(
                completions, texts, self._encode(texts), strict=True
            )
        ]

    @cached_property
    def _frames(self) -> tuple[list[str], list[str]]:
        """Prompt and completion text cut into the format's own pieces and marks for the row's."""
        section = self._section
        marked = section.model_copy(
            update={
                "instruction": _INSTRUCTION if section.instruction else "",
                "system": _SYSTEM if section.system else "",
            }
        )
        self._section = marked
        try:
            before, after = self.texts(_PROMPT, _COMPLETION)
        finally:
            self._section = section
        return _MARKS.split(before), _MARKS.split(after)

    def _apart(self, frame: list[str], outside: str) -> _Part:
        """Tokens of a text with special tokens only where the format itself has them.

        The text between two of the format's special tokens is tokenised as one piece, as the
        tokenizer itself does, but with special tokens in it taken as plain text.
        """
        section = self._section
        values = {
            _PROMPT: outside,
            _COMPLETION: outside,
            _INSTRUCTION: section.instruction,
            _SYSTEM: section.system,
        }
        text, places = "", []
        for piece in frame:
            if piece not in values:
                places += [
                    (len(text) + match.start(), len(text) + match.end())
                    for match in self._special_text.finditer(piece)
                ]
            text += values.get(piece, piece)
        part = _Part(text, [], [])
        done = 0
        for start, end in [*places, (len(text), len(text))]:
            if done < start:
                encoding = self._encode_plain(text[done:start])
                part.ids.extend(encoding.ids)
                part.offsets.extend((a + done, b + done) for a, b in encoding.offsets)
            if start < end:
                part.ids.append(self._special[text[start:end]])
                part.offsets.append((start, end))
            done = end
        return part

    def _encode_plain(self, text: str) -> "Encoding":
        self._tokenizer.encode_special_tokens = True
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        finally:
            self._tokenizer.encode_special_tokens = False
