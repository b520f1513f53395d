"""A step's numbers on their way from the GPU, which nobody waits for."""

from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Pending"]


@dataclass
class Pending:
    """What is journaled of one optimiser step once it is there."""

    number: int
    epoch: float
    learning_rate: float
    values: Any
    """float64 on the host: loss, tokens, gradient norm, accuracy."""
    ready: Any
    """The CUDA event after which ``values`` are there; None: they are."""
    memory: int | None = None
    peak: int | None = None
    """Bytes, where they were read with the step."""

    @classmethod
    def send(cls, values: list[Any], device: torch.device, **fields: Any) -> "Pending":
        """Set the numbers under way: tensors on ``device``, or numbers."""
        together = torch.stack(
            [
                value.to(device, torch.float64).reshape(())
                if isinstance(value, torch.Tensor)
                else torch.full((), float(value), dtype=torch.float64, device=device)
                for value in values
            ]
        )
        if device.type != "cuda":
            return cls(values=together, ready=None, **fields)
        host = torch.empty(len(values), dtype=torch.float64, pin_memory=True)
        host.copy_(together, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        return cls(values=host, ready=ready, **fields)

    def read(self) -> list[float]:
        """The numbers; waits until the GPU has come so far."""
        if self.ready is not None:
            self.ready.synchronize()
        found: list[float] = self.values.tolist()
        return found
