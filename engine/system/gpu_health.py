"""What holds a card back or is wrong with it: clocks, throttling, traffic, memory errors, by NVML.

Each is None where a card does not tell it (a MIG device, an older driver).
"""

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


def read_health(nvml: ModuleType, handle: Any) -> GpuHealth:
    """Ask one device; never raises. The two traffic readings take 20 ms each."""

    def ask(question: str, *arguments: int) -> int | None:
        return _or_none(lambda: int(getattr(nvml, question)(handle, *arguments)))

    def traffic(direction: int) -> int | None:
        kilobytes = ask("nvmlDeviceGetPcieThroughput", direction)
        return kilobytes if kilobytes is None else kilobytes * 1024

    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # the name before driver 535
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return GpuHealth(
        sm_clock=ask("nvmlDeviceGetClockInfo", _SM),
        sm_clock_most=ask("nvmlDeviceGetMaxClockInfo", _SM),
        memory_clock=ask("nvmlDeviceGetClockInfo", _MEMORY),
        throttled=None if reasons is None else throttle_words(reasons),
        pcie_sent=traffic(_TX),
        pcie_received=traffic(_RX),
        memory_errors=ask("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE),
    )


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
