"""Picks the next token of every row with that row's own random numbers.

Transformers draws a batch's tokens from one generator, so an answer would depend on its neighbours.
Here the same prompt and seed give the same draw, alone or beside others.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from engine.recipe import GenerateSection

__all__ = [
    "Cancelled",
    "Ended",
    "Pickers",
    "RowSampler",
    "TokenPicker",
    "Watcher",
    "draw",
    "draws_of",
    "odds_of",
    "picking",
]


def draw(logits: torch.Tensor, settings: GenerateSection, draws: torch.Tensor) -> torch.Tensor:
    """One token a row (rows x 1) by temperature, top-k, top-p and min-p.

    ``logits`` are rows x vocabulary, ``draws`` one number of [0, 1) a row. Never waits for the GPU.
    """
    logits = logits.float() / settings.temperature
    count = min(settings.top_k or logits.shape[-1], logits.shape[-1])
    values, tokens = logits.topk(count, dim=-1)  # sorted, largest first
    odds = values.softmax(dim=-1)
    before = odds.cumsum(dim=-1) - odds
    if settings.min_p:
        odds = odds.masked_fill(odds < settings.min_p * odds[:, :1], 0.0)
    odds = odds.masked_fill(before >= settings.top_p, 0.0)
    reach = odds.cumsum(dim=-1)
    wanted = draws.unsqueeze(-1) * reach[:, -1:]
    place = (reach <= wanted).sum(dim=-1, keepdim=True)
    # Rounding may put the draw on the sum itself: then the last token that is possible.
    place = torch.minimum(place, (odds > 0).sum(dim=-1, keepdim=True) - 1)
    return tokens.gather(-1, place)


def odds_of(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """How likely the model itself found the chosen tokens (shape: rows), before any setting."""
    odds = logits.float().softmax(dim=-1)
    return odds.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def draws_of(seed: int, count: int) -> torch.Tensor:
    """The ``count`` random numbers of one answer, in the order of its tokens."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def picking(settings: GenerateSection) -> tuple[float, ...]:
    """The settings that say how tokens are picked: what a recorded step cannot change."""
    how: tuple[float, ...] = (settings.repetition_penalty,)
    if settings.do_sample:
        how += (settings.temperature, settings.top_p, settings.top_k, settings.min_p)
        how += (settings.max_new_tokens,)  # so many random numbers there are
    return how


class TokenPicker:
    """The next token of every slot, from tensors of fixed shape: a CUDA graph can replay it."""

    def __init__(self, settings: GenerateSection, rows: int, vocabulary: int, device: str) -> None:
        self.settings, self.how = settings, picking(settings)
        self.seen: torch.Tensor | None = None
        """Tokens of prompt and answer so far (rows x vocabulary), for the penalty."""
        self.draws: torch.Tensor | None = None
        """Random numbers of each answer (rows x tokens)."""
        self.made: torch.Tensor | None = None
        """How many of them are used (rows x 1)."""
        if settings.repetition_penalty != 1.0:
            self.seen = torch.zeros((rows, vocabulary), dtype=torch.bool, device=device)
        if settings.do_sample:
            self.draws = torch.zeros((rows, settings.max_new_tokens), device=device)
            self.made = torch.zeros((rows, 1), dtype=torch.long, device=device)

    def begin(
        self, slots: torch.Tensor, prompts: Sequence[Sequence[int]], seeds: Sequence[int]
    ) -> None:
        """Give ``slots`` to new answers: what their prompts say counts for the penalty."""
        if self.seen is not None:
            fresh = torch.zeros((len(prompts), self.seen.shape[1]), dtype=torch.bool)
            for number, prompt in enumerate(prompts):
                fresh[number, torch.tensor(prompt)] = True
            self.seen[slots] = fresh.to(self.seen.device)
        if self.draws is not None and self.made is not None:
            count = self.settings.max_new_tokens
            fresh = torch.stack([draws_of(seed, count) for seed in seeds])
            self.draws[slots] = fresh.to(self.draws.device)
            self.made[slots] = 0

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each row (shape: rows), of logits rows x vocabulary."""
        if self.seen is not None:
            logits = logits.float()
            penalty = self.settings.repetition_penalty
            lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
            logits = torch.where(self.seen, lowered, logits)
        if self.draws is not None and self.made is not None:
            chosen = draw(logits, self.settings, self.draws.gather(1, self.made).squeeze(1))
            # A slot whose answer has ended goes on until it is refilled.
            self.made.add_(1).clamp_(max=self.draws.shape[1] - 1)
        else:
            chosen = logits.argmax(dim=-1, keepdim=True)
        if self.seen is not None:
            self.seen.scatter_(1, chosen, True)
        return chosen.squeeze(1)


class Pickers:
    """For slots that differ in how they are picked for: one picker a stretch of equal ones."""

    def __init__(self, settings: Sequence[GenerateSection], vocabulary: int, device: str) -> None:
        self.how = tuple(map(picking, settings))
        """Of every slot."""
        self.device = device
        self.parts: list[tuple[range, TokenPicker]] = []
        for _, stretch in groupby(range(len(settings)), key=lambda row: self.how[row]):
            rows = list(stretch)
            picker = TokenPicker(settings[rows[0]], len(rows), vocabulary, device)
            self.parts.append((range(rows[0], rows[-1] + 1), picker))

    def begin(
        self, slots: Sequence[int], prompts: Sequence[Sequence[int]], seeds: Sequence[int]
    ) -> None:
        """As :meth:`TokenPicker.begin`."""
        for rows, picker in self.parts:
            mine = [number for number, slot in enumerate(slots) if slot in rows]
            if mine:
                places = torch.tensor([slots[number] - rows.start for number in mine])
                picker.begin(
                    places.to(self.device),
                    [prompts[number] for number in mine],
                    [seeds[number] for number in mine],
                )

    def pick(self, logits: torch.Tensor) -> torch.Tensor:
        """As :meth:`TokenPicker.pick`."""
        chosen = [picker.pick(logits[rows.start : rows.stop]) for rows, picker in self.parts]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen)


class RowSampler(LogitsProcessor):
    """For ``generate``: leaves one token possible in every row, the drawn one."""

    def __init__(self, settings: GenerateSection, seeds: Sequence[int]) -> None:
        self.settings = settings
        self.draws = torch.stack([draws_of(seed, settings.max_new_tokens) for seed in seeds])
        self.made = 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        draws = self.draws[:, self.made].to(scores.device)
        self.made += 1
        chosen = draw(scores, self.settings, draws)
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


class Watcher(LogitsProcessor):
    """For ``generate``, before every other: keeps what the model says, as it says it."""

    def __init__(self) -> None:
        self.logits: torch.Tensor | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.logits = scores
        return scores


class Ended(StoppingCriteria):
    """For ``generate``: the rows whose answers are over, by something else than their tokens."""

    def __init__(self, is_open: Callable[[], list[bool]]) -> None:
        self._is_open = is_open

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return ~torch.tensor(self._is_open(), dtype=torch.bool, device=input_ids.device)


class Cancelled(StoppingCriteria):
    """Ends a generation: from another thread, or once ``asked()``, called at every token, is true.

    The only safe way: an exception inside ``generate`` leaves hooks behind that break the next one.
    """

    def __init__(self, asked: Callable[[], bool] = lambda: False) -> None:
        self._asked, self._set = asked, False

    @property
    def requested(self) -> bool:
        return self._set or self._asked()

    @requested.setter
    def requested(self, value: bool) -> None:
        self._set = value

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full(
            (input_ids.shape[0],), self.requested, dtype=torch.bool, device=input_ids.device
        )
