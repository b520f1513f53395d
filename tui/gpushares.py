"""Whose a GPU's memory is: the run that is looked at, other runs of ours, others, nobody's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.history.row import ENDS
from engine.system.gpu import Gpu
from engine.system.host import OurProcess

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["Shares", "context_bytes", "shares_of"]

MOST_CONTEXT = 4 << 30
"""CUDA's own memory of a process is below that; more is somebody else's."""


@dataclass(frozen=True)
class Shares:
    """Bytes of one device; the four parts add up to the total."""

    total: int
    this_run: int
    other_runs: int
    others: int
    free: int
    run: str = ""
    """Id of the run that ``this_run`` is of; "" none, or the playground's models."""
    peak: int | None = None
    estimate: int | None = None
    """As the run's allocator counts, without what CUDA takes for the process."""
    context: int = 0
    """That: by so much the marks of peak and estimate move right on the device's bar."""


def context_bytes(held: int, reserved: int | None) -> int:
    """What a process takes besides what its allocator has reserved, where that can be told."""
    more = held - reserved if reserved is not None else 0
    return more if 0 < more < MOST_CONTEXT else 0


def shares_of(
    gpu: Gpu,
    ours: Mapping[int, OurProcess],
    rows: Mapping[str, "RunRow"],
    leased: Mapping[str, str],
    wanted: str = "",
) -> Shares | None:
    """None where the device does not tell its memory.

    By its processes; where those are not told, as inside a container, by who has the lease on it
    (``leased``: GPU's UUID -> run) and what that run journaled. ``wanted``: the run that is looked
    at, where it is on this device; else the one with the most memory there.
    """
    used, total = gpu.memory_used, gpu.memory_total
    if used is None or not total:
        return None
    runs: dict[str, int] = {}
    for process in gpu.processes or ():
        if (mine := ours.get(process.pid)) is not None:
            runs[mine.run] = runs.get(mine.run, 0) + (process.memory or 0)
    lessee = rows.get(leased.get(gpu.uuid, ""))
    if not any(runs.values()) and lessee is not None and lessee.state not in ENDS:
        runs[lessee.id] = min(used, lessee.memory_bytes or 0)
    runs = {run: held for run, held in runs.items() if held}
    run = wanted if wanted in runs else max(runs, key=lambda run: runs[run], default="")
    this = min(runs.get(run, 0), used)
    other = min(sum(runs.values()) - runs.get(run, 0), used - this)
    row = rows.get(run)
    peak = row.peak_memory_bytes if row else None
    estimate = row.estimated_peak_bytes if row else None
    context = context_bytes(this, row.memory_bytes) if row else 0
    free = max(0, total - used)
    parts = (total, this, other, max(0, min(used, total) - this - other), free)
    return Shares(*parts, run, peak, estimate, context)
