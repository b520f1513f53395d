"""The device that the bench has: leased like a run's, seen by all its processes, watched."""

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine.errors import UserError
from engine.home import Home
from engine.jobs import entries, leases
from engine.system.gpu import Gpu, read_gpus
from engine.words import counted

__all__ = ["BenchDevice", "have_device"]

FREED_SECONDS = 3.0
"""A process's memory on a GPU is still counted for a moment after its end."""
CROWDED, OTHERS = 0.9, 0.1
"""Shares of all processors: of what is in use altogether, and by others, where they slow us down.
"""


@dataclass
class BenchDevice:
    """One GPU, or the CPU."""

    name: str
    """The GPU's name as its driver tells it, or the processor's."""
    gpu: str | None
    """The GPU's name; None for the CPU."""
    driver: str | None = None
    visible: str | None = None
    """What of the machine's GPUs the bench's processes see."""
    notes: list[str] = field(default_factory=list)

    def others(self) -> str:
        """Who uses the GPU now that nothing of ours does, in words; empty: nobody."""
        if self.gpu is None:
            return ""
        deadline = time.monotonic() + FREED_SECONDS
        while True:
            used = [device for device in leases.devices(self.visible)[:1] if device.used]
            if not used:
                return ""
            if time.monotonic() >= deadline:
                return f"{used[0].words} is also used by {used[0].used}"
            time.sleep(0.1)

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[str]]:
        """Whoever else is seen to use the device before, during (CPU) or after what is done here.

        The list is filled at the end. All processes of ours have to have been waited for by then.
        """
        seen: list[str] = []
        before, began = self.others(), _Processors()
        yield seen
        after = self.others() or (began.others() if self.gpu is None else "")
        seen += dict.fromkeys(words for words in (before, after) if words)


class _Processors:
    """What the machine's processors did since this was made, and what of that was not ours."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.busy, self.ours = _busy_seconds(), _our_seconds()

    def others(self) -> str:
        there = os.cpu_count() or 1
        capacity = there * max(time.monotonic() - self.began, 1e-3)
        busy = _busy_seconds() - self.busy
        others = busy - (_our_seconds() - self.ours)
        if busy < CROWDED * capacity or others < OTHERS * capacity:
            return ""
        share = there * others / capacity
        words = counted(there, "processor")
        return f"other processes used {share:.1f} of {words} meanwhile"


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def _our_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextlib.contextmanager
def have_device(home: Home, wanted: str, anyway: bool) -> Iterator[BenchDevice]:
    """Hold the lease of the device for the whole bench, so that the queue starts nothing on it.

    ``wanted`` is ``model.device``; ``anyway``: also a GPU that a run has.
    Raises :class:`UserError`.
    """
    visible = leases.visible_here()
    count = leases.wanted(wanted, 1, visible)
    if wanted == "cuda" and not count:
        raise UserError(f"--device cuda: no GPU is seen here ({read_gpus().reason or visible})")
    notes = []
    with entries.hold(home):
        found = leases.look(home, count, visible, patient=count == 0)
        if isinstance(found, leases.Wait) and count and not anyway:
            raise UserError(f"{found.reason}; wait for it, or measure beside it with --now")
        if isinstance(found, leases.Wait):
            notes.append(found.reason)
        held = leases.take_now(home, count, anyway=True)
    before = os.environ.get(leases.VISIBLE)
    with held:
        held.mark("bench", "bench")
        try:
            if count and held.visible is not None:
                os.environ[leases.VISIBLE] = held.visible
            device = _gpu(held.visible) if count else _cpu()
            device.notes = notes + device.notes
            yield device
        finally:
            if before is None:
                os.environ.pop(leases.VISIBLE, None)
            else:
                os.environ[leases.VISIBLE] = before


def _gpu(visible: str | None) -> BenchDevice:
    state = read_gpus()
    device = leases.devices(visible)[0]
    names = {gpu.uuid: gpu.name for gpu in _with_parts(state.gpus)}
    name = names.get(device.uuid, device.words)
    return BenchDevice(name, name, state.driver, visible)


def _with_parts(gpus: tuple[Gpu, ...]) -> Iterator[Gpu]:
    for gpu in gpus:
        yield gpu
        yield from gpu.parts


def _cpu() -> BenchDevice:
    processors = counted(len(os.sched_getaffinity(0)), "processor")
    return BenchDevice(f"{_processor()}, {processors}", None)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return "CPU"
