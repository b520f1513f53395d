"""Full passes of the garbage collector while nobody types: each stops the screen, 20 to 70 ms."""

import gc
import time

__all__ = ["IdleCollector", "collect_rarely"]

RARELY = 1000
"""Passes over the middle generation before a full one comes by itself; Python's own: 10."""
IDLE_SECONDS = 2.0


def collect_rarely() -> None:
    """Leave full passes to :class:`IdleCollector`, but for a workbench that is never idle."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, RARELY)


class IdleCollector:
    """Makes a full pass when no key has come for a while and something was done since the last."""

    def __init__(self) -> None:
        self._typed = self._collected = time.monotonic()

    def typed(self) -> None:
        """Somebody is at the keyboard or the mouse."""
        self._typed = time.monotonic()

    def look(self) -> bool:
        """Call it every few seconds; True when it made a pass."""
        idle = time.monotonic() - self._typed >= IDLE_SECONDS
        if not idle or self._typed < self._collected:
            return False
        gc.collect()
        self._collected = time.monotonic()
        return True
