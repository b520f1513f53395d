"""Answers prompts with loaded voices: columns that share a base are one batch."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from engine.errors import UserError
from engine.generate.decoding import Decoding
from engine.generate.models import Base, Voice
from engine.generate.sampling import Cancelled, RowSampler
from engine.recipe import GenerateSection

__all__ = ["Cancelled", "Row", "answer"]

BATCH_ROWS = 16


@dataclass
class Row:
    """One prompt in one column."""

    voice: Voice
    prompt_index: int
    prompt_ids: list[int]


Emit = Callable[[Row, str, dict[str, Any] | None], None]
"""(row, new text, None or the answer's end: stop_reason, tokens, seconds)."""


def answer(
    voices: list[Voice],
    prompts: list[str],
    settings: GenerateSection,
    emit: Emit,
    cancelled: Cancelled,
) -> None:
    """Answer every prompt in every column, streaming; ends early when ``cancelled`` is set.

    Rows of one base are generated together, whatever their adapters. Raises :class:`UserError` for
    a prompt that is longer than the model's context.
    """
    rows = [
        Row(voice, index, voice.formatter.prompt_ids(prompt))
        for index, prompt in enumerate(prompts)
        for voice in voices
    ]
    for base in _unique(row.voice.base for row in rows):
        mine = [row for row in rows if row.voice.base is base]
        for start in range(0, len(mine), BATCH_ROWS):
            batch = mine[start : start + BATCH_ROWS]
            _batch(base, batch, settings, emit, cancelled)


def _unique(bases: Iterable[Base]) -> list[Base]:
    seen: list[Base] = []
    for base in bases:
        if not any(base is other for other in seen):
            seen.append(base)
    return seen


def _batch(
    base: Base, rows: list[Row], settings: GenerateSection, emit: Emit, cancelled: Cancelled
) -> None:
    adapters = [row.voice.adapter for row in rows]
    if len(set(adapters)) == 1:
        with base.only(adapters[0]) as model:
            _generate(base, model, rows, settings, emit, cancelled)
        return
    if _can_mix(base, adapters):
        _generate(base, base.model, rows, settings, emit, cancelled, adapters)
        return
    for adapter in dict.fromkeys(adapters):
        mine = [row for row in rows if row.voice.adapter == adapter]
        with base.only(adapter) as model:
            _generate(base, model, mine, settings, emit, cancelled)


def _can_mix(base: Base, adapters: list[str]) -> bool:
    """PEFT mixes plain LoRA in one batch; it raises for DoRA and for what is not LoRA."""
    configs = [base.model.peft_config[name] for name in set(adapters) if name != "__base__"]
    return all(
        config.peft_type.value == "LORA" and not getattr(config, "use_dora", False)
        for config in configs
    )


def _generate(
    base: Base,
    model: Any,
    rows: list[Row],
    settings: GenerateSection,
    emit: Emit,
    cancelled: Cancelled,
    adapters: list[str] | None = None,
) -> None:
    longest = max(len(row.prompt_ids) for row in rows)
    context = getattr(model.config, "max_position_embeddings", None)
    room = settings.max_new_tokens
    if context is not None:
        if longest >= context:
            raise UserError(
                f"the prompt has {longest:,} tokens, the model's context only {context:,}; "
                "shorten it"
            )
        room = min(room, context - longest)
    pad = base.tokenizer.pad_token_id
    ids = torch.full((len(rows), longest), pad if pad is not None else 0, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # the prompts' ends are aligned: padding goes left
        ids[number, longest - len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
        mask[number, longest - len(row.prompt_ids) :] = 1
    ends = _end_ids(model, rows)
    config = GenerationConfig(
        max_new_tokens=room,
        do_sample=False,
        repetition_penalty=settings.repetition_penalty,
        pad_token_id=pad if pad is not None else ends[0],
        eos_token_id=ends,
        use_cache=True,
    )
    processors = []
    if settings.do_sample:
        seeds = [settings.seed + row.prompt_index for row in rows]
        processors.append(RowSampler(settings, seeds))
    stream = _Stream(rows, base.tokenizer, set(ends), emit)
    extra = {"adapter_names": adapters} if adapters else {}
    with torch.inference_mode():
        model.generate(
            input_ids=ids.to(base.device),
            attention_mask=mask.to(base.device),
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=[cancelled],
            streamer=stream,
            **extra,
        )
    stream.finish("cancelled" if cancelled.requested else "length")


def _end_ids(model: Any, rows: list[Row]) -> list[int]:
    """Tokens that end an answer: the one that training ends with, and the model's own."""
    own = getattr(model.generation_config, "eos_token_id", None)
    ends = own if isinstance(own, list) else [own]
    known = {token for token in ends if token is not None}
    return sorted(known.union(*(row.voice.formatter.stop_ids for row in rows)))


class _Stream(BaseStreamer):
    """Hands every row's text on as its tokens come."""

    def __init__(self, rows: list[Row], tokenizer: Any, ends: set[int], emit: Emit) -> None:
        def decode(ids: Any) -> str:
            return tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )

        self.rows = rows
        self.ends = ends
        self.emit = emit
        self.texts = [Decoding(decode) for _ in rows]
        self.open = [True] * len(rows)
        self.began = time.perf_counter()
        self.prompt_seen = False

    def put(self, value: Any) -> None:
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        for number, token in enumerate(value.reshape(-1).tolist()):
            if not self.open[number]:
                continue  # a finished row is fed padding while the others go on
            if token in self.ends:
                self._end(number, "eos")
            elif text := self.texts[number].push(token):
                self.emit(self.rows[number], text, None)

    def end(self) -> None:
        """Called by ``generate``; the reason of the end is known to :meth:`finish` only."""

    def finish(self, reason: str) -> None:
        for number, still_open in enumerate(self.open):
            if still_open:
                self._end(number, reason)

    def _end(self, number: int, reason: str) -> None:
        self.open[number] = False
        text = self.texts[number]
        self.emit(
            self.rows[number],
            text.flush(),
            {
                "stop_reason": reason,
                "tokens": len(text.ids),
                "seconds": time.perf_counter() - self.began,
            },
        )
