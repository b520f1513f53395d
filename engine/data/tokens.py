"""From a row to the token ids that the model is trained on: the one path for preview and trainer.

``tokenizers`` and the chat template rendered in a sandbox; no torch, no Transformers.

A row's segments (prompt and completion, the turns of a conversation) are tokenised apart and put
together, so the borders between them are exact, then cut at ``max_length``.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

from engine.data.encoding import Encoder, Part, Text
from engine.data.formats import Format
from engine.data.rows import Message, Row
from engine.data.tokenizer_files import (
    TokenizerFiles,
    chat_template,
    load_tokenizer_files,
    tokenizer_state,
)
from engine.errors import UserError
from engine.recipe import FormatSection, Recipe

__all__ = ["Example", "Formatter", "FormatterSource", "Messages"]

BATCH = 1000

Messages = Sequence[Mapping[str, str]]
"""Turns of a conversation, each with its "role" and its "content"."""


@runtime_checkable
class _Rows(Protocol):
    """A ``pyarrow.Table`` or record batch with the columns of a dataset."""

    schema: Any

    def column(self, name: str) -> Any: ...


@dataclass(slots=True)
class Example:
    """One row as the model sees it. All lists have the length after cutting."""

    text: str
    """Its segments' texts, whole; without a beginning-of-text that is only added."""
    input_ids: list[int]
    completion_mask: list[int]
    """1 for tokens of answers (completion, turns of the assistant, a bare text), else 0."""
    length: int
    """Tokens before cutting."""
    truncated_at: int | None
    """Tokens kept (``max_length``) when the example was cut, else None."""
    offsets: list[tuple[int, int]]
    """Where each token lies in ``text`` (characters); (0, 0) for an added beginning-of-text."""
    answer_length: int
    """Tokens of answers before cutting."""
    answer_end: int
    """Tokens up to the end of the last answer, before cutting: fewer of them cut an answer."""

    def trained(self, completion_only: bool) -> list[bool]:
        """Which tokens the loss counts. Never the first: nothing comes before it to predict it."""
        if completion_only:
            mask = list(map(bool, self.completion_mask))
        else:
            mask = [True] * len(self.input_ids)
        mask[:1] = [False] * len(mask[:1])
        return mask


class FormatterSource(NamedTuple):
    """What a formatter was loaded from, so that another process can load the same."""

    model_name_or_path: str
    section: FormatSection
    """With a date, where the template may write one."""
    max_length: int
    revision: str
    add_tokens: tuple[str, ...]
    template: str
    """Jinja text of the chat template; "" where the format needs none."""
    state: list[tuple[str, int, int]]
    """Of the tokenizer's files before they were read."""

    def load(self) -> "Formatter":
        return Formatter.load(*self[:5])


class Formatter:
    """Texts and tokens of rows for one model and one format. Load with :meth:`load`."""

    source: FormatterSource | None = None
    """Set by :meth:`load`."""

    def __init__(self, files: TokenizerFiles, section: FormatSection, max_length: int) -> None:
        self.max_length = max_length
        self.where = files.where
        eos_id, pad_id = files.token_id("eos_token"), files.token_id("pad_token")
        if eos_id is None:
            raise UserError(f"{files.where}: the tokenizer names no eos_token")
        self.bos_id = files.token_id("bos_token")
        self.eos_id: int = eos_id
        self.pad_id: int = eos_id if pad_id is None else pad_id
        self.unknown_id = files.unknown_id()
        """What stands for text that the vocabulary has no tokens for; None: there is no such."""
        self._encoder = Encoder(files)
        added = files.tokenizer.encode("", add_special_tokens=True).ids
        self._adds_bos = self.bos_id is not None and added[:1] == [self.bos_id]
        self._format = Format(files, section, self._encoder.special)
        self.instruction, self._system = section.instruction, section.system
        self._is_chat = section.template == "chat"
        own = (section.instruction, section.system)
        self._guarded = any(map(self._encoder.spells_special, own))
        self.stop_ids = {self.eos_id}
        """Tokens after which an answer is complete: eos, and what ends a turn of the template."""
        answer = self._texts(Row("a", "b"), "pair")[-1]
        ends = self._encoder.encode([answer], False)[0].ids[-1:]
        self.stop_ids |= {number for number in ends if number in self._encoder.special.values()}

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        format_section: FormatSection,
        max_length: int,
        revision: str = "",
        add_tokens: Sequence[str] = (),
    ) -> "Formatter":
        """The formatter of a tokenizer folder, a hub id in the cache, or the built-in model.

        ``add_tokens`` are special tokens that the vocabulary is given besides its own. Raises
        :class:`UserError` when the tokenizer is not there or has no chat template but needs one.
        """
        state = tokenizer_state(model_name_or_path, revision)
        files = load_tokenizer_files(model_name_or_path, revision)
        files.add(add_tokens)
        if format_section.chat_template:
            files.chat_template = chat_template(format_section.chat_template)
        if format_section.template == "chat" and not format_section.date:
            today = {"date": datetime.date.today().isoformat()}
            format_section = format_section.model_copy(update=today)
        formatter = cls(files, format_section, max_length)
        formatter.source = FormatterSource(
            *(model_name_or_path, format_section, max_length, revision, tuple(add_tokens)),
            template=(files.chat_template or "") if formatter._is_chat else "",
            state=state,
        )
        return formatter

    @classmethod
    def of(cls, recipe: Recipe) -> "Formatter":
        """The formatter of a recipe's model, format and length; see :meth:`load`."""
        model = recipe.model
        return cls.load(
            model.model_name_or_path,
            recipe.format,
            recipe.train.max_length,
            model.revision,
            model.add_tokens,
        )

    @property
    def vocabulary_size(self) -> int:
        return int(self._encoder.tokenizer.get_vocab_size())

    @property
    def special_tokens(self) -> dict[str, int]:
        """Spelling -> id of the special tokens."""
        return self._encoder.special

    def token(self, number: int) -> str:
        """The vocabulary's own spelling of a token."""
        return self._encoder.tokenizer.id_to_token(number) or f"<{number}>"

    def ends(self, example: Example) -> bool:
        """Whether its last token, after cutting, ends the text or the turn."""
        return example.input_ids[-1:] != [] and example.input_ids[-1] in self.stop_ids

    def begins_twice(self, example: Example) -> bool:
        """Whether it begins with two beginning-of-text tokens."""
        return self.bos_id is not None and example.input_ids[:2] == [self.bos_id] * 2

    def unknown_tokens(self, example: Example) -> int:
        """How many of its tokens stand for text that the vocabulary has no tokens for."""
        return 0 if self.unknown_id is None else example.input_ids.count(self.unknown_id)

    def prompt(self, prompt: str | Messages) -> str:
        """The text that the model is given to go on from.

        A prompt is a text, or a conversation that ends with what the user says: a system message
        takes the place of the format's own, the format's instruction stands before the first turn.
        Raises :class:`UserError` for a conversation that the format has no place for.
        """
        return "".join(text.text for text in self._prompt(prompt))

    def prompt_ids(self, prompt: str | Messages) -> list[int]:
        """The tokens that the model is given, with beginning-of-text where the model wants one."""
        parts = self._encoder.encode(self._prompt(prompt), False)
        return [*self._bos("pair"), *chain.from_iterable(part.ids for part in parts)]

    def prompt_tokens(self, prompt: str | Messages) -> list[tuple[int, str]]:
        """The same with the text that each stands for; its own name where it stands for none."""
        texts = self._prompt(prompt)
        found = [(number, self.token(number)) for number in self._bos("pair")]
        for text, part in zip(texts, self._encoder.encode(texts, True), strict=True):
            pieces = (text.text[start:end] for start, end in part.offsets)
            found += [
                (number, piece or self.token(number))
                for number, piece in zip(part.ids, pieces, strict=True)
            ]
        return found

    def example(self, prompt: str, completion: str) -> Example:
        """One pair as it is trained."""
        return next(self.examples([(prompt, completion)]))

    def examples(
        self,
        rows: "_Rows | Iterable[Row | tuple[str, str]]",
        *,
        shape: str = "",
        whole: bool = True,
        offsets: bool = True,
    ) -> Iterator[Example]:
        """Examples of many rows, tokenised in batches on all cores.

        ``rows`` is an Arrow table or record batch of a dataset (its columns say what rows have),
        or :class:`Row` objects, or pairs of prompt and completion. ``shape`` is the dataset's; ""
        takes a row with nothing but a completion for a text.

        With ``whole=False`` the ids and masks are the same but come sooner, because text behind
        ``max_length`` is not tokenised: ``length``, ``answer_length`` and ``answer_end`` are then
        only the least that they can be, and there are no ``offsets``. That is enough for training.
        Raises :class:`UserError` for a row that the format has no place for, naming its line where
        the table has lines.
        """
        lines = None
        if isinstance(rows, _Rows):
            if "line" in rows.schema.names:
                lines = iter(rows.column("line").to_pylist())
            rows = _read(rows)
        given = iter(rows)
        while batch := list(islice(given, BATCH)):
            numbers = list(islice(lines, len(batch))) if lines is not None else None
            shapes = [_shape(row, shape) for row in batch]
            texts = []
            for place, (row, its) in enumerate(zip(batch, shapes, strict=True)):
                try:
                    texts.append(self._texts(row if isinstance(row, Row) else Row(*row), its))
                except UserError as error:
                    if numbers is None:
                        raise
                    raise UserError(f"{error} (row of line {numbers[place]:,})") from None
            yield from self._batch(texts, shapes, whole, offsets and whole)

    def _batch(
        self, rows: list[list[Text]], shapes: list[str], whole: bool, places: bool
    ) -> Iterator[Example]:
        """The rows' first segments together, then their second ones, and so on."""
        most = self.max_length
        parts: list[list[Part]] = [[] for _ in rows]
        begins = [self._bos(shape) for shape in shapes]
        lengths = list(map(len, begins))
        for turn in count():
            open_ = [
                place
                for place, texts in enumerate(rows)
                if len(texts) > turn and (whole or lengths[place] <= most)
            ]
            if not open_:
                break
            texts = [rows[place][turn] for place in open_]
            if whole:
                found = self._encoder.encode(texts, places)
            else:
                rooms = [max(1, most - lengths[place]) for place in open_]
                found = self._encoder.encode_heads(texts, rooms)
            for place, part in zip(open_, found, strict=True):
                parts[place].append(part)
                lengths[place] += len(part.ids)
        for row, bos, its_parts in zip(rows, begins, parts, strict=True):
            yield self._join(row, bos, its_parts, places)

    def _join(self, texts: list[Text], bos: list[int], parts: list[Part], places: bool) -> Example:
        ids = list(bos)
        answers = end = len(bos) if texts[0].trained else 0
        mask = [int(texts[0].trained)] * len(bos)
        offsets = [(0, 0)] * len(bos) if places else []
        shift = 0
        for text, part in zip(texts, parts, strict=False):  # fewer parts than texts when cut
            ids += part.ids
            if text.trained:
                mask += [1] * len(part.ids)
                answers += len(part.ids)
                end = len(ids)
            else:
                mask += [0] * len(part.ids)
            if places:
                offsets += [(a + shift, b + shift) for a, b in part.offsets]
                shift += len(text.text)
        whole, length, most = "".join([text.text for text in texts]), len(ids), self.max_length
        if length <= most:
            return Example(whole, ids, mask, length, None, offsets, answers, end)
        return Example(whole, ids[:most], mask[:most], length, most, offsets[:most], answers, end)

    def _bos(self, shape: str) -> list[int]:
        """The beginning-of-text to add; a template that writes it itself gets no second one."""
        if self._adds_bos and (shape == "text" or not self._is_chat):
            assert self.bos_id is not None
            return [self.bos_id]
        return []

    def _prompt(self, prompt: str | Messages) -> list[Text]:
        if isinstance(prompt, str):
            return self._texts(Row(prompt, ""), "pair", with_answer=False)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
        return self._texts(Row("", "", messages=messages), "open", with_answer=False)

    def _texts(self, row: Row, shape: str, with_answer: bool = True) -> list[Text]:
        """The row's segments, with special tokens where the format has them and nowhere else."""
        prompt, completion, instruction, system, messages = row
        spells = self._encoder.spells_special
        hostile = self._guarded or spells(prompt) or spells(completion)
        told: list[str] = []
        if instruction or system or messages:
            told = [instruction, system, *(text for message in messages for text in message)]
            hostile = hostile or any(map(spells, told))
        row = Row(
            prompt, completion, instruction or self.instruction, system or self._system, messages
        )
        if not hostile:
            return self._segments(row, shape, with_answer)
        hide, show = self._encoder.escape([*row[:4], *told])
        row = Row(
            *(hide(row.prompt), hide(row.completion), hide(row.instruction), hide(row.system)),
            tuple(Message(hide(m.role), hide(m.content)) for m in messages),
        )
        return [show(text, trained) for text, trained, _ in self._segments(row, shape, with_answer)]

    def _segments(self, row: Row, shape: str, with_answer: bool) -> list[Text]:
        if shape == "text":
            return self._format.text(row)
        if shape == "conversation":
            return self._format.conversation(row)
        if shape == "open":
            return self._format.open(row)
        return self._format.pair(row, with_answer)


def _shape(row: Row | tuple[str, str], shape: str) -> str:
    """How a row of a dataset of this shape is put into words."""
    if not isinstance(row, Row):
        return "pair" if shape != "text" else shape
    if row.messages:
        return "conversation"
    if shape == "text" or not (shape or row.prompt or row.instruction):
        return "text"
    return "pair"


def _read(table: _Rows) -> Iterator[Row | tuple[str, str]]:
    """The rows of a table, by the columns that it has."""
    names = table.schema.names

    def texts(name: str) -> Iterable[str]:
        return table.column(name).to_pylist()

    if "messages" in names:
        for messages in table.column("messages").to_pylist():
            yield Row("", "", messages=tuple(Message(m["role"], m["content"]) for m in messages))
    elif "instruction" in names:
        columns = (texts(n) for n in ("prompt", "completion", "instruction", "system"))
        yield from map(Row, *columns)
    else:
        yield from map(Row, texts("prompt"), texts("completion"))
