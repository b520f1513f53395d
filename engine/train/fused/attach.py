"""Gives a loaded model with LoRA the fused layers, where it is one that they can compute."""

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from transformers.modeling_outputs import CausalLMOutputWithPast

from engine.recipe import Recipe
from engine.train.fused.attention import Attention, choose_attention
from engine.train.fused.layer import Flow, Layer, Norm
from engine.train.fused.loss import head_loss
from engine.train.fused.matrix import Matrix, Refresh, Scratch
from engine.train.fused.stack import Stack

__all__ = ["Fused", "FusedOutput", "fuse"]


@dataclass
class FusedOutput(CausalLMOutputWithPast):
    """With ``loss`` but no logits."""

    num_correct_tokens: torch.Tensor | None = None


@dataclass(frozen=True)
class Fused:
    """What became of a model."""

    attention: Attention
    stack: Stack


def fuse(
    model: Any, recipe: Recipe, dtype: str, device: str, *, unpacked: bool, graphs: bool
) -> Fused:
    """Compute this model's training and evaluation by the fused layers.

    What does not come as a flat batch (:class:`engine.train.fused.flat.FlatCollator`), such as
    generation, is computed as before. ``dtype`` is what matrices are multiplied in. ``unpacked``:
    weights in 4 bits are also held in 16, and not unpacked at every use. ``graphs``: record passes.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    ops = _operations(device)
    kind = getattr(torch, dtype)
    scratch, decoder = Scratch(), inner.model
    layers = [
        _layer(number, module, inner.config, ops, kind, unpacked, scratch)
        for number, module in enumerate(decoder.layers)
    ]
    refresh = Refresh([matrix for layer in layers for matrix in layer.matrices], ops)
    attention = choose_attention(device, kind)
    stack = Stack(layers, graphs=graphs, longest=recipe.train.max_length)
    original = inner.forward

    def forward(
        self: Any,
        input_ids: Any = None,
        labels: Any = None,
        cu_seq_lens_q: Any = None,
        max_length_q: int = 0,
        loss_positions: Any = None,
        loss_targets: Any = None,
        position_ids: Any = None,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        if cu_seq_lens_q is None:
            return original(input_ids=input_ids, labels=labels, position_ids=position_ids, **kwargs)
        refresh()
        x = decoder.embed_tokens(input_ids).to(kind)
        cos, sin = decoder.rotary_emb(x, position_ids)
        seed = torch.randint(2**31, (1,), dtype=torch.int32) if self.training else torch.zeros(1)
        flow = Flow(
            cos[0], sin[0], cu_seq_lens_q, max_length_q, attention,
            dropout=recipe.lora.lora_dropout if self.training else 0.0,
            seed=seed.to(x.device, torch.int32, non_blocking=True),
        )  # fmt: skip
        stack.checkpointing = recipe.train.gradient_checkpointing and self.training
        hidden = Norm.apply(stack(x[0], flow), loss_positions, decoder.norm, ops)
        total, right = head_loss(hidden, inner.lm_head.weight, loss_targets, ops)
        count = len(loss_targets) if num_items_in_batch is None else num_items_in_batch
        return FusedOutput(loss=total / count, num_correct_tokens=right)

    inner.forward = MethodType(forward, inner)
    return Fused(attention, stack)


def _operations(device: str) -> Any:
    if device.startswith("cuda"):
        from engine.train.fused import kernels

        return kernels
    from engine.train.fused import reference

    return reference


def _layer(
    number: int,
    module: Any,
    config: Any,
    ops: Any,
    dtype: torch.dtype,
    unpacked: bool,
    scratch: Scratch,
) -> Layer:
    attention, mlp = module.self_attn, module.mlp

    def matrix(*linears: Any) -> Matrix:
        return Matrix(list(linears), ops, dtype, unpacked, scratch)

    return Layer(
        number=number,
        ops=ops,
        first_norm=module.input_layernorm,
        second_norm=module.post_attention_layernorm,
        heads=config.num_attention_heads,
        key_heads=config.num_key_value_heads,
        qkv=matrix(attention.q_proj, attention.k_proj, attention.v_proj),
        output=matrix(attention.o_proj),
        gate_up=matrix(mlp.gate_proj, mlp.up_proj),
        down=matrix(mlp.down_proj),
    )
