"""Linear layers on one input as one matrix, their adapters as more columns of it.

With W the weights, A and B the adapter and s its scale,
``[x, x A^T] [W, s B]^T = x W^T + s (x A^T) B^T``: LoRA costs 1 % more columns instead of passes
over everything that goes in and out. Backwards ``grad [W, s B]`` has the gradient of x in its first
columns and that of ``x A^T`` in the rest.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.train.fused.reference import Dropout
from engine.train.fused.sizes import padded_rank

__all__ = ["Adapter", "Matrix", "Refresh", "Scratch"]


@dataclass(frozen=True)
class Adapter:
    """LoRA's two matrices of one linear layer, trained in float32."""

    a: Tensor
    """(r, K)"""
    b: Tensor
    """(N, r)"""
    scale: float


def base_of(linear: Any) -> Any:
    """The layer that PEFT wrapped, or the layer itself."""
    return getattr(linear, "base_layer", linear)


def adapter_of(linear: Any) -> Adapter | None:
    """The active adapter, if there is one."""
    names = [name for name in getattr(linear, "active_adapters", []) if name in linear.lora_A]
    if not names:
        return None
    (name,) = names
    return Adapter(linear.lora_A[name].weight, linear.lora_B[name].weight, linear.scaling[name])


class Scratch:
    """Memory for weights unpacked from 4 bits, shared by all layers: one matrix of each size."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], Tensor] = {}

    def take(self, shape: tuple[int, int], like: Tensor) -> Tensor:
        if shape not in self.held:
            self.held[shape] = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return self.held[shape]


class Matrix:
    """One matrix (N, K + P): the weights, and P columns for the adapters.

    ``unpacked``: weights in 4 bits are unpacked once and kept so, instead of at every use. Weights
    in 16 bits move into the matrix; the linear layers then look into it.
    """

    def __init__(
        self, linears: list[Any], ops: Any, dtype: torch.dtype, unpacked: bool, scratch: Scratch
    ) -> None:
        self.ops, self.scratch, self.bases = ops, scratch, [base_of(one) for one in linears]
        self.columns = self.bases[0].in_features
        ends = torch.tensor([base.out_features for base in self.bases]).cumsum(0).tolist()
        self.rows = [
            slice(end - base.out_features, end) for base, end in zip(self.bases, ends, strict=True)
        ]
        found = [adapter_of(one) for one in linears]
        self.adapters = [one for one in found if one is not None]
        widest = max((one.a.shape[0] for one in self.adapters), default=0)
        self.rank = padded_rank(widest) if widest else 0
        self.parts = [
            (rows, slice(number * self.rank, number * self.rank + adapter.a.shape[0]))
            for number, (rows, adapter) in enumerate(
                (rows, one) for rows, one in zip(self.rows, found, strict=True) if one is not None
            )
        ]
        self.width = self.rank * len(self.adapters)
        self.packed = hasattr(self.bases[0].weight, "quant_state")
        device = self.bases[0].weight.device
        shape = (ends[-1], self.columns + self.width)
        self.whole: Tensor | None = None
        if not self.packed or unpacked:
            self.whole = torch.zeros(shape, dtype=dtype, device=device)
            self._fill(self.whole)
            if not self.packed:
                for base, rows in zip(self.bases, self.rows, strict=True):
                    base.weight.data = self.whole[rows, : self.columns]
            self.tail = self.whole[:, self.columns :]
        else:
            self.tail = torch.zeros((shape[0], self.width), dtype=dtype, device=device)
        self.shape = shape
        self.a = torch.zeros((self.width, self.columns), dtype=dtype, device=device)
        self.bias = None
        if any(base.bias is not None for base in self.bases):
            self.bias = torch.zeros(shape[0], dtype=dtype, device=device)
            for base, rows in zip(self.bases, self.rows, strict=True):
                if base.bias is not None:
                    self.bias[rows] = base.bias.data

    def _fill(self, whole: Tensor) -> None:
        for base, rows in zip(self.bases, self.rows, strict=True):
            into = whole[rows, : self.columns]
            if self.packed:
                self.ops.unpack_4bit(base.weight.data, base.weight.quant_state, into)
            else:
                into.copy_(base.weight.data)

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained: A and B of every adapter."""
        return [each for one in self.adapters for each in (one.a, one.b)]

    def weight(self) -> Tensor:
        """(N, K + P); of 4 bits it lasts until the next matrix of this size is asked for."""
        if self.whole is not None:
            return self.whole
        whole = self.scratch.take(self.shape, self.tail)
        self._fill(whole)
        whole[:, self.columns :] = self.tail
        return whole

    def room(self, tokens: int) -> tuple[Tensor, Tensor]:
        """An uninitialised input (M, K + P), and the part of it (M, K) that the caller fills."""
        whole = torch.empty((tokens, self.shape[1]), dtype=self.tail.dtype, device=self.tail.device)
        return whole, whole[:, : self.columns]

    def forward(self, x: Tensor, drop: Dropout) -> tuple[Tensor, Tensor]:
        """(result (M, N), what to keep for the way back) of an input from :meth:`room`."""
        tail = x[:, self.columns :]
        kept = torch.empty(tail.shape, dtype=x.dtype, device=x.device)
        if self.adapters:
            count = len(self.adapters)
            self.ops.adapter_input(x[:, : self.columns], self.a, count, drop, tail, kept)
        weight = self.weight().T
        out = x @ weight if self.bias is None else torch.addmm(self.bias, x, weight)
        return out, kept

    def backward(self, grad: Tensor, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Gradients of the input (M, K) and of ``x A^T`` (M, P); views of one matrix."""
        back = grad @ self.weight()
        x, tail = back[:, : self.columns], back[:, self.columns :]
        if self.adapters:
            count = len(self.adapters)
            self.ops.add_adapter_gradient(x, tail, self.a, count, drop)
        return x, tail

    def gradients(
        self, grad: Tensor, kept: Tensor, back: Tensor, x: Tensor, drop: Dropout
    ) -> list[Tensor]:
        """Of :attr:`parameters`; ``kept`` is from forward, ``back`` from backward, ``x`` (M, K)."""
        if not self.adapters:
            return []
        firsts = self.ops.adapter_gradient(back, x, len(self.adapters), drop)
        seconds = grad.T @ kept
        result = []
        for adapter, (rows, ranks) in zip(self.adapters, self.parts, strict=True):
            result += [firsts[ranks], seconds[rows, ranks].float() * adapter.scale]
        return result


class Refresh:
    """Rounds the adapters as they are into the matrices; called before every forward pass."""

    def __init__(self, matrices: list[Matrix], ops: Any) -> None:
        self.ops = ops
        self.sources: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.scales: list[float] = []
        for matrix in matrices:
            for adapter, (rows, ranks) in zip(matrix.adapters, matrix.parts, strict=True):
                self.sources += [adapter.a, adapter.b]
                self.targets += [matrix.a[ranks], matrix.tail[rows, ranks]]
                self.scales += [1.0, adapter.scale]

    def __call__(self) -> None:
        with torch.no_grad():
            if self.sources:
                self.ops.copy_scaled(self.sources, self.targets, self.scales)
