"""One batch's loss and gradient by the fused layers and by Transformers and PEFT, compared."""

from typing import Any

import torch

from engine.train.fused import attach
from engine.train.fused.flat import TOKENS, FlatCollator

__all__ = ["compare", "pad"]


def compare(
    model: Any,
    recipe: Any,
    rows: list[dict[str, Any]],
    dtype: str,
    device: str,
    packed: bool,
    attention: str = "",
) -> dict[str, Any]:
    """Loss and gradient of one batch: Transformers + PEFT, the same in float32, fused, replayed.

    ``rows`` have ``input_ids`` and ``labels``. ``packed`` weights (4 bits) have no float32. The
    model is a fused one afterwards. ``attention``: this way instead of the one chosen.
    """

    def gradient(inputs: dict[str, Any], enabled: bool = True) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        inputs = {k: v.to(device) if torch.is_tensor(v) else v for k, v in inputs.items()}
        with torch.autocast(device, getattr(torch, dtype), enabled=enabled):
            loss = model(**inputs, use_cache=False).loss
        # float16 loses gradients that are not scaled, as the trainer's scaler knows.
        scale = 1024.0 if dtype == "float16" and enabled else 1.0
        (loss * scale).backward()
        found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss.item(), torch.cat(found).double().cpu() / scale

    padded, flat_rows = pad(rows), FlatCollator(0)(rows)
    flat_rows.pop(TOKENS)
    found = {"plain": gradient(padded)}
    if not packed:
        small = {n: p.dtype for n, p in model.named_parameters()}
        model.float()
        found["float32"] = gradient(padded, False)
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(small[name])
    chosen = attach.choose_attention
    if attention:
        attach.choose_attention = lambda *_: attention  # type: ignore[assignment,return-value]
    try:
        attach.fuse(model, recipe, dtype, device, unpacked=False, graphs=False)
        found["fused"] = gradient(flat_rows)
        if device == "cuda":
            # A second copy of the layers over the same weights.
            attach.fuse(model, recipe, dtype, device, unpacked=False, graphs=True)
            found["replayed"] = gradient(flat_rows)
            found["replayed again"] = gradient(flat_rows)
    finally:
        attach.choose_attention = chosen
    model.zero_grad()
    cosine = torch.nn.functional.cosine_similarity
    return {
        "loss": {name: loss for name, (loss, _) in found.items()},
        "norm": {name: each.norm().item() for name, (_, each) in found.items()},
        "cosine": {
            f"{a} {b}": cosine(found[a][1], found[b][1], dim=0).item()
            for a in found for b in found if a < b
        },
        "largest difference": {
            f"{a} {b}": (found[a][1] - found[b][1]).abs().max().item()
            for a in found for b in found if a < b
        },
    }  # fmt: skip


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows as Transformers takes them, filled up to the longest."""
    wide = max(len(row["input_ids"]) for row in rows)

    def filled(lists: list[list[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*each, *[value] * (wide - len(each))] for each in lists])

    return {
        "input_ids": filled([row["input_ids"] for row in rows], 0),
        "labels": filled([row["labels"] for row in rows], -100),
        "attention_mask": filled([[1] * len(row["input_ids"]) for row in rows], 0),
    }
