"""Answers prompts with loaded voices: columns that share a base are one batch."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from typing import Any

from engine.data.tokens import Messages
from engine.errors import UserError
from engine.generate.answer_text import AnswerText, Piece
from engine.generate.batching import Asked, OnToken, answer_in_slots, most_room
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


Emit = Callable[[Row, str, dict[str, Any] | None, list[Piece] | None], None]
"""(row, new text, None or the answer's end, the text's pieces where those were asked for).

An end has stop_reason, tokens, first_seconds and seconds; after an error also what it was.
"""


def answer(
    voices: Sequence[Voice],
    prompts: Sequence[str | Messages],
    settings: GenerateSection | Mapping[str, GenerateSection],
    emit: Emit,
    cancelled: Cancelled,
    *,
    indices: Sequence[int] | None = None,
    stream: bool = True,
    probabilities: bool = False,
) -> None:
    """Answer every prompt in every column; ends early when ``cancelled`` is set.

    ``settings`` are everybody's, or by column id. ``indices`` number the prompts (0, 1, ... when
    None): prompt *n* is sampled with the seed ``settings.seed + n``. ``stream=False`` emits each
    answer whole, which costs less. Rows of one base are answered together, whatever their adapters,
    in the order that is fastest; those that are sampled alike are one batch. A prompt that a column
    cannot take (longer than its context, say) ends with an error in that column; the others go on.
    """
    indices = range(len(prompts)) if indices is None else indices
    asked: dict[Asked, Row] = {}
    for index, prompt in zip(indices, prompts, strict=True):
        for voice in voices:
            row = Row(voice, index)
            its = settings if isinstance(settings, GenerateSection) else settings[voice.column.id]
            try:
                asked[_ask(row, prompt, its, len(prompts) > 1, probabilities)] = row
            except UserError as error:
                end = {"stop_reason": "error", "error": str(error), "tokens": 0, "seconds": 0.0}
                emit(row, "", end, None)
    texts = _Texts(asked, emit, stream)
    bases = {id(row.voice.base): row.voice.base for row in asked.values()}.values()
    shares = [(b, [one for one, row in asked.items() if row.voice.base is b]) for b in bases]
    with _aside([s for s in shares if s[0].aside], texts.on_token, cancelled):
        for base, mine in shares:
            if not base.aside:
                for answer_them, group in _ways(base, mine):
                    answer_them(base, group, texts.on_token, cancelled)


@contextlib.contextmanager
def _aside(
    shares: Sequence[tuple[Any, list[Asked]]], on_token: OnToken, cancelled: Cancelled
) -> Iterator[None]:
    """Meanwhile these are answered, a thread each; what goes wrong there is raised at the end."""
    failures: list[Exception] = []

    def work(base: Any, mine: list[Asked]) -> None:
        try:
            base.answer(mine, on_token, cancelled)
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=work, args=share) for share in shares]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        cancelled.requested = True
        raise
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def warm_up(voices: Sequence[Voice]) -> None:
    """Make the first token of a next prompt to all of these come at once; nothing on a CPU.

    Libraries allocate what they need at first use, and the step is recorded for replaying.
    """
    if not any(voice.base.device.startswith("cuda") for voice in voices):
        return
    enough = Cancelled()

    def emit(row: Row, text: str, end: Any, pieces: Any) -> None:
        enough.requested = True

    answer(voices, ["warm"], voices[0].column.recipe.generate, emit, enough)


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


def _ask(
    row: Row, prompt: str | Messages, settings: GenerateSection, several: bool, probabilities: bool
) -> Asked:
    base, ids = row.voice.base, row.voice.formatter.prompt_ids(prompt)
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
        settings=settings,
        probabilities=probabilities,
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


@dataclass(eq=False)
class _Open:
    """An answer under way."""

    text: AnswerText
    first_seconds: float
    said: str = ""
    """What is not emitted yet."""
    pieces: list[Piece] = field(default_factory=list)


class _Texts:
    """Turns tokens into what is emitted."""

    def __init__(self, rows: dict[Asked, Row], emit: Emit, stream: bool) -> None:
        self.rows, self.emit, self.stream = rows, emit, stream
        self.began = time.perf_counter()
        self.open: dict[Asked, _Open] = {}

    def on_token(self, one: Asked, token: int | None, end: str | None) -> bool:
        """As :data:`engine.generate.batching.OnToken`: true when a stop string has come."""
        row, stops = self.rows[one], bool(one.settings.stop_strings)
        answer = self.open.get(one)
        if answer is None:
            answer = self.open[one] = _Open(self._text(row, one), self._seconds())
        # Text that nobody reads before the end is decoded in one go.
        grows = self.stream or stops or one.probabilities
        if grows and token is not None:
            self._say(answer, answer.text.push(token, one.odds[-1] if one.odds else 0.0))
        if end is None and not answer.text.stopped:
            if self.stream and answer.said:
                self._emit(row, one, answer, None)
            return False
        if grows:
            self._say(answer, answer.text.flush())
        else:
            answer.said = _decode(row)(one.ids)
        del self.open[one]
        reason = end
        if answer.text.stopped and end != "cancelled":
            reason = "stop"
        finish = {
            "stop_reason": reason,
            "tokens": len(one.ids),
            "first_seconds": answer.first_seconds,
            "seconds": self._seconds(),
        }
        self._emit(row, one, answer, finish)
        return True

    def _seconds(self) -> float:
        return time.perf_counter() - self.began

    def _say(self, answer: _Open, said: tuple[str, list[Piece]]) -> None:
        answer.said += said[0]
        answer.pieces += said[1]

    def _emit(self, row: Row, one: Asked, answer: _Open, end: dict[str, Any] | None) -> None:
        said, pieces = answer.said, answer.pieces
        answer.said, answer.pieces = "", []
        self.emit(row, said, end, pieces if one.probabilities else None)

    def _text(self, row: Row, one: Asked) -> AnswerText:
        stops = one.settings.stop_strings
        special = row.voice.formatter.special_tokens
        # Special tokens have no text: one that is named as a stop string is known by its number.
        ids = frozenset(special[string] for string in stops if string in special)
        return AnswerText(_decode(row), stops, ids, with_odds=one.probabilities)


def _decode(row: Row) -> Callable[[Sequence[int]], str]:
    tokenizer = row.voice.base.tokenizer

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    return decode
