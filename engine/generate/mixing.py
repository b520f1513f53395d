"""Several adapters of one base in one batch: each counts in its own rows only.

PEFT's own mixed batches sort the rows by adapter at every layer, which waits for the GPU and cannot
be captured, and one adapter is seven small kernels there, seven times a block. Here the matrices
of all adapters lie side by side, and those of layers that read the same: fifteen kernels a block,
however many adapters there are; what the adapters of the other rows say is set to zero.
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
        for _, layer in _layers(model)
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


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return (each for each in model.named_modules() if isinstance(each[1], LoraLayer))


@dataclass(frozen=True, eq=False)
class _Sides:
    """What adapters add to layers that mostly read the same (a block's queries, keys and values).

    To each layer: ``masked(x @ down)[its ranks] @ up``; the first part is done once for all.
    """

    down: torch.Tensor
    """Shape: inputs x ranks of all adapters of all layers."""
    ranks: Ranks
    layers: list[tuple[Any, slice, torch.Tensor]]
    """Layer, its ranks, its ``up`` (ranks x outputs), multiplied by each adapter's scaling."""


def _side_by_side(base: "Base", adapters: Sequence[str]) -> list[_Sides]:
    """All layers that one of the adapters adds to, in the base's own precision.

    PEFT holds matrices in float32 and multiplies in it; training multiplied in the base's.
    """
    dtype = base.bare.get_input_embeddings().weight.dtype
    alike: dict[tuple[str, int], list[Any]] = {}
    for path, layer in _layers(base.model):
        if layer.lora_A.keys() & set(adapters):
            parent = path.rpartition(".")[0]
            alike.setdefault((parent, layer.in_features), []).append(layer)
    found = []
    for layers in alike.values():
        downs: list[torch.Tensor] = []
        ranks: list[tuple[str, int]] = []
        places = []
        for layer in layers:
            names = [name for name in adapters if name in layer.lora_A]
            begin = sum(count for _, count in ranks)
            downs += [layer.lora_A[name].weight.detach() for name in names]
            ranks += [(name, len(layer.lora_A[name].weight)) for name in names]
            ups = [layer.lora_B[name].weight.detach() * layer.scaling[name] for name in names]
            up = torch.cat(ups, 1).to(dtype).t().contiguous()
            places.append((layer, slice(begin, begin + len(up)), up))
        down = torch.cat(downs).to(dtype).t().contiguous()
        found.append(_Sides(down, tuple(ranks), places))
    return found


class Mixture:
    """The adapters that answer together in ``rows`` slots. One alone, or none, needs no masks."""

    def __init__(self, base: "Base", adapters: Sequence[str], rows: int) -> None:
        self.base = base
        self.adapters = sorted(set(adapters))
        named = [name for name in self.adapters if name != BASE]
        self._sides: list[_Sides] = []
        if named and can_mask(base.model, named):
            self._sides = _side_by_side(base, named)
        self._silent: dict[Ranks, torch.Tensor] = {}
        """Where each rank does not count (rows x 1 x ranks)."""
        if len(self.adapters) > 1:
            self._silent = self._masks([BASE] * rows)
        self._now = self._silent
        self._read: tuple[Any, Any, Any] = None, None, None
        """What was read last, by which layers, and what came of it."""
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
            for sides in self._sides:
                for layer, ranks, up in sides.layers:
                    hook = layer.register_forward_hook(self._adding(sides, ranks, up))
                    hooks.callback(hook.remove)
            try:
                yield
            finally:
                self._read = None, None, None

    def _adding(self, sides: _Sides, ranks: slice, up: torch.Tensor) -> Any:
        def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            low = self._low(sides, inputs[0])[..., ranks]
            if output.dtype != low.dtype or not output.is_contiguous():
                return output + (low @ up).to(output.dtype)
            output.flatten(0, -2).addmm_(low.flatten(0, -2), up)
            return output

        return add

    def _low(self, sides: _Sides, x: torch.Tensor) -> torch.Tensor:
        """(..., ranks): kept for the next layer, which may read the same."""
        read, reader, low = self._read
        if read is not x or reader is not sides:
            low = x.to(sides.down.dtype) @ sides.down
            if self._now:
                low = low.masked_fill(self._now[sides.ranks], 0.0)
            self._read = x, sides, low
        return low

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
