"""What was read of the machine over the last ten minutes, and what went wrong on it meanwhile.

Kept as long as the workbench is open, whichever screen reads. Any thread may add.
"""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.charts.extremes import Floats
    from engine.system.gpu import Gpu, GpuState
    from engine.system.gpu_events import GpuEvent
    from engine.system.host import Host

__all__ = ["HOST", "METRICS", "History", "Track"]

WINDOW_SECONDS = 600.0
GAP_SECONDS = 20.0
"""Readings that lie farther apart are not joined by a line: nobody read in between."""
MOST_POINTS = 1200
MOST_EVENTS = 500
SAME_SECONDS = 10.0
"""The kernel's log and the driver's event tell the same error so far apart at most."""

METRICS = ("busy", "memory", "power", "temperature")
"""Percent, bytes, watts, °C."""
HOST = "host"


@dataclass
class Track:
    """One device: a GPU, a part of one, or the machine itself."""

    key: str
    """Its UUID, or :data:`HOST`."""
    label: str
    """ "0", "0.1" for the second part of a card, or "" for the machine."""
    name: str
    memory_total: int | None = None
    power_limit: float | None = None
    points: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=MOST_POINTS))
    """(seconds since the epoch, then one value for each of :data:`METRICS`), oldest first."""

    def last(self, metric: str) -> float | None:
        """The newest reading; None: not told."""
        if not self.points:
            return None
        value = self.points[-1][1 + METRICS.index(metric)]
        return None if value != value else value

    def series(self, metric: str, now: float) -> "tuple[Floats, Floats]":
        """(minutes before ``now``, values); not-a-number where nothing was read for a while."""
        import numpy as np

        place = 1 + METRICS.index(metric)
        times: list[float] = []
        values: list[float] = []
        for point in self.points:
            if times and point[0] - times[-1] > GAP_SECONDS:
                times.append((times[-1] + point[0]) / 2)
                values.append(float("nan"))
            times.append(point[0])
            values.append(point[place])
        return (np.array(times) - now) / 60, np.array(values)


class History:
    """Readings of the last ten minutes, a track a device, and events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tracks: dict[str, Track] = {}
        self._events: deque[GpuEvent] = deque(maxlen=MOST_EVENTS)
        self.last = 0.0
        """When the last reading was added, in seconds since the epoch; 0: there is none."""
        self.count = 0
        """How often something was added: who draws it looks whether that grew."""

    def add(
        self, now: float, gpus: "GpuState", host: "Host", events: "Iterable[GpuEvent]" = ()
    ) -> None:
        """One reading of everything, taken at ``now``."""
        with self._lock:
            self.count += 1
            self._hear(events)
            if now < self.last:  # the clock was set back: what lies ahead of it is of no use
                self._tracks.clear()
            self.last = now
            memory = float(host.memory_used)
            track = self._track(HOST, "", "this machine", host.memory_total, None)
            track.points.append((now, host.cpu_percent, memory, float("nan"), float("nan")))
            for gpu in gpus:
                self._add_gpu(now, gpu, str(gpu.index))
                for part in gpu.parts:
                    self._add_gpu(now, part, f"{gpu.index}.{part.index}")
            self._forget(now - WINDOW_SECONDS)

    def add_events(self, events: "Iterable[GpuEvent]") -> None:
        """What is known of before, as from the kernel's log."""
        with self._lock:
            self.count += 1
            self._hear(events)

    @property
    def tracks(self) -> list[Track]:
        """GPUs by number, their parts behind them, the machine itself last. Copies."""
        with self._lock:
            found = [
                Track(*_facts(one), deque(one.points, MOST_POINTS)) for one in self._tracks.values()
            ]
        return sorted(found, key=lambda one: _place(one.label))

    @property
    def events(self) -> "list[GpuEvent]":
        """Newest first."""
        with self._lock:
            return sorted(self._events, key=lambda event: -event.t)

    def _hear(self, events: "Iterable[GpuEvent]") -> None:
        for event in events:
            if not any(
                event.xid is not None
                and (event.gpu, event.xid) == (known.gpu, known.xid)
                and abs(event.t - known.t) < SAME_SECONDS
                for known in self._events
            ):
                self._events.append(event)

    def _add_gpu(self, now: float, gpu: "Gpu", label: str) -> None:
        track = self._track(gpu.uuid, label, gpu.name, gpu.memory_total, gpu.power_limit)
        values = (gpu.utilisation, gpu.memory_used, gpu.power, gpu.temperature)
        told = (float("nan") if value is None else float(value) for value in values)
        track.points.append((now, *told))

    def _track(
        self, key: str, label: str, name: str, memory: int | None, power: float | None
    ) -> Track:
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = Track(key, label, name)
        track.label, track.memory_total, track.power_limit = label, memory, power
        return track

    def _forget(self, before: float) -> None:
        for track in self._tracks.values():
            while track.points and track.points[0][0] < before:
                track.points.popleft()
        self._tracks = {key: track for key, track in self._tracks.items() if track.points}


def _facts(track: Track) -> tuple[str, str, str, int | None, float | None]:
    return track.key, track.label, track.name, track.memory_total, track.power_limit


def _place(label: str) -> tuple[float, ...]:
    return tuple(float(part) for part in label.split(".")) if label else (float("inf"),)
