"""``reference`` as Triton kernels: one pass over memory each, any number of tokens.

Nothing here is tuned at run time and nothing is added up in an order that could differ from one
run to the next, so that a resumed run goes on exactly. Triton keeps what it compiled in its cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.train.fused.adapter_kernels import (
    adapter_gradient,
    adapter_input,
    add_adapter_gradient,
    copy_scaled,
    unpack_4bit,
)

__all__ = [
    "accuracy_and_gradient",
    "adapter_gradient",
    "adapter_input",
    "add_adapter_gradient",
    "copy_scaled",
    "rms_norm",
    "rms_norm_backward",
    "rotate",
    "swiglu",
    "swiglu_backward",
    "unpack_4bit",
]


# ---- norm, rotation, activation ---------------------------------------------------------------


@triton.jit
def _rms_norm(x, weight, into, x_row, into_row, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * x_row + at, inside, 0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values) / columns + eps)
    w = tl.load(weight + at, inside, 0.0).to(tl.float32)
    tl.store(into + row * into_row + at, values * scale * w, inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float, into: Tensor) -> None:
    rows, columns = x.shape
    block = triton.next_power_of_2(columns)
    _rms_norm[(rows,)](
        x, weight, into, x.stride(0), into.stride(0), columns, eps, BLOCK=block, num_warps=8
    )


@triton.jit
def _rms_norm_backward(
    grad, x, weight, beside, result, grad_row, x_row, beside_row, result_row, columns, eps,
    BESIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * x_row + at, inside, 0.0).to(tl.float32)
    w = tl.load(weight + at, inside, 0.0).to(tl.float32)
    g = tl.load(grad + row * grad_row + at, inside, 0.0).to(tl.float32) * w
    scale = tl.rsqrt(tl.sum(values * values) / columns + eps)
    normed = values * scale
    out = scale * (g - normed * (tl.sum(g * normed) / columns))
    if BESIDE:
        out += tl.load(beside + row * beside_row + at, inside, 0.0).to(tl.float32)
    tl.store(result + row * result_row + at, out, inside)


def rms_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, eps: float, beside: Tensor | None = None
) -> Tensor:
    rows, columns = x.shape
    result = torch.empty_like(x)
    aside = x if beside is None else beside
    _rms_norm_backward[(rows,)](
        grad, x, weight, aside, result,
        grad.stride(0), x.stride(0), aside.stride(0), result.stride(0), columns, eps,
        BESIDE=beside is not None, BLOCK=triton.next_power_of_2(columns), num_warps=8,
    )  # fmt: skip
    return result


@triton.jit
def _rotate(
    x, cos, sin, into, x_row, table_row, into_row, pairs, sign,
    HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < pairs
    place = pair % HALF
    low = (pair // HALF) * (2 * HALF) + place
    c = tl.load(cos + row * table_row + place).to(tl.float32)
    s = tl.load(sin + row * table_row + place).to(tl.float32) * sign
    a = tl.load(x + row * x_row + low, inside, 0.0).to(tl.float32)
    b = tl.load(x + row * x_row + low + HALF, inside, 0.0).to(tl.float32)
    tl.store(into + row * into_row + low, a * c - b * s, inside)
    tl.store(into + row * into_row + low + HALF, b * c + a * s, inside)


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, heads: int, into: Tensor, *, back: bool = False
) -> None:
    half = cos.shape[-1] // 2
    pairs, block = heads * half, 1024
    _rotate[(x.shape[0], triton.cdiv(pairs, block))](
        x, cos, sin, into, x.stride(0), cos.stride(0), into.stride(0), pairs, -1.0 if back else 1.0,
        HALF=half, BLOCK=block,
    )  # fmt: skip


@triton.jit
def _swiglu(gate_up, into, gate_up_row, into_row, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    here = gate_up + row * gate_up_row + at
    gate = tl.load(here, inside, 0.0).to(tl.float32)
    up = tl.load(here + columns, inside, 0.0).to(tl.float32)
    tl.store(into + row * into_row + at, gate * tl.sigmoid(gate) * up, inside)


def swiglu(gate_up: Tensor, into: Tensor) -> None:
    rows, columns = into.shape
    _swiglu[(rows, triton.cdiv(columns, 1024))](
        gate_up, into, gate_up.stride(0), into.stride(0), columns, BLOCK=1024
    )


@triton.jit
def _swiglu_backward(gate_up, grad, gate_up_row, grad_row, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    here = gate_up + row * gate_up_row + at
    gate = tl.load(here, inside, 0.0).to(tl.float32)
    up = tl.load(here + columns, inside, 0.0).to(tl.float32)
    g = tl.load(grad + row * grad_row + at, inside, 0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    tl.store(here, g * up * sigmoid * (1 + gate * (1 - sigmoid)), inside)
    tl.store(here + columns, g * silu, inside)
    tl.store(grad + row * grad_row + at, silu * up, inside)


def swiglu_backward(gate_up: Tensor, grad: Tensor) -> None:
    rows, columns = grad.shape
    _swiglu_backward[(rows, triton.cdiv(columns, 1024))](
        gate_up, grad, gate_up.stride(0), grad.stride(0), columns, BLOCK=1024
    )


# ---- loss ---------------------------------------------------------------------------------------


@triton.jit
def _accuracy_and_gradient(logits, targets, losses, right, row_size, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    here = logits + row * row_size
    target = tl.load(targets + row).to(tl.int32)
    top = tl.full((BLOCK,), float("-inf"), tl.float32)
    first = tl.full((BLOCK,), 0, tl.int32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        values = tl.load(here + at, at < columns, float("-inf")).to(tl.float32)
        more = values > top
        higher = tl.where(more, values, top)
        # What was added up so far shrinks to the new maximum; exp(-inf - -inf) is no number.
        total = total * tl.where(higher > top, tl.exp(top - higher), 1.0)
        total += tl.where(at < columns, tl.exp(values - higher), 0.0)
        first = tl.where(more, at, first)
        top = higher
    highest = tl.max(top)
    total_all = tl.sum(total * tl.exp(top - highest))
    log_total = highest + tl.log(total_all)
    best = tl.min(tl.where(top == highest, first, columns))
    counted = target >= 0
    logit = tl.load(here + tl.where(counted, target, 0)).to(tl.float32)
    tl.store(losses + row, tl.where(counted, log_total - logit, 0.0))
    tl.store(right + row, tl.where(counted & (best == target), 1.0, 0.0))
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        values = tl.load(here + at, at < columns, float("-inf")).to(tl.float32)
        grad = tl.exp(values - log_total) - tl.where(at == target, 1.0, 0.0)
        tl.store(here + at, tl.where(counted, grad, 0.0), at < columns)


def accuracy_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    right = torch.empty_like(losses)
    _accuracy_and_gradient[(rows,)](
        logits, targets, losses, right, logits.stride(0), columns, BLOCK=4096, num_warps=8
    )
    return losses, right
