"""Picks the next token of every row with that row's own random generator.

Transformers draws a batch's tokens from one generator, so an answer would depend on its neighbours.
Here the same prompt and seed give the same draw, alone or beside others.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from engine.recipe import GenerateSection

__all__ = ["Cancelled", "RowSampler"]


class RowSampler(LogitsProcessor):
    """Leaves one token possible in every row: the drawn one. ``generate`` then runs greedily."""

    def __init__(self, settings: GenerateSection, seeds: Sequence[int]) -> None:
        self.settings = settings
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        settings = self.settings
        logits = scores.float() / settings.temperature
        count = min(settings.top_k or logits.shape[-1], logits.shape[-1])
        values, tokens = logits.topk(count, dim=-1)  # sorted, largest first
        odds = values.softmax(dim=-1)
        before = odds.cumsum(dim=-1) - odds
        odds = odds.masked_fill(before >= settings.top_p, 0.0)
        reach = odds.cumsum(dim=-1)
        draws = torch.tensor([torch.rand((), generator=g).item() for g in self.generators])
        wanted = draws.to(reach.device).unsqueeze(-1) * reach[:, -1:]
        place = (reach <= wanted).sum(dim=-1, keepdim=True)
        # Rounding may put the draw on the sum itself: then the last token that is possible.
        place = torch.minimum(place, (odds > 0).sum(dim=-1, keepdim=True) - 1)
        chosen = tokens.gather(-1, place)
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


class Cancelled(StoppingCriteria):
    """Ends a generation from another thread.

    The only safe way: an exception inside ``generate`` leaves hooks behind that break the next one.
    """

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full(
            (input_ids.shape[0],), self.requested, dtype=torch.bool, device=input_ids.device
        )
