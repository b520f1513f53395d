"""What went wrong with the GPUs, and when: the driver's Xid errors, and memory errors (ECC).

NVML keeps an event for whoever registered before it happened; what happened earlier is in the
kernel's log, where that may be read. Meaning of the numbers: NVIDIA's "Xid Errors".
"""

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.system.gpu import ask_driver
from engine.system.xid import HARDWARE, kernel_log, timed_xids

__all__ = ["MEANINGS", "EventWatch", "GpuEvent", "logged_events", "poll_events"]

MEANINGS = {
    13: "a program made an error in its kernel",
    31: "a program touched memory that is not its own",
    32: "a program sent a damaged command",
    43: "the driver stopped a program",
    45: "a program was ended after an earlier error",
    48: "memory error that could not be corrected",
    61: "the card's own processor stumbled",
    62: "the card's own processor stopped",
    63: "a broken row of memory was set aside",
    64: "a broken row of memory could not be set aside",
    74: "NVLink error",
    79: "the card fell off the bus",
    92: "many memory errors that were corrected",
    94: "memory error that hit one program",
    95: "memory error that may have hit every program",
    119: "the card's own processor does not answer",
    120: "the card's own processor failed",
    140: "memory error that could not be corrected",
    143: "the card could not be initialised",
}
XID = 0x8
"""``nvmlEventTypeXidCriticalError``."""
UNCORRECTED, VOLATILE = 1, 0
MOST_AT_ONCE = 64
RETRY_SECONDS = 60.0
MOST_LOGGED = 200
PROC = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class GpuEvent:
    """Something that happened to a card."""

    t: float
    """Seconds since the epoch."""
    gpu: int | None
    """The card's number; None: it could not be told."""
    xid: int | None
    """The driver's number of the error; None: a memory error that was counted."""
    words: str
    grave: bool
    """The hardware's or the driver's doing; else some program's."""


def xid_words(number: int) -> str:
    meaning = MEANINGS.get(number)
    return f"Xid {number}: {meaning}" if meaning else f"Xid {number}"


class EventWatch:
    """Hears of errors from the first :meth:`poll` on. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: Any = None
        self._not_before = float("-inf")
        self._counted: dict[int, int] = {}

    def poll(self) -> list[GpuEvent]:
        """What happened since the call before. Never raises, never waits; about 1 ms a card."""
        with self._lock:
            found: list[GpuEvent] = []
            ask_driver(lambda nvml: self._ask(nvml, found))
            return found

    def _ask(self, nvml: ModuleType, found: list[GpuEvent]) -> None:
        now = time.time()
        count = nvml.nvmlDeviceGetCount()
        for index in range(count):
            self._count_errors(nvml, index, now, found)
        if self._set is None and time.monotonic() < self._not_before:
            return
        try:
            if self._set is None:
                self._set = _registered(nvml, count)
            for _ in range(MOST_AT_ONCE):
                event = nvml.nvmlEventSetWait(self._set, 0)
                if event.eventType == XID:
                    number = int(event.eventData)
                    words, grave = xid_words(number), number in HARDWARE
                    found.append(GpuEvent(now, _index(nvml, event.device), number, words, grave))
        except Exception as error:
            if type(error).__name__ != "NVMLError_Timeout":  # which says that there is no more
                self._give_up(nvml)

    def _give_up(self, nvml: ModuleType) -> None:
        """Register anew after a while: the driver may have been loaded again."""
        self._not_before = time.monotonic() + RETRY_SECONDS
        with contextlib.suppress(Exception):
            nvml.nvmlEventSetFree(self._set)
        self._set = None

    def _count_errors(
        self, nvml: ModuleType, index: int, now: float, found: list[GpuEvent]
    ) -> None:
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            count = int(nvml.nvmlDeviceGetTotalEccErrors(handle, UNCORRECTED, VOLATILE))
        except Exception:  # a card without ECC, or one that does not answer
            return
        more = count - self._counted.get(index, count)
        self._counted[index] = count
        if more > 0:
            words = f"{more:,} memory error{'s' * (more != 1)} that could not be corrected"
            found.append(GpuEvent(now, index, None, words, True))


def _registered(nvml: ModuleType, count: int) -> Any:
    """An event set with every card in it that tells of errors."""
    made = nvml.nvmlEventSetCreate()
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            told = int(nvml.nvmlDeviceGetSupportedEventTypes(handle))
            if wanted := told & XID:
                nvml.nvmlDeviceRegisterEvents(handle, wanted, made)
        except Exception:  # inside some containers, and of old cards
            continue
    return made


def _index(nvml: ModuleType, device: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetIndex(device))
    except Exception:
        return None


_own = EventWatch()
"""The process's own: NVML hands an event to each listener once."""


def poll_events() -> list[GpuEvent]:
    """What happened since this process last asked."""
    return _own.poll()


def logged_events() -> list[GpuEvent]:
    """Xid errors in the kernel's log since the machine was started, oldest first; at most 4 s.

    Empty where the log may not be read, or there is no driver.
    """
    if not PROC.exists():
        return []
    buses = ask_driver(_buses) or {}
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = []
    for seconds, number, bus, _ in timed_xids(kernel_log()):
        card, grave = buses.get(bus.removeprefix("PCI:").lower()), number in HARDWARE
        found.append(GpuEvent(booted + seconds, card, number, xid_words(number), grave))
    return found[-MOST_LOGGED:]


def _buses(nvml: ModuleType) -> dict[str, int]:
    """PCI address as the kernel's log writes it (``0000:17:00``) -> the card's number."""
    found = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            place = nvml.nvmlDeviceGetPciInfo(nvml.nvmlDeviceGetHandleByIndex(index))
        except Exception:
            continue
        found[f"{place.domain:04x}:{place.bus:02x}:{place.device:02x}"] = index
    return found
