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

from engine.data.layouts import COMPLETION, INSTRUCTION, PROMPT, SYSTEM, Layout
from engine.data.tokenizer_files import TokenizerFiles, load_tokenizer_files
from engine.errors import UserError
from engine.recipe import FormatSection

if TYPE_CHECKING:
    from tokenizers import Encoding

__all__ = ["Example", "Formatter"]

BATCH = 1000


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
        self._layout = Layout(files, section, self._special)
        self._own = (section.instruction, section.system)
        self._is_chat = section.template == "chat"
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._first_characters = {token[0] for token in self._special}
        self._guarded = any(map(self._spells_special, self._own))
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

    def texts(self, prompt: str, completion: str | None) -> tuple[str, str]:
        """Prompt text and completion text (with its end token); "" for no completion."""
        return self._layout.texts(prompt, completion)

    def prompt(self, prompt: str) -> str:
        """The text that the model is given to go on from."""
        return self.texts(prompt, None)[0]

    def prompt_ids(self, prompt: str) -> list[int]:
        """The tokens that the model is given, with beginning-of-text where the model wants one."""
        return self._prompt_parts([prompt], [self.prompt(prompt)])[0].ids

    def example(self, prompt: str, completion: str) -> Example:
        """One row as it is trained."""
        return next(self.examples([(prompt, completion)]))

    def examples(
        self, rows: "_Rows | Iterable[tuple[str, str]]", *, whole: bool = True
    ) -> Iterator[Example]:
        """Examples of many rows, tokenised in batches on all cores.

        ``rows`` is an Arrow table or record batch with the columns prompt and completion, or pairs
        of them. With ``whole=False`` the ids and masks are the same but come sooner, because text
        behind ``max_length`` is not tokenised: ``length`` is then only the least that it can be,
        and ``offsets`` is empty. That is enough for training.
        """
        if hasattr(rows, "column"):
            columns = (rows.column(name).to_pylist() for name in ("prompt", "completion"))
            rows = zip(*columns, strict=True)
        pairs = iter(rows)
        while batch := list(islice(pairs, BATCH)):
            texts = [self.texts(prompt, completion) for prompt, completion in batch]
            prompts = self._prompt_parts(
                [prompt for prompt, _ in batch], [before for before, _ in texts], whole
            )
            completions = [completion for _, completion in batch]
            afters = [after for _, after in texts]
            if whole or not self._words_apart:
                answers = self._completion_parts(completions, afters, whole)
            else:
                rooms = [max(1, self.max_length - len(prompt.ids)) for prompt in prompts]
                answers = self._first_parts(completions, afters, rooms)
            for prompt, answer in zip(prompts, answers, strict=True):
                example = self._join(prompt, answer)
                if not whole:
                    example.offsets = []
                yield example

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

    def _spells_special(self, text: str) -> bool:
        return (
            any(character in text for character in self._first_characters)
            and self._special_text.search(text) is not None
        )

    def _encode(self, texts: list[str], places: bool = True) -> list[_Part]:
        """Parts of texts that may name special tokens; with no offsets when not ``places``."""
        if not places:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            return [_Part(text, e.ids, []) for text, e in zip(texts, encodings, strict=True)]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [_Part(text, e.ids, e.offsets) for text, e in zip(texts, encodings, strict=True)]

    def _prompt_parts(
        self, prompts: list[str], texts: list[str], places: bool = True
    ) -> list[_Part]:
        parts = []
        for prompt, part in zip(prompts, self._encode(texts, places), strict=True):
            if self._guarded or self._spells_special(prompt):
                part = self._apart(self._layout.frames[0], prompt)
            # A template that writes the beginning-of-text itself gets no second one.
            if self._adds_bos and not self._is_chat:
                assert self.bos_id is not None
                part = _Part(part.text, [self.bos_id, *part.ids], [(0, 0), *part.offsets])
            parts.append(part)
        return parts

    def _completion_parts(
        self, completions: list[str], texts: list[str], places: bool = True
    ) -> list[_Part]:
        return [
            self._apart(self._layout.frames[1], completion)
            if self._spells_special(completion)
            else part
            for completion, part in zip(completions, self._encode(texts, places), strict=True)
        ]

    def _first_parts(
        self, completions: list[str], texts: list[str], rooms: list[int]
    ) -> list[_Part]:
        """As :meth:`_completion_parts`, but of long texts only what more than fills the room."""
        heads = [
            text if self._spells_special(completion) else _head(text, room)
            for completion, text, room in zip(completions, texts, rooms, strict=True)
        ]
        parts = self._completion_parts(completions, heads, places=False)
        again = [
            place
            for place, part in enumerate(parts)
            if len(heads[place]) < len(texts[place]) and len(part.ids) <= rooms[place]
        ]
        redone = self._completion_parts(
            [completions[n] for n in again], [texts[n] for n in again], places=False
        )
        for place, part in zip(again, redone, strict=True):
            parts[place] = part
        for place, text in enumerate(texts):
            if len(heads[place]) < len(text):
                parts[place] = parts[place]._replace(text=text)
        return parts

    @cached_property
    def _words_apart(self) -> bool:
        """Whether the tokenizer never joins what lies on both sides of a space."""
        before = self._tokenizer.pre_tokenizer
        return before is not None and [span for _, span in before.pre_tokenize_str("ab cd")] == [
            (0, 2),
            (2, 5),
        ]

    def _apart(self, frame: list[str], outside: str) -> _Part:
        """Tokens of a text with special tokens only where the format itself has them.

        The text between two of the format's special tokens is tokenised as one piece, as the
        tokenizer itself does, but with special tokens in it taken as plain text.
        """
        instruction, system = self._own
        values = {PROMPT: outside, COMPLETION: outside, INSTRUCTION: instruction, SYSTEM: system}
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


def _head(text: str, tokens: int) -> str:
    """A beginning of ``text`` that ends before a lone space, most likely of ``tokens`` tokens."""
    most = max(256, 8 * tokens)
    if len(text) <= most:
        return text
    at = text.rfind(" ", 1, most)
    while at > 0 and (text[at - 1].isspace() or text[at + 1].isspace()):
        at = text.rfind(" ", 1, at)
    return text[:at] if at > 0 else text
