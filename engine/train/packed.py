"""Batches of packed sequences in which no row sees another, and the proof that none does."""

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from engine.data.packing import position_ids
from engine.errors import UserError
from engine.train.rows import TOKENS

__all__ = ["PackedCollator", "check_rows_apart"]

_PROBE = 12
"""Tokens of each row of the probe."""


@dataclass
class PackedCollator(DataCollatorForLanguageModeling):
    """As TRL's, but packed sequences stay one a line of the batch, and padded at their end.

    TRL joins all sequences of a batch to one line: for attention without FlashAttention that is a
    mask of (batch x max_length) squared. Positions that restart keep rows apart in Transformers'
    mask only where the batch has no attention mask and the model keeps no cache, so there is
    neither. Padding has places of its own, as if it were one more row.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        if "seq_lengths" not in examples[0]:
            return super().torch_call(examples)
        batch = super().torch_call(
            [{"input_ids": e["input_ids"], "labels": e["labels"]} for e in examples]
        )
        wide = batch["input_ids"].shape[1]
        tokens = batch.pop("attention_mask").sum(1)
        places = [
            position_ids([*example["seq_lengths"], wide - int(used)])
            for example, used in zip(examples, tokens, strict=True)
        ]
        return {**batch, "position_ids": torch.tensor(places), TOKENS: tokens}


def check_rows_apart(model: Any) -> None:
    """Raise UserError when rows of a packed sequence see each other in this model.

    Two packed sequences differ in their first row only; what the model makes of their second row
    must not. It depends on how attention is implemented, so the model itself is asked.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (2, 2 * _PROBE), generator=generator)
    ids[1, _PROBE:] = ids[0, _PROBE:]
    places = torch.tensor([position_ids([_PROBE, _PROBE])] * 2)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = model(
                input_ids=ids.to(device), position_ids=places.to(device), use_cache=False
            )
    finally:
        model.train(was_training)
    seen = output.logits[:, _PROBE:].float()
    if not torch.allclose(seen[0], seen[1], rtol=1e-4, atol=1e-4 * float(seen.abs().max())):
        attention = getattr(model.config, "_attn_implementation", "its own")
        raise UserError(
            f"train.packing: with this model ({attention} attention) packed rows would see each "
            "other; set train.packing = false"
        )
