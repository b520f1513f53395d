"""Errors of the GPUs as they happen, on a fake driver, and from a kernel's log."""

import sys
import time
from collections import namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.system import gpu, gpu_events
from engine.system.gpu_events import EventWatch, logged_events

Event = namedtuple("Event", "device eventType eventData")
Place = namedtuple("Place", "domain bus device")


class NVMLError_Timeout(Exception):
    """As pynvml calls it when no event waits."""


class FakeNvml(ModuleType):
    """A driver with two cards, of which the second one tells of no errors."""

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.waiting: list[Event | Exception] = []
        self.errors = {0: 0, 1: 0}
        self.registered: list[tuple[int, int]] = []
        self.sets = self.freed = 0

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetIndex(self, handle: int) -> int:
        return handle

    def nvmlDeviceGetSupportedEventTypes(self, handle: int) -> int:
        return {0: 0x1F, 1: 0x1}[handle]

    def nvmlEventSetCreate(self) -> str:
        self.sets += 1
        return "set"

    def nvmlEventSetFree(self, events: str) -> None:
        self.freed += 1

    def nvmlDeviceRegisterEvents(self, handle: int, types: int, events: str) -> None:
        self.registered.append((handle, types))

    def nvmlEventSetWait(self, events: str, milliseconds: int) -> Event:
        assert (events, milliseconds) == ("set", 0), "a reading waits for nothing"
        if not self.waiting:
            raise NVMLError_Timeout
        event = self.waiting.pop(0)
        if isinstance(event, Exception):
            raise event
        return event

    def nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, since: int) -> int:
        return self.errors[handle]

    def nvmlDeviceGetPciInfo(self, handle: int) -> Place:
        return Place(0, 0x17 + handle, 0)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(gpu, "_started", False)
    return fake


def test_xid_errors_are_heard_with_their_card(nvml: FakeNvml) -> None:
    watch = EventWatch()
    assert watch.poll() == [] and nvml.registered == [(0, 0x8)]
    nvml.waiting = [Event(0, 0x8, 79), Event(0, 0x8, 31), Event(0, 0x1, 0), Event(0, 0x8, 4711)]
    before = time.time()
    found = watch.poll()
    assert [(e.gpu, e.xid, e.words, e.grave) for e in found] == [
        (0, 79, "Xid 79: the card fell off the bus", True),
        (0, 31, "Xid 31: a program touched memory that is not its own", False),
        (0, 4711, "Xid 4711", False),
    ]
    assert before <= found[0].t <= time.time()
    assert watch.poll() == [] and nvml.sets == 1


def test_memory_errors_are_events_when_their_count_grows(nvml: FakeNvml) -> None:
    nvml.errors[1] = 7  # of before
    watch = EventWatch()
    assert watch.poll() == []
    nvml.errors[1] = 8
    (event,) = watch.poll()
    assert (event.gpu, event.xid, event.grave) == (1, None, True)
    assert event.words == "1 memory error that could not be corrected"
    nvml.errors[1] = 0  # the driver was loaded anew
    assert watch.poll() == []


def test_after_a_failure_the_watch_registers_anew_in_a_while(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = EventWatch()
    watch.poll()
    nvml.waiting = [RuntimeError("uninitialised"), Event(0, 0x8, 94)]
    assert watch.poll() == [] and watch.poll() == []
    assert (nvml.sets, nvml.freed) == (1, 1), "not at every reading"
    later = time.monotonic() + gpu_events.RETRY_SECONDS
    monkeypatch.setattr(gpu_events.time, "monotonic", lambda: later)
    assert [event.xid for event in watch.poll()] == [94] and nvml.sets == 2


def test_without_a_driver_there_is_nothing_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EventWatch().poll() == []


def test_errors_of_before_come_from_the_kernels_log(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = (
        "[   10.500000] NVRM: Xid (PCI:0000:18:00): 94, pid=1, Contained ECC\n"
        "[   20.000000] NVRM: Xid (PCI:0000:99:00): 13, pid=77, Graphics Exception\n"
    )
    monkeypatch.setattr(gpu_events, "kernel_log", lambda: log)
    monkeypatch.setattr(gpu_events, "PROC", tmp_path / "none")
    assert logged_events() == [], "no driver, so the log is not asked"
    monkeypatch.setattr(gpu_events, "PROC", tmp_path)
    first, second = logged_events()
    assert (first.gpu, first.xid, first.grave) == (1, 94, True)
    assert (second.gpu, second.xid, second.grave) == (None, 13, False), "a card that is gone"
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert first.t == pytest.approx(booted + 10.5, abs=1.0)


def test_a_reading_of_a_failing_driver_costs_no_exception(nvml: FakeNvml) -> None:
    def lost(*_: Any) -> int:
        raise RuntimeError("lost")

    nvml.nvmlDeviceGetCount = lost  # type: ignore[method-assign]
    assert EventWatch().poll() == []
