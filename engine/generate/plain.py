"""Answers through Transformers' ``generate``: for models that the slots do not fit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor
from transformers.generation.streamers import BaseStreamer

from engine.generate.batching import Asked, OnToken
from engine.generate.mixing import BASE
from engine.generate.sampling import Cancelled, Ended, RowSampler, Watcher, odds_of

if TYPE_CHECKING:
    from engine.generate.models import Base

__all__ = ["answer_by_generate"]

BATCH_ROWS = 32


def answer_by_generate(
    base: "Base", asked: Sequence[Asked], on_token: OnToken, cancelled: Cancelled
) -> None:
    """Answer them all, in batches of prompts of about the same length that are picked for alike."""
    for how in dict.fromkeys(one.how for one in asked):
        _alike(base, [one for one in asked if one.how == how], on_token, cancelled)


def _alike(base: "Base", asked: Sequence[Asked], on_token: OnToken, cancelled: Cancelled) -> None:
    if len(asked) > BATCH_ROWS:
        asked = sorted(asked, key=lambda one: -len(one.prompt))
    for start in range(0, len(asked), BATCH_ROWS):
        batch = asked[start : start + BATCH_ROWS]
        if len({one.adapter for one in batch}) == 1:
            with base.only(batch[0].adapter) as model:
                _generate(base, model, batch, on_token, cancelled)
        else:
            names = [one.adapter for one in batch]
            with base.only(next(name for name in names if name != BASE)) as model:
                _generate(base, model, batch, on_token, cancelled, adapter_names=names)


def _generate(
    base: "Base",
    model: Any,
    batch: Sequence[Asked],
    on_token: OnToken,
    cancelled: Cancelled,
    **extra: Any,
) -> None:
    settings = batch[0].settings
    longest = max(len(one.prompt) for one in batch)
    pad = base.tokenizer.pad_token_id
    ids = torch.full((len(batch), longest), pad if pad is not None else 0, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, one in enumerate(batch):  # the prompts' ends are aligned: padding goes left
        ids[number, longest - len(one.prompt) :] = torch.tensor(one.prompt)
        mask[number, longest - len(one.prompt) :] = 1
    ends = sorted(frozenset().union(*(one.ends for one in batch)))
    room = max(one.room for one in batch)
    if base.context:
        room = min(room, base.context - longest)
    config = GenerationConfig(
        max_new_tokens=room,
        do_sample=False,
        repetition_penalty=1.0,  # else the model's own; ours comes after the watcher
        pad_token_id=pad if pad is not None else next(iter(ends), 0),
        eos_token_id=ends or None,
        use_cache=True,
    )
    watcher = Watcher() if batch[0].probabilities else None
    processors: list[Any] = [watcher] if watcher else []
    if settings.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.do_sample:
        processors.append(RowSampler(settings, [one.seed for one in batch]))
    stream = _Stream(batch, on_token, watcher)
    with torch.inference_mode():
        model.generate(
            input_ids=ids.to(base.device),
            attention_mask=mask.to(base.device),
            generation_config=config,
            logits_processor=processors,
            stopping_criteria=[cancelled, Ended(stream.is_open)],
            streamer=stream,
            **extra,
        )
    stream.finish("cancelled" if cancelled.requested else "length")


class _Stream(BaseStreamer):
    """Hands every row's tokens on as they come."""

    def __init__(self, batch: Sequence[Asked], on_token: OnToken, watcher: Watcher | None) -> None:
        self.open: list[Asked | None] = list(batch)
        self.on_token = on_token
        self.watcher = watcher
        self.prompt_seen = False

    def put(self, value: Any) -> None:
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        tokens = value.reshape(-1)
        odds: list[float] | None = None
        if self.watcher is not None and self.watcher.logits is not None:
            logits = self.watcher.logits
            odds = odds_of(logits, tokens.to(logits.device)).tolist()
        for number, token in enumerate(tokens.tolist()):
            one = self.open[number]
            if one is None:
                continue  # a finished row is fed padding while the others go on
            if token in one.ends:
                self.open[number] = None
                self.on_token(one, None, "eos")
            else:
                one.ids.append(token)
                if odds is not None:
                    one.odds.append(odds[number])
                end = "length" if len(one.ids) >= one.room else None
                if self.on_token(one, token, end) or end:
                    self.open[number] = None

    def is_open(self) -> list[bool]:
        """Which rows still want tokens."""
        return [one is not None for one in self.open]

    def end(self) -> None:
        """Called by ``generate``; the reason of the end is known to :meth:`finish` only."""

    def finish(self, reason: str) -> None:
        for one in self.open:
            if one is not None:
                self.on_token(one, None, reason)
