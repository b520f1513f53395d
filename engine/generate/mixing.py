"""Several adapters of one base in one batch: all are active, each counts in its own rows only.

PEFT's own mixed batches sort the rows by adapter at every layer, which waits for the GPU and cannot
be captured. Here what an adapter adds is set to zero in the rows of the others.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from engine.generate.models import Base

__all__ = ["BASE", "Mixture", "can_mask", "can_mix"]

BASE = "__base__"
"""PEFT's name for "no adapter" in a batch of mixed adapters."""


def can_mask(model: Any, adapters: Sequence[str]) -> bool:
    """Whether these adapters can share a batch here: plain LoRA that adds to linear layers only."""
    for config in model.peft_config.values():  # all that are loaded: PEFT activates them as one
        if config.peft_type.value != "LORA" or config.bias != "none":
            return False
        # What replaces weights, or holds whole ones, adds nothing that could be set to zero.
        if config.use_dora or config.modules_to_save or config.trainable_token_indices:
            return False
    names = set(adapters)
    return not any(
        names & {*layer.lora_embedding_A, *layer.lora_variant} for layer in _layers(model)
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


class Mixture:
    """The adapters that answer together in ``rows`` slots. One alone, or none, needs no masks."""

    def __init__(self, base: "Base", adapters: Sequence[str], rows: int) -> None:
        self.base = base
        self.adapters = sorted(set(adapters))
        self._silent: dict[str, torch.Tensor] = {}
        """For each adapter where it does not count (rows x 1 x 1)."""
        if len(self.adapters) > 1:
            self._silent = {
                name: torch.ones((rows, 1, 1), dtype=torch.bool, device=base.device)
                for name in self.adapters
                if name != BASE
            }
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
            with self._masked() if self._silent else self.base.only(self.adapters[0]):
                yield
        finally:
            self._active = False

    @contextlib.contextmanager
    def _masked(self) -> Iterator[None]:
        model = self.base.model
        model.base_model.set_adapter(list(self._silent), inference_mode=True)
        hooks = [
            layer.lora_B[name].register_forward_hook(self._masking(name))
            for layer in _layers(model)
            for name in self._silent
            if name in layer.lora_B
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _masking(self, name: str) -> Any:
        def mask(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output.masked_fill(self._now[name], 0.0)

        return mask

    def assign(self, slots: torch.Tensor, adapters: Sequence[str]) -> None:
        """From now on these slots are answered with these adapters."""
        for name, mask in self._silent.items():
            mask[slots] = self._rows(name, adapters)

    @contextlib.contextmanager
    def reading(self, adapters: Sequence[str]) -> Iterator[None]:
        """Meanwhile a batch is prompts for these adapters, not the slots."""
        self._now = {name: self._rows(name, adapters) for name in self._silent}
        try:
            yield
        finally:
            self._now = self._silent

    def _rows(self, name: str, adapters: Sequence[str]) -> torch.Tensor:
        rows = torch.tensor([adapter != name for adapter in adapters])
        return rows[:, None, None].to(self.base.device)
