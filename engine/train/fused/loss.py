"""Cross-entropy of the head's predictions without keeping a logit.

Logits are made for a thousand or so tokens at a time, turned into their own gradient, multiplied
back through the head at once, and forgotten.
"""

from typing import Any

import torch
from torch import Tensor

from engine.train.fused.sizes import LOGIT_BYTES

__all__ = ["head_loss"]


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, ops: Any) -> tuple[Tensor, Tensor]:
    """(sum of losses in nats, number of right predictions), float32 scalars.

    ``hidden`` (n, H) predicts ``targets`` (n,); ``weight`` (V, H) of the head is not trained.
    """
    loss, right = _HeadLoss.apply(hidden, weight, targets, ops)
    return loss, right


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, ops: Any
    ) -> tuple[Tensor, Tensor]:
        back = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        size = max(1, LOGIT_BYTES // (weight.shape[0] * weight.element_size()))
        sums = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            logits = hidden[part] @ weight.T
            sums += torch.stack(ops.accuracy_and_gradient(logits, targets[part])).sum(1)
            if back is not None:
                torch.mm(logits, weight, out=back[part])
        ctx.save_for_backward(back)
        total, count = sums.unbind()
        ctx.mark_non_differentiable(count)
        return total, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        return (back * grad).to(back.dtype), None, None, None
