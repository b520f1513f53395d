"""One decoder layer, forwards and backwards, around its attention.

Kept for the way back, per token and layer: the input, query, key and value, the result of
attention, the input of the second norm, gate and up. Norms and activations are made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.train.fused.attention import Attention, attend
from engine.train.fused.matrix import Matrix
from engine.train.fused.reference import Dropout

__all__ = ["Flow", "Layer", "Norm", "run_layer"]


@dataclass
class Flow:
    """What all layers need in one forward pass over M tokens."""

    cos: Tensor
    sin: Tensor
    """(M, D) rotary tables."""
    ends: Tensor
    """Where each row begins and, last, M; int32."""
    longest: int
    attention: Attention
    dropout: float
    seed: Tensor
    """Of this pass's dropout: see :class:`engine.train.fused.reference.Dropout`."""

    def drop(self, layer: int, matrix: int) -> Dropout:
        mixed = (layer * 4 + matrix + 1) * 0x85EBCA6B
        return Dropout(self.dropout, self.seed, (mixed ^ (mixed >> 15)) % (1 << 29))


@dataclass
class Layer:
    """A decoder layer's parts."""

    number: int
    ops: Any
    first_norm: Any
    second_norm: Any
    """Modules with ``weight`` and ``variance_epsilon``."""
    heads: int
    key_heads: int
    qkv: Matrix
    output: Matrix
    gate_up: Matrix
    down: Matrix

    @property
    def matrices(self) -> list[Matrix]:
        return [self.qkv, self.output, self.gate_up, self.down]

    @property
    def parameters(self) -> list[Tensor]:
        return [each for matrix in self.matrices for each in matrix.parameters]


def run_layer(x: Tensor, layer: Layer, flow: Flow, trained: Sequence[Tensor]) -> Tensor:
    """(M, H) -> (M, H). ``trained``: the leaves that gradients go to, of all matrices in order."""
    first = len(layer.qkv.parameters)
    q, k, v, x = _BeforeAttention.apply(x, layer, flow, *trained[:first])
    result = attend(q, k, v, flow.ends, flow.longest, flow.attention)
    y: Tensor = _AfterAttention.apply(x, result, layer, flow, *trained[first:])
    return y


class _BeforeAttention(torch.autograd.Function):
    """x (M, H) -> q (M, heads, D), k and v (M, key heads, D), and x for the way around.

    x is handed on so that its two gradients meet in the norm's kernel, not in one of their own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, flow: Flow, *_: Tensor) -> tuple[Tensor, ...]:
        ops, norm, drop = layer.ops, layer.first_norm, flow.drop(layer.number, 0)
        normed, into = layer.qkv.room(x.shape[0])
        ops.rms_norm(x, norm.weight, norm.variance_epsilon, into)
        qkv, kept = layer.qkv.forward(normed, drop)
        turned = layer.heads + layer.key_heads
        ops.rotate(qkv, flow.cos, flow.sin, turned, qkv)
        ctx.save_for_backward(x, kept)
        ctx.layer, ctx.flow, ctx.drop = layer, flow, drop
        heads = qkv.view(x.shape[0], -1, flow.cos.shape[-1])
        q, k, v = heads.split([layer.heads, layer.key_heads, layer.key_heads], 1)
        return q, k, v, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, kept = ctx.saved_tensors
        layer, flow, drop = ctx.layer, ctx.flow, ctx.drop
        ops, norm, matrix = layer.ops, layer.first_norm, layer.qkv
        tokens, size = x.shape[0], flow.cos.shape[-1]
        dq, dk, dv = (grad.reshape(tokens, -1) for grad in grads[:3])
        grad = torch.empty((tokens, matrix.shape[0]), dtype=x.dtype, device=x.device)
        keys, values = layer.heads * size, (layer.heads + layer.key_heads) * size
        ops.rotate(dq, flow.cos, flow.sin, layer.heads, grad, back=True)
        ops.rotate(dk, flow.cos, flow.sin, layer.key_heads, grad[:, keys:values], back=True)
        grad[:, values:].copy_(dv)
        back, tail = matrix.backward(grad, drop)
        normed = torch.empty_like(x)
        ops.rms_norm(x, norm.weight, norm.variance_epsilon, normed)
        trained = matrix.gradients(grad, kept, tail, normed, drop)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = ops.rms_norm_backward(back, x, norm.weight, norm.variance_epsilon, grads[3])
        return (dx, None, None, *trained)


class _AfterAttention(torch.autograd.Function):
    """x (M, H) and the result of attention (M, heads, D) -> the layer's output (M, H)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, attended: Tensor, layer: Layer, flow: Flow, *_: Tensor
    ) -> Tensor:
        ops, norm, tokens = layer.ops, layer.second_norm, x.shape[0]
        drops = [flow.drop(layer.number, matrix) for matrix in (1, 2, 3)]
        whole, into = layer.output.room(tokens)
        into.copy_(attended.reshape(tokens, -1))
        between, kept_output = layer.output.forward(whole, drops[0])
        between += x
        whole, into = layer.gate_up.room(tokens)
        ops.rms_norm(between, norm.weight, norm.variance_epsilon, into)
        gate_up, kept_gate_up = layer.gate_up.forward(whole, drops[1])
        whole, into = layer.down.room(tokens)
        ops.swiglu(gate_up, into)
        y, kept_down = layer.down.forward(whole, drops[2])
        y += between
        ctx.save_for_backward(attended, between, gate_up, kept_output, kept_gate_up, kept_down)
        ctx.layer, ctx.drops = layer, drops
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        attended, between, gate_up, kept_output, kept_gate_up, kept_down = ctx.saved_tensors
        layer, drops = ctx.layer, ctx.drops
        ops, norm = layer.ops, layer.second_norm
        hidden, tail = layer.down.backward(grad, drops[2])
        ops.swiglu_backward(gate_up, hidden)  # gate_up: its gradient; hidden: down's input again
        down = layer.down.gradients(grad, kept_down, tail, hidden, drops[2])
        del hidden
        back, tail = layer.gate_up.backward(gate_up, drops[1])
        normed = torch.empty_like(between)
        ops.rms_norm(between, norm.weight, norm.variance_epsilon, normed)
        middle = layer.gate_up.gradients(gate_up, kept_gate_up, tail, normed, drops[1])
        dx = ops.rms_norm_backward(back, between, norm.weight, norm.variance_epsilon, grad)
        back, tail = layer.output.backward(dx, drops[0])
        flat = attended.reshape(dx.shape[0], -1)
        output = layer.output.gradients(dx, kept_output, tail, flat, drops[0])
        return (dx, back.view(attended.shape), None, None, *output, *middle, *down)


class Norm(torch.autograd.Function):
    """RMS norm of the tokens (n, H) at ``places`` (n,) among M; its weight is not trained."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, module: Any, ops: Any) -> Tensor:
        some = x.index_select(0, places)
        result = torch.empty_like(some)
        ops.rms_norm(some, module.weight, module.variance_epsilon, result)
        ctx.save_for_backward(some, places)
        ctx.module, ctx.ops, ctx.shape = module, ops, x.shape
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        some, places = ctx.saved_tensors
        module = ctx.module
        dx = ctx.ops.rms_norm_backward(grad, some, module.weight, module.variance_epsilon)
        return dx.new_zeros(ctx.shape).index_copy_(0, places, dx), None, None, None
