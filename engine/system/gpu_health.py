"""What holds a card back or is wrong with it: clocks, throttling, traffic, memory errors, by NVML.

Each is None where a card does not tell it (a MIG device, an older driver).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["GpuHealth", "read_health"]

T = TypeVar("T")

_IDLE, _BY_CHOICE = 0x1, 0x2 | 0x10 | 0x100
"""An idle card clocks down; clocks set by somebody, or those of a synchronised group."""

THROTTLES = {
    0x40: "too hot",
    0x20: "near its heat limit",
    0x80: "power brake",
    0x4: "power limit",
    0x8: "hardware slowdown",
}
"""``nvmlClocksEventReasons``, the graver ones first; the last one is set beside its cause."""

_TX, _RX, _SM, _MEMORY = 0, 1, 1, 2
_UNCORRECTED, _VOLATILE = 1, 0


@dataclass(frozen=True)
class GpuHealth:
    """One reading. Clocks in MHz, traffic in bytes a second."""

    sm_clock: int | None = None
    sm_clock_most: int | None = None
    memory_clock: int | None = None
    throttled: str | None = None
    """What holds the clocks down, in words; "" nothing; None: not told."""
    pcie_sent: int | None = None
    pcie_received: int | None = None
    """Over the last 20 ms, as the card sees it."""
    memory_errors: int | None = None
    """ECC errors that could not be corrected, since the driver was loaded."""
    nvlink_sent: int | None = None
    nvlink_received: int | None = None
    """Over all links, since the reading before; None also at the first one, and without links."""


_LINK_SENT, _LINK_RECEIVED = 138, 139
"""``NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX`` and ``_RX``: KiB since the driver was loaded."""
_ALL_LINKS = 0xFFFFFFFF

_links: dict[str, tuple[float, int, int]] = {}
"""UUID -> (when, KiB sent, KiB received) at its last reading: the driver counts, we divide."""


def read_health(nvml: ModuleType, handle: Any, uuid: str) -> GpuHealth:
    """Ask one device; never raises. The two readings of PCIe traffic take 20 ms each."""

    def ask(question: str, *arguments: int) -> int | None:
        return _or_none(lambda: int(getattr(nvml, question)(handle, *arguments)))

    def traffic(direction: int) -> int | None:
        kilobytes = ask("nvmlDeviceGetPcieThroughput", direction)
        return kilobytes if kilobytes is None else kilobytes * 1024

    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # the name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    linked = _link_traffic(nvml, handle, uuid) or (None, None)
    return GpuHealth(
        sm_clock=ask("nvmlDeviceGetClockInfo", _SM),
        sm_clock_most=ask("nvmlDeviceGetMaxClockInfo", _SM),
        memory_clock=ask("nvmlDeviceGetClockInfo", _MEMORY),
        throttled=None if reasons is None else throttle_words(reasons),
        pcie_sent=traffic(_TX),
        pcie_received=traffic(_RX),
        memory_errors=ask("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE),
        nvlink_sent=linked[0],
        nvlink_received=linked[1],
    )


def _link_traffic(nvml: ModuleType, handle: Any, uuid: str) -> tuple[int, int] | None:
    """Bytes a second (sent, received) over NVLink since the reading before."""

    def read() -> tuple[float, int, int]:
        fields = [(_LINK_SENT, _ALL_LINKS), (_LINK_RECEIVED, _ALL_LINKS)]
        values = nvml.nvmlDeviceGetFieldValues(handle, fields)
        if any(value.nvmlReturn for value in values):
            raise LookupError("no NVLink")
        sent, received = (int(value.value.ullVal) for value in values)
        return time.monotonic(), sent, received

    now = _or_none(read)
    before = _links.pop(uuid, None)
    if now is None:
        return None
    _links[uuid] = now
    if before is None or now[0] <= before[0]:
        return None
    seconds, sent, received = (a - b for a, b in zip(now, before, strict=True))
    if sent < 0 or received < 0:  # the driver was loaded anew
        return None
    return int(sent * 1024 / seconds), int(received * 1024 / seconds)


def throttle_words(reasons: int) -> str:
    """The bits of ``nvmlClocksEventReasons`` as words; "" for what holds nothing back."""
    causes = [words for bit, words in THROTTLES.items() if reasons & bit]
    if len(causes) > 1 and causes[-1] == THROTTLES[0x8]:
        causes.pop()
    unknown = reasons & ~(_IDLE | _BY_CHOICE | sum(THROTTLES))
    if unknown:
        causes.append(f"reason {unknown:#x}")
    return ", ".join(causes)


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception:
        return None
