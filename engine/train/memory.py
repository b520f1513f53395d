"""How much memory training takes: the GPU's, or the host's where there is none."""

import resource
import sys
from typing import Any

__all__ = ["MemoryReader"]


class MemoryReader:
    """Readings for one device; all in bytes."""

    def __init__(self, device: str) -> None:
        self.device = device if device.startswith("cuda") else "host"

    def own(self) -> tuple[int, int]:
        """(now, peak) of this process: reserved by the GPU allocator, or resident on the host."""
        if self.device != "host":
            import torch

            return (
                torch.cuda.memory_reserved(self.device),
                torch.cuda.max_memory_reserved(self.device),
            )
        import psutil

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return psutil.Process().memory_info().rss, peak * (1 if sys.platform == "darwin" else 1024)

    def whole(self) -> dict[str, Any]:
        """The fields of a ``memory`` event: the whole device, whoever uses it."""
        _, peak = self.own()
        if self.device != "host":
            import torch

            free, total = torch.cuda.mem_get_info(self.device)
            try:
                utilisation: int | None = torch.cuda.utilization(self.device)
            except Exception:  # NVML missing or not allowed: the reading is not worth a run
                utilisation = None
            return {
                "device": self.device,
                "used_bytes": total - free,
                "total_bytes": total,
                "peak_bytes": peak,
                "utilisation": utilisation,
            }
        import psutil

        host = psutil.virtual_memory()
        return {
            "device": "host",
            "used_bytes": host.total - host.available,
            "total_bytes": host.total,
            "peak_bytes": peak,
            "utilisation": None,
        }
