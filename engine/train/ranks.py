"""What the processes that train one run together say to each other; alone, there is nothing to say.

All of them call the same methods in the same order, or the others wait for ever.
"""

import contextlib
import datetime
import os
from collections.abc import Sequence
from typing import Any

from engine.jobs.context import RunContext
from engine.jobs.ranks import RankFiles

__all__ = ["Ranks", "join", "local_device"]

PATIENCE = datetime.timedelta(minutes=30)
"""How long one waits for the others, who may be writing a checkpoint to a slow disk. Whoever dies
is missed by the lead at once; this is for the rest."""


def local_device() -> str:
    """This process's GPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


class Ranks:
    """One process, which is the first and the only one."""

    index = 0
    count = 1

    @property
    def first(self) -> bool:
        """Whether this process journals, writes files and obeys."""
        return self.index == 0

    def gather(self, values: Sequence[Any]) -> list[list[float]]:
        """Every process's numbers (floats or tensors of one element), by rank."""
        return [[float(value) for value in values]]

    def tell(self, values: Sequence[float]) -> list[list[float]]:
        """As :meth:`gather`, of numbers that are on the host: no GPU is waited for."""
        return self.gather(values)

    def total(self, values: Sequence[Any]) -> list[Any]:
        """The sums over all processes as tensors of one element, float64, which nobody waits for.

        Alone: the values as they are.
        """
        return list(values)

    def sum(self, values: Sequence[Any]) -> list[float]:
        """The sums over all processes, in float64."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def agree(self, value: float) -> float:
        """What the first process says, for all."""
        return self.gather([value])[0][0]

    def wait(self) -> None:
        """Until all are here."""

    def leave(self) -> None:
        """Part in peace: nobody waits for this process any more."""


class _Joined(Ranks):
    """One of several, over torch.distributed: gloo on CPUs, NCCL on GPUs."""

    def __init__(self, index: int, count: int, device: str) -> None:
        self.index = index
        self.count = count
        self.device = device

    def gather(self, values: Sequence[Any]) -> list[list[float]]:
        return self._gather(_stacked(values, self.device))

    def tell(self, values: Sequence[float]) -> list[list[float]]:
        return self._gather(_stacked(values, "cpu"))

    def total(self, values: Sequence[Any]) -> list[Any]:
        import torch

        own = _stacked(values, self.device)
        torch.distributed.all_reduce(own)
        return list(own)

    def _gather(self, own: Any) -> list[list[float]]:
        import torch

        everyone = [torch.empty_like(own) for _ in range(self.count)]
        torch.distributed.all_gather(everyone, own)
        return torch.stack(everyone).tolist()

    def wait(self) -> None:
        self.gather([0.0])

    def leave(self) -> None:
        import torch

        self.wait()
        with contextlib.suppress(Exception):  # all is done and saved
            torch.distributed.destroy_process_group()


def _stacked(values: Sequence[Any], device: str) -> Any:
    import torch

    return torch.stack(
        [torch.as_tensor(value, dtype=torch.float64, device=device).reshape(()) for value in values]
    )


def join(context: RunContext, device: str) -> Ranks:
    """Meet the other processes of this attempt. ``device`` is this one's: ``cuda:N`` or ``cpu``.

    They find each other by a file, and talk over the loopback interface (the lead says so): no
    port is opened to the network.
    """
    if context.ranks == 1:
        return Ranks()
    import torch

    cpu = device == "cpu"
    if cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # also where there is a GPU
    else:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        # Collecting sharded weights in the host's memory goes by way of the CPU.
        backend="gloo" if cpu else "cpu:gloo,cuda:nccl",
        init_method=f"file://{RankFiles(context.folder).store}",
        rank=context.rank,
        world_size=context.ranks,
        timeout=PATIENCE,
    )
    return _Joined(context.rank, context.ranks, device)
