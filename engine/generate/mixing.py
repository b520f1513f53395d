"""Several adapters of one base in one batch: each counts in its own rows only.

PEFT's own mixed batches sort the rows by adapter at every layer, which waits for the GPU and cannot
be captured, and one adapter is seven small kernels there, seven times a block. Here the matrices
of all adapters of a layer lie side by side: three kernels, however many they are, of which the
middle one sets to zero what the adapters of the other rows say.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from engine.generate.models import Base

__all__ = ["BASE", "Mixture", "can_mask", "can_mix"]

BASE = "__base__"
"""PEFT's name for "no adapter" in a batch of mixed adapters."""

Ranks = tuple[tuple[str, int], ...]
"""Adapters in the order in which their matrices lie side by side, and how many ranks each has."""


def can_mask(model: Any, adapters: Sequence[str]) -> bool:
    """Whether these adapters can share a batch here: plain LoRA that adds to linear layers only."""
    for config in model.peft_config.values():  # all that are loaded: PEFT changes the base for one
        if config.peft_type.value != "LORA" or config.bias != "none":
            return False
        # What replaces weights, or holds whole ones, adds nothing that could be set to zero.
        if config.use_dora or config.modules_to_save or config.trainable_token_indices:
            return False
        if config.lora_bias or getattr(config, "target_parameters", None):
            return False
    names = set(adapters)
    return not any(
        names & {*layer.lora_embedding_A, *layer.lora_variant}
        or any(name in names and part.weight.ndim != 2 for name, part in layer.lora_A.items())
        for layer in _layers(model)
    )


def can_mix(model: Any, adapters: Sequence[str]) -> bool:
    """Whether PEFT can: it raises for DoRA, for what is not LoRA, and for most saved modules."""
    configs = [model.peft_config[name] for name in set(adapters) - {BASE}]
    return all(
        config.peft_type.value == "LORA"
        and not getattr(config, "use_dora", False)
        and {"lm_head", "embed_tokens"}.issuperset(config.modules_to_save or ())
        for config in configs
    )


def _layers(model: Any) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (module for module in model.modules() if isinstance(module, LoraLayer))


@dataclass(frozen=True, eq=False)
class _Side:
    """What adapters add to one layer: ``masked(x @ down) @ up``."""

    layer: Any
    down: torch.Tensor
    """Shape: inputs x ranks of all."""
    up: torch.Tensor
    """Shape: ranks of all x outputs; multiplied by each adapter's scaling."""
    ranks: Ranks


def _side_by_side(base: "Base", adapters: Sequence[str]) -> list[_Side]:
    """For each layer that one of the adapters adds to, in the base's own precision.

    PEFT holds matrices in float32 and multiplies in it; training multiplied in the base's.
    """
    dtype = base.bare.get_input_embeddings().weight.dtype
    found = []
    for layer in _layers(base.model):
        if names := [name for name in adapters if name in layer.lora_A]:
            downs = [layer.lora_A[name].weight.detach() for name in names]
            ups = [layer.lora_B[name].weight.detach() * layer.scaling[name] for name in names]
            ranks = tuple((name, len(down)) for name, down in zip(names, downs, strict=True))
            down = torch.cat(downs).to(dtype).t().contiguous()
            up = torch.cat(ups, 1).to(dtype).t().contiguous()
            found.append(_Side(layer, down, up, ranks))
    return found


class Mixture:
    """The adapters that answer together in ``rows`` slots. One alone, or none, needs no masks."""

    def __init__(self, base: "Base", adapters: Sequence[str], rows: int) -> None:
        self.base = base
        self.adapters = sorted(set(adapters))
        named = [name for name in self.adapters if name != BASE]
        self._sides: list[_Side] = []
        if named and can_mask(base.model, named):
            self._sides = _side_by_side(base, named)
        self._silent: dict[Ranks, torch.Tensor] = {}
        """Where each rank does not count (rows x 1 x ranks)."""
        if len(self.adapters) > 1:
            everybody = [BASE] * rows
            self._silent = self._masks(everybody)
        self._now = self._silent
        self._active = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """The base's model answers with this mixture, until it is left; may be entered again."""
        if self._active:
            yield
            return
        self._active = True
        try:
            with self._added() if self._sides else self.base.only(self.adapters[0]):
                yield
        finally:
            self._active = False

    @contextlib.contextmanager
    def _added(self) -> Iterator[None]:
        with self.base.only(BASE), contextlib.ExitStack() as hooks:
            for side in self._sides:
                hooks.callback(side.layer.register_forward_hook(self._adding(side)).remove)
            yield

    def _adding(self, side: _Side) -> Any:
        def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            low = inputs[0].to(side.down.dtype) @ side.down
            if self._now:
                low = low.masked_fill(self._now[side.ranks], 0.0)
            if output.dtype != low.dtype or not output.is_contiguous():
                return output + (low @ side.up).to(output.dtype)
            output.flatten(0, -2).addmm_(low.flatten(0, -2), side.up)
            return output

        return add

    def assign(self, slots: torch.Tensor, adapters: Sequence[str]) -> None:
        """From now on these slots are answered with these adapters."""
        if self._silent:
            for ranks, mask in self._masks(adapters).items():
                self._silent[ranks][slots] = mask

    @contextlib.contextmanager
    def reading(self, adapters: Sequence[str]) -> Iterator[None]:
        """Meanwhile a batch is prompts for these adapters, not the slots."""
        self._now = self._masks(adapters) if self._silent else {}
        try:
            yield
        finally:
            self._now = self._silent

    def _masks(self, adapters: Sequence[str]) -> dict[Ranks, torch.Tensor]:
        """For rows with these adapters (rows x 1 x ranks)."""
        return {
            ranks: torch.tensor(
                [[[mine != name for name, n in ranks for _ in range(n)]] for mine in adapters]
            ).to(self.base.device)
            for ranks in {side.ranks for side in self._sides}
        }
