"""When a disk will be full, from how its free space went so far."""

from collections import deque
from dataclasses import dataclass, field

__all__ = ["DiskForecast"]

LEAST_SECONDS = 60.0
WINDOW_SECONDS = 900.0
LEAST_SHARE = 1e-4
"""Of the disk must have gone: other programs' files come and go."""


@dataclass
class DiskForecast:
    """Readings of the last quarter of an hour, of one disk."""

    readings: deque[tuple[float, int]] = field(default_factory=deque)
    """(seconds of a monotonic clock, free bytes), oldest first."""

    def add(self, now: float, free: int) -> None:
        self.readings.append((now, free))
        while self.readings[0][0] < now - WINDOW_SECONDS:
            self.readings.popleft()

    def full_in(self, total: int) -> float | None:
        """Seconds until nothing is free at the pace of these readings; None: not to be seen.

        Free space that went up at the end, as when old checkpoints were deleted, starts anew.
        """
        readings = list(self.readings)
        if not readings:
            return None
        start = len(readings) - 1
        while start > 0 and readings[start - 1][1] >= readings[start][1]:
            start -= 1
        (begin, before), (end, free) = readings[start], readings[-1]
        gone = before - free
        if end - begin < LEAST_SECONDS or gone < LEAST_SHARE * total:
            return None
        return free * (end - begin) / gone
