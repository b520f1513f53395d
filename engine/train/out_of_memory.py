"""What torch and NVML know when a GPU's memory ran out; imported where torch is loaded already."""

import contextlib
import gc
import os
import traceback
from typing import Any

__all__ = ["measure"]

STEPS = frozenset({"training_step", "split_loss", "generate"})
"""Functions below which memory is made for one batch only, and given back after it."""


def measure(error: BaseException) -> dict[str, Any]:
    """Bytes of the GPU in use; with what stays whatever the batch (``held_bytes``).

    Lets go of what the failed step made, by clearing the locals of its frames: only for a worker
    that is about to end. Raises what torch raises on a GPU that does not answer any more.
    """
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    device = torch.cuda.current_device()
    allocated = torch.cuda.memory_allocated(device)
    reserved = torch.cuda.memory_reserved(device)
    free, total = torch.cuda.mem_get_info(device)
    found: dict[str, Any] = {
        "total_bytes": total,
        "free_bytes": free,
        "used_bytes": reserved,
        "allocated_bytes": allocated,
        "cached_bytes": reserved - allocated,
        "peak_bytes": torch.cuda.max_memory_reserved(device),
    }
    if processes := _others(torch, device, reserved):
        found["processes"] = processes
    if _let_go(error):
        gc.collect()
        found["held_bytes"] = torch.cuda.memory_allocated(device)
    return found


def _let_go(error: BaseException) -> bool:
    """Clear the frames of one batch; False when it did not happen in a batch."""
    cleared = False
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        frames = [frame for frame, _ in traceback.walk_tb(link.__traceback__)]
        names = [frame.f_code.co_name for frame in frames]
        first = next((at for at, name in enumerate(names) if name in STEPS), None)
        if first is None and cleared:
            first = 0  # a chained error's traceback begins where it was caught: below the step
        if first is not None:
            cleared = True
            for frame in frames[first:]:
                with contextlib.suppress(RuntimeError):  # still running
                    frame.clear()
        link = link.__cause__ or link.__context__
    return cleared


def _others(torch: Any, device: int, reserved: int) -> list[dict[str, Any]]:
    """Other processes on this GPU: pid, name, bytes. Empty where the driver does not tell."""
    from engine.system.gpu import read_gpus

    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    for gpu in read_gpus():
        if gpu.uuid != uuid:
            continue
        there = [process for process in gpu.processes or () if process.memory]
        mine = any(process.pid == os.getpid() for process in there)
        # In a container's own numbering this process has another id: then the one that holds about
        # what it holds (and a context of up to 1 GiB) is taken for it.
        return [
            {"pid": process.pid, "name": process.name, "bytes": process.memory}
            for process in there
            if process.pid != os.getpid()
            and (mine or not reserved <= (process.memory or 0) <= reserved + (1 << 30))
        ]
    return []
