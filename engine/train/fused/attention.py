"""Causal attention over rows that lie one behind the other, none seeing another.

``flash``: FlashAttention as torch brings it (compute capability 8.0 and up). ``efficient``: torch's
memory-efficient kernels, which load on older cards; their key and value heads are repeated.
``each``: row by row, on anything.
"""

import itertools
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Attention", "attend", "choose_attention"]

Attention = Literal["flash", "efficient", "each"]


def choose_attention(device: str, dtype: torch.dtype) -> Attention:
    """The fastest that really runs on this device, found by running it."""
    if not device.startswith("cuda"):
        return "each"
    ways: list[Attention] = ["flash", "efficient"]
    for way in ways:
        q = torch.zeros((16, 2, 64), dtype=dtype, device=device, requires_grad=True)
        ends = torch.tensor([0, 7, 16], dtype=torch.int32, device=device)
        try:
            attend(q, q[:, :1], q[:, :1], ends, 9, way).sum().backward()
            torch.cuda.synchronize(device)
        except (RuntimeError, AttributeError, TypeError):
            continue
        return way
    return "each"


def attend(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int, way: Attention) -> Tensor:
    """(M, heads, D) of q (M, heads, D), k and v (M, key heads, D).

    ``ends``: int32, where each row begins and, last, M; ``longest``: tokens of the longest row.
    """
    if way == "flash":
        result: Tensor = _Flash.apply(q, k, v, ends, longest)
    elif way == "efficient":
        groups = q.shape[1] // k.shape[1]
        k, v = (each.repeat_interleave(groups, 1) for each in (k, v))
        result = _Efficient.apply(q, k, v, ends, longest)
    else:
        result = _each(q, k, v, ends)
    return result


class _Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
        out, lse, state, unused, _ = torch.ops.aten._flash_attention_forward(
            q, k, v, ends, ends, longest, longest, 0.0, True, False
        )
        ctx.save_for_backward(q, k, v, ends, out, lse, state, unused)
        ctx.longest = longest
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, ends, out, lse, state, unused = ctx.saved_tensors
        grads = torch.ops.aten._flash_attention_backward(
            grad, q, k, v, out, lse, ends, ends, ctx.longest, ctx.longest, 0.0, True, state, unused
        )
        return (*grads, None, None)


class _Efficient(torch.autograd.Function):
    CAUSAL = 1

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int) -> Tensor:
        q, k, v = (each.unsqueeze(0) for each in (q, k, v))
        out, lse, seed, offset, *_ = torch.ops.aten._efficient_attention_forward(
            q, k, v, None, ends, ends, longest, longest, 0.0, _Efficient.CAUSAL, True
        )
        ctx.save_for_backward(q, k, v, ends, out, lse, seed, offset)
        ctx.longest = longest
        return out[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, ends, out, lse, seed, offset = ctx.saved_tensors
        dq, dk, dv, _ = torch.ops.aten._efficient_attention_backward(
            grad.contiguous().unsqueeze(0), q, k, v, None, out, ends, ends, ctx.longest,
            ctx.longest, lse, 0.0, seed, offset, _Efficient.CAUSAL, False,
        )  # fmt: skip
        return dq[0], dk[0], dv[0], None, None


def _each(q: Tensor, k: Tensor, v: Tensor, ends: Tensor) -> Tensor:
    places = ends.tolist()
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            *(each[start:end].transpose(0, 1).unsqueeze(0) for each in (q, k, v)),
            is_causal=True,
            enable_gqa=True,
        )[0].transpose(0, 1)
        for start, end in itertools.pairwise(places)
        if end > start
    ]
    return torch.cat(parts)
