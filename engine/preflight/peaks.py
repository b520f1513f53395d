"""Peaks of memory between two looks, of a GPU's allocator or of the process on the host. Bytes."""

import contextlib
import ctypes
import gc
from pathlib import Path

__all__ = ["Peaks"]

_STATUS = Path("/proc/self/status")
_REFS = Path("/proc/self/clear_refs")


class Peaks:
    """Readings for ``cuda:0`` or ``cpu``."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.cuda = device.startswith("cuda")

    def take(self) -> tuple[int, int]:
        """(reserved, allocated) at most since the last call; on the host both are resident bytes.

        Where the kernel does not reset its mark, the host's peak is that of the whole life.
        """
        if self.cuda:
            import torch

            peaks = (
                torch.cuda.max_memory_reserved(self.device),
                torch.cuda.max_memory_allocated(self.device),
            )
            torch.cuda.reset_peak_memory_stats(self.device)
            return peaks
        peak = _high_water_mark()
        with contextlib.suppress(OSError):
            _REFS.write_text("5")  # resets the mark: proc(5)
        return peak, peak

    def free(self) -> None:
        """Give back what nobody holds, so that the next peak is not the last one's."""
        gc.collect()
        if self.cuda:
            import torch

            torch.cuda.empty_cache()
        else:
            with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
                ctypes.CDLL(None).malloc_trim(0)
        self.take()


def _high_water_mark() -> int:
    """The most that was resident: ``VmHWM`` where there is a /proc, else getrusage's figure."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    from engine.train.memory import MemoryReader

    return MemoryReader("cpu").own()[1]
