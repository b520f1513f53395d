"""The operations between two matrix products, in plain torch: what ``kernels`` does, readable.

Shapes: M tokens, K or N features, R columns of one adapter (its rank, rounded up to a power of two
of at least 16, the rest zero). Arithmetic in float32, rounded once at the end. An argument that is
named ``into`` is written; all of them may be views whose rows are longer than what they show.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Dropout",
    "accuracy_and_gradient",
    "adapter_gradient",
    "adapter_input",
    "add_adapter_gradient",
    "copy_scaled",
    "dropped",
    "rms_norm",
    "rms_norm_backward",
    "rotate",
    "swiglu",
    "swiglu_backward",
    "unpack_4bit",
]

APART = 0x1E3779B1
"""Between the seeds of adapters on one input."""


def rms_norm(x: Tensor, weight: Tensor, eps: float, into: Tensor) -> None:
    """``into`` (M, K) = x / rms(x) * weight."""
    x32 = x.float()
    scale = torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    into.copy_(x32 * scale * weight.float())


def rms_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, eps: float, beside: Tensor | None = None
) -> Tensor:
    """Gradient of x (M, K), plus ``beside`` (the gradient of a path around the norm)."""
    x32, g = x.float(), grad.float() * weight.float()
    scale = torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    normed = x32 * scale
    result = scale * (g - normed * (g * normed).mean(-1, keepdim=True))
    if beside is not None:
        result += beside.float()
    return result.to(x.dtype)


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, heads: int, into: Tensor, *, back: bool = False
) -> None:
    """Rotary position embedding of ``heads`` heads side by side (M, heads * D); may be in place.

    ``cos`` and ``sin`` (M, D) as Transformers makes them; ``back`` turns the other way.
    """
    rows, half = x.shape[0], cos.shape[-1] // 2
    pairs = x[:, : heads * 2 * half].float().reshape(rows, heads, 2, half)
    c, s = cos[:, None, :half].float(), sin[:, None, :half].float()
    low, high = pairs[:, :, 0], pairs[:, :, 1]
    s = -s if back else s
    turned = torch.stack([low * c - high * s, high * c + low * s], 2)
    into[:, : heads * 2 * half].copy_(turned.reshape(rows, -1))


def swiglu(gate_up: Tensor, into: Tensor) -> None:
    """``into`` (M, K) = silu(gate) * up, of (M, 2 K) with the gate first."""
    gate, up = gate_up.float().chunk(2, -1)
    into.copy_(torch.nn.functional.silu(gate) * up)


def swiglu_backward(gate_up: Tensor, grad: Tensor) -> None:
    """``gate_up`` becomes its gradient, ``grad`` (M, K) becomes silu(gate) * up again."""
    gate, up = gate_up.float().chunk(2, -1)
    g, sigmoid = grad.float(), torch.sigmoid(gate)
    silu = gate * sigmoid
    grads = [g * up * sigmoid * (1 + gate * (1 - sigmoid)), g * silu]
    grad.copy_(silu * up)
    gate_up.copy_(torch.cat(grads, -1))


def _hash(values: Tensor) -> Tensor:
    """32 mixed bits of each number (int64 holding 32 bits): two products, few steps on purpose."""
    mask = 0xFFFFFFFF
    values = ((values & mask) * 0x7FEB352D) & mask
    return ((values ^ (values >> 15)) * 0x846CA68B) & mask


@dataclass(frozen=True)
class Dropout:
    """Which elements of an input are dropped; the same ones however often it is asked."""

    probability: float
    seed: Tensor
    """Of this forward pass; int32, one number, on the device: nobody waits for it."""
    salt: int
    """Of this input: under 2 ** 29."""


def dropped(x: Tensor, drop: Dropout, number: int) -> Tensor:
    """x (M, K) after the dropout of adapter ``number``.

    Element i of the matrix (row-major) is kept by a hash of i, so no mask is kept for the way back.
    """
    probability = drop.probability
    if not probability:
        return x.float()
    seed = int(drop.seed) ^ (drop.salt + number * APART)
    rows, columns = x.shape
    places = torch.arange(rows * columns, device=x.device).view(rows, columns)
    kept = _hash(places ^ (seed & 0xFFFFFFFF)) >= int(probability * 2**32)
    return torch.where(kept, x.float() / (1 - probability), 0.0)


def adapter_input(
    x: Tensor, a: Tensor, count: int, drop: Dropout, into: Tensor, kept: Tensor
) -> None:
    """``into`` and ``kept`` (M, count * R) = dropout(x) @ a.T for ``count`` adapters on one input.

    ``a`` (count * R, K) is their first matrices, one below the other; every adapter has a dropout
    of its own.
    """
    width = a.shape[0] // count
    for number in range(count):
        part = slice(number * width, (number + 1) * width)
        result = dropped(x, drop, number).to(x.dtype) @ a[part].T
        into[:, part].copy_(result)
        kept[:, part].copy_(result)


def adapter_gradient(grad: Tensor, x: Tensor, count: int, drop: Dropout) -> Tensor:
    """Gradient of ``a`` (count * R, K), float32, from that of ``adapter_input``'s result."""
    width = grad.shape[1] // count
    parts = []
    for number in range(count):
        part = grad[:, number * width : (number + 1) * width]
        parts.append(part.T.float() @ dropped(x, drop, number))
    return torch.cat(parts)


def add_adapter_gradient(into: Tensor, grad: Tensor, a: Tensor, count: int, drop: Dropout) -> None:
    """Adds to ``into`` (M, K) the gradient of x from that of ``adapter_input``'s result."""
    width = a.shape[0] // count
    total = into.float()
    for number in range(count):
        part = slice(number * width, (number + 1) * width)
        back = (grad[:, part] @ a[part]).float()
        total = total + dropped(back, drop, number)
    into.copy_(total)


def unpack_4bit(weight: Tensor, state: object, into: Tensor) -> None:
    """``into`` (N, K) = what bitsandbytes' 4-bit ``weight`` stands for."""
    from bitsandbytes.functional import dequantize_4bit

    into.copy_(dequantize_4bit(weight, state))


def accuracy_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(losses, whether the target is the most likely), float32 (M,); ``logits`` (M, V) become
    the gradient of the sum of losses. A target of -100 counts for nothing."""
    counted = targets >= 0
    log_p = torch.log_softmax(logits.float(), -1)
    safe = targets.clamp(min=0)
    losses = torch.where(counted, -log_p.gather(1, safe[:, None])[:, 0], 0.0)
    right = (logits.argmax(-1) == targets).float()
    grad = log_p.exp()
    grad.scatter_add_(1, safe[:, None], torch.full_like(grad[:, :1], -1.0))
    logits.copy_(grad * counted[:, None])
    return losses, right


def copy_scaled(sources: list[Tensor], targets: list[Tensor], scales: list[float]) -> None:
    """Every target = its source times its scale, rounded."""
    for source, target, scale in zip(sources, targets, scales, strict=True):
        target.copy_(source * scale)
