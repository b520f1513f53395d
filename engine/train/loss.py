"""The one way in which a loss over a split is computed: in training and by ``evaluate``."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from engine.train.ranks import Ranks
from engine.train.rows import IGNORED, TOKENS

__all__ = ["SplitLoss", "split_loss"]


@dataclass(frozen=True)
class SplitLoss:
    mean: float
    """Over all trained tokens, in nats."""
    tokens: int
    mean_token_accuracy: float | None
    """0 to 1; None where the model's forward does not count."""


def split_loss(
    model: Any,
    batches: Iterable[dict[str, Any]],
    autocast: Callable[[], AbstractContextManager[Any]],
    before_each: Callable[[int], None] = lambda number: None,
    ranks: Ranks | None = None,
) -> SplitLoss:
    """The token-weighted mean over batches on the model's device (input_ids, labels, ...).

    The model is in evaluation mode. ``before_each(number)`` is called before every batch and may
    raise to give up. With ``ranks`` the mean is over what all of them were given.
    """
    import torch

    sums: list[Any] = []
    counts: list[Any] = []
    corrects: list[Any] = []
    with torch.no_grad():
        for number, batch in enumerate(batches):
            before_each(number)
            batch.pop(TOKENS, None)
            count = (batch["labels"][:, 1:] != IGNORED).sum()
            with autocast():
                output = model(**batch, use_cache=False)
            # No trained token: the mean of none may be no number.
            sums.append(torch.where(count > 0, output.loss.double(), 0.0) * count)
            counts.append(count)
            if (correct := getattr(output, "num_correct_tokens", None)) is not None:
                corrects.append(correct)
    total, tokens, right = (ranks or Ranks()).sum([sum(sums), sum(counts), sum(corrects)])
    return SplitLoss(
        total / max(tokens, 1),
        int(tokens),
        right / max(tokens, 1) if corrects else None,
    )
