"""Batches without padding: rows one behind the other, in one line."""

from typing import Any

import torch

from engine.train.fused.sizes import LINE_MULTIPLE
from engine.train.rows import IGNORED, TOKENS

__all__ = ["FlatCollator"]


class FlatCollator:
    """Rows of ``input_ids`` and ``labels`` -> the inputs of a fused model (see ``attach``).

    All on the host, so that nothing has to be asked of the GPU: where rows end, which tokens
    predict something, and what. A packed row (``seq_lengths``) is several rows. What fills the line
    up is one more row, which nothing is learnt from.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        tokens = [len(example["input_ids"]) for example in examples]
        lengths = [
            length
            for example in examples
            for length in example.get("seq_lengths") or [len(example["input_ids"])]
        ]
        used = sum(tokens)
        filling = -used % LINE_MULTIPLE
        ids = torch.full((used + filling,), self.pad_token_id, dtype=torch.int64)
        labels = torch.full((used + filling,), IGNORED, dtype=torch.int64)
        ids[:used] = _joined([example["input_ids"] for example in examples])
        labels[:used] = _joined([example["labels"] for example in examples])
        if filling:
            lengths.append(filling)
        ends = torch.zeros(len(lengths) + 1, dtype=torch.int32)
        ends[1:] = torch.tensor(lengths, dtype=torch.int32).cumsum(0)
        starts = ends[:-1].long()
        labels[starts] = IGNORED  # the token before it is another row's
        predicting = (labels != IGNORED).nonzero()[:, 0]
        places = torch.arange(len(ids)) - starts.repeat_interleave(torch.tensor(lengths))
        return {
            "input_ids": ids[None],
            "labels": labels[None],
            "position_ids": places[None],
            "cu_seq_lens_q": ends,
            "max_length_q": max(lengths),
            "loss_positions": predicting - 1,
            "loss_targets": labels[predicting],
            TOKENS: torch.tensor(tokens),
        }


def _joined(rows: list[Any]) -> torch.Tensor:
    return torch.cat([torch.as_tensor(row, dtype=torch.int64) for row in rows])
