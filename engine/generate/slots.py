"""A KV cache of a fixed number of slots, one answer in each, and the attention that reads it.

Every slot has its own length, so that answers of any length share a batch without padding, and a
slot that is done takes the next prompt while the others go on. The tensors never change their
shape or address, which is what a CUDA graph needs.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache
from transformers.cache_utils import CacheLayerMixin

__all__ = ["ATTENTION", "SlotCache", "slot_attention"]

ATTENTION = "tunebench_slots"
"""The name of :func:`slot_attention` for ``set_attn_implementation``."""


@dataclass(eq=False)
class _Place:
    """Where the layers of a cache store what is new; apart from it, so that it is freed at once."""

    rows: int
    capacity: int
    positions: torch.Tensor
    slots: torch.Tensor | None = None


class SlotCache(Cache):
    """Keys and values of ``rows`` slots of ``capacity`` tokens each, for every layer.

    ``positions`` (shape: rows) says where the next token of each slot goes.
    """

    def __init__(self, layers: int, rows: int, capacity: int, positions: torch.Tensor) -> None:
        self._place = _Place(rows, capacity, positions)
        super().__init__(layers=[_SlotLayer(self._place) for _ in range(layers)])

    @contextlib.contextmanager
    def reading(self, slots: torch.Tensor) -> Iterator[None]:
        """Meanwhile a batch is prompts for these slots, not one token for every slot."""
        self._place.slots = slots
        try:
            yield
        finally:
            self._place.slots = None


class _SlotLayer(CacheLayerMixin):
    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        def room(states: torch.Tensor) -> torch.Tensor:
            _, heads, _, size = states.shape
            return states.new_zeros((self.place.rows, heads, self.place.capacity, size))

        self.keys, self.values = room(key_states), room(value_states)
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        """Store what is new (batch x heads x tokens x size); returns what attention looks at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        slots = self.place.slots
        if slots is not None:
            # A prompt looks at itself only. It is padded on the right: what lies behind a slot's
            # length is overwritten before it is looked at.
            length = key_states.shape[2]
            self.keys[slots, :, :length] = key_states
            self.values[slots, :, :length] = value_states
            return key_states, value_states
        where = self.place.positions[:, None, None, None]
        self.keys.scatter_(2, where.expand_as(key_states), key_states)
        self.values.scatter_(2, where.expand_as(value_states), value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.place.capacity, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.place.capacity


def slot_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal without a mask (prompts being read); with one, a single token of each slot.

    Heads that share keys are then one query of several tokens, so that the keys are not copied
    for each of them. Raises NotImplementedError for what this attention does not know.
    """
    unknown = {"softcap", "s_aux", "position_bias"} & {
        k for k, v in kwargs.items() if v is not None
    }
    if unknown:
        raise NotImplementedError(f"attention with {sorted(unknown)[0]}")
    rows, heads, length, size = query.shape
    shared = key.shape[1]
    if attention_mask is None:
        seen = scaled_dot_product_attention(
            *(query, key, value),
            is_causal=length > 1,
            scale=scaling,
            enable_gqa=heads != shared,
        )
    else:
        grouped = query.reshape(rows, shared, heads // shared, size)
        seen = scaled_dot_product_attention(
            grouped, key, value, attn_mask=attention_mask.to(query.dtype), scale=scaling
        ).reshape(rows, heads, 1, value.shape[-1])
    return seen.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, slot_attention)
