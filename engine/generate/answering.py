"""Answers prompts with loaded voices: columns that share a base are one batch."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.errors import UserError
from engine.generate.batching import Asked, answer_in_slots, most_room
from engine.generate.decoding import Decoding
from engine.generate.fit import take_slots
from engine.generate.mixing import can_mask, can_mix
from engine.generate.models import Base, Voice
from engine.generate.plain import answer_by_generate
from engine.generate.sampling import Cancelled
from engine.recipe import GenerateSection

__all__ = ["Cancelled", "Row", "answer", "notes", "warm_up"]


@dataclass(frozen=True, eq=False)
class Row:
    """One prompt in one column."""

    voice: Voice
    prompt_index: int


Emit = Callable[[Row, str, dict[str, Any] | None], None]
"""(row, new text, None or the answer's end: stop_reason, tokens, seconds)."""


def answer(
    voices: Sequence[Voice],
    prompts: Sequence[str],
    settings: GenerateSection,
    emit: Emit,
    cancelled: Cancelled,
    *,
    indices: Sequence[int] | None = None,
    stream: bool = True,
) -> None:
    """Answer every prompt in every column; ends early when ``cancelled`` is set.

    ``indices`` number the prompts (0, 1, ... when None): prompt *n* is sampled with the seed
    ``settings.seed + n``. ``stream=False`` emits each answer whole, which costs less. Rows of one
    base are answered together, whatever their adapters, in the order that is fastest. Raises
    :class:`UserError` for a prompt that is longer than the model's context.
    """
    indices = range(len(prompts)) if indices is None else indices
    rows = [
        (Row(voice, index), voice.formatter.prompt_ids(prompt))
        for index, prompt in zip(indices, prompts, strict=True)
        for voice in voices
    ]
    asked = {_ask(row, ids, settings, len(prompts) > 1): row for row, ids in rows}
    texts = _Texts(asked, emit, stream)
    for base in {id(voice.base): voice.base for voice in voices}.values():
        mine = [one for one, row in asked.items() if row.voice.base is base]
        for answer_them, group in _ways(base, mine):
            answer_them(base, group, settings, texts.on_token, cancelled)


def warm_up(voices: Sequence[Voice]) -> None:
    """Make the first token of a next prompt to all of these come at once; nothing on a CPU.

    Libraries allocate what they need at first use, and the step is recorded for replaying.
    """
    if not any(voice.base.device.startswith("cuda") for voice in voices):
        return
    enough = Cancelled()

    def emit(row: Row, text: str, end: dict[str, Any] | None) -> None:
        enough.requested = True

    settings = voices[0].column.recipe.generate
    with contextlib.suppress(UserError):  # whoever asks will be told
        answer(voices, ["warm"], settings, emit, enough)


def notes(voices: Sequence[Voice]) -> list[str]:
    """What there is to say about how these were answered, in words."""
    said = []
    for voice in {id(voice.base): voice for voice in voices}.values():
        name = voice.column.model_name_or_path
        if voice.base.note:
            said.append(f"{name}: {voice.base.note}")
        if voice.base.misfit:
            said.append(f"{name}: answered by Transformers' generate: {voice.base.misfit}")
    return said


def _ask(row: Row, ids: list[int], settings: GenerateSection, several: bool) -> Asked:
    base = row.voice.base
    which = f"prompt {row.prompt_index + 1:,}" if several else "the prompt"
    if not ids:
        raise UserError(f"{which} is empty, and this model's format adds nothing to it")
    room = settings.max_new_tokens
    if base.context is not None:
        if len(ids) >= base.context:
            raise UserError(
                f"{which} has {len(ids):,} tokens, the model's context only "
                f"{base.context:,}; shorten it"
            )
        room = min(room, base.context - len(ids))
    return Asked(
        prompt=ids,
        adapter=row.voice.adapter,
        seed=(settings.seed + row.prompt_index) % 2**32,
        room=room,
        ends=base.ends | frozenset(row.voice.formatter.stop_ids),
    )


def _ways(base: Base, asked: list[Asked]) -> list[tuple[Any, list[Asked]]]:
    """How these are answered, and which of them together."""
    adapters = [one.adapter for one in asked]
    alike = len(set(adapters)) == 1
    if not take_slots(base, most_room(base, asked), asked[0].prompt):
        mixed = alike or can_mask(base.model, adapters)
        return [(partial(answer_in_slots, mixed=mixed), asked)]
    if alike or can_mix(base.model, adapters):
        return [(answer_by_generate, asked)]
    return [
        (answer_by_generate, [one for one in asked if one.adapter == adapter])
        for adapter in dict.fromkeys(adapters)
    ]


class _Texts:
    """Turns tokens into what is emitted."""

    def __init__(self, rows: dict[Asked, Row], emit: Emit, stream: bool) -> None:
        self.rows, self.emit, self.stream = rows, emit, stream
        self.began = time.perf_counter()
        self.open: dict[Asked, Decoding] = {}

    def on_token(self, one: Asked, token: int | None, end: str | None) -> None:
        row, text = self.rows[one], ""
        decoding = self.open.get(one)
        if decoding is None:
            decoding = self.open[one] = Decoding(self._decode(row))
        if self.stream and token is not None:
            text = decoding.push(token)
        if end is None:
            if text:
                self.emit(row, text, None)
            return
        del self.open[one]
        text = text + decoding.flush() if self.stream else self._decode(row)(one.ids)
        seconds = time.perf_counter() - self.began
        self.emit(row, text, {"stop_reason": end, "tokens": len(one.ids), "seconds": seconds})

    def _decode(self, row: Row) -> Callable[[Sequence[int]], str]:
        tokenizer = row.voice.base.tokenizer

        def decode(ids: Sequence[int]) -> str:
            text: str = tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            return text

        return decode
