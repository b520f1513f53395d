"""Which rows of a split fall to which process, so that every row counts once.

Accelerate fills the last batches of several processes up with rows from the beginning. In an
evaluation those would count twice, in training the last step of an epoch would differ from that of
one process with the whole batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

from engine.train.ranks import Ranks
from engine.train.rows import IGNORED, TOKENS

__all__ = ["Shared", "forget_repeats"]


class Shared:
    """Batches of ``size`` rows, the i-th for rank i modulo their number; as many for each.

    A rank that gets one less repeats a batch without a trained token: models whose weights are
    sharded run in step.
    """

    def __init__(
        self,
        dataset: Any,
        size: int,
        collate: Callable[[list[Any]], dict[str, Any]],
        ranks: Ranks,
        to_device: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self.dataset = dataset
        self.size = size
        self.collate = collate
        self.ranks = ranks
        self.to_device = to_device

    def __len__(self) -> int:
        batches = -(-len(self.dataset) // self.size)
        return -(-batches // self.ranks.count)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        last = (len(self.dataset) - 1) // self.size
        for turn in range(len(self)):
            number = turn * self.ranks.count + self.ranks.index
            start = min(number, last) * self.size
            rows = range(start, min(start + self.size, len(self.dataset)))
            batch = self.to_device(self.collate([self.dataset[row] for row in rows]))
            if number > last:
                _keep(batch, 0)
            yield batch


def forget_repeats(batch: dict[str, Any], rows: int, index: int, count: int) -> None:
    """Take what an epoch's last batch repeats out of the loss and of the count of tokens.

    ``rows`` rows of the epoch are left for this last batch of all ``count`` ranks together.
    """
    size = len(batch[TOKENS] if TOKENS in batch else batch["labels"])
    own = min(max(rows - index * size, 0), size)
    if own < size:
        _keep(batch, own)


def _keep(batch: dict[str, Any], own: int) -> None:
    """Let the first ``own`` rows of a batch count only."""
    if (
        predicting := batch.get("loss_positions")
    ) is not None:  # rows in one line, see FlatCollator
        tokens = batch[TOKENS][:own]
        end = int(tokens.sum())
        batch["labels"][:, end:] = IGNORED
        count = int((predicting < end).sum())
        batch["loss_positions"] = predicting[:count]
        batch["loss_targets"] = batch["loss_targets"][:count]
    else:
        batch["labels"][own:] = IGNORED
        mask = batch.get("attention_mask")
        tokens = (
            batch[TOKENS][:own] if TOKENS in batch else None if mask is None else mask.sum(1)[:own]
        )
    if tokens is not None:
        batch[TOKENS] = tokens
