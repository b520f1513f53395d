"""How a preparation tells how far it is, and how it is stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import UserError

__all__ = ["Cancelled", "Progress", "Watch"]

PROGRESS_SECONDS = 0.25


class Cancelled(UserError):
    """Somebody asked to stop; nothing was written."""

    exit_code = 130


@dataclass(frozen=True)
class Progress:
    """How far a preparation is."""

    phase: str
    """making the catalogue, fingerprinting, waiting, cleaning, splitting or writing."""
    rows: int
    fraction: float
    """0 to 1 of this phase, by bytes or rows."""
    rows_per_second: float
    seconds: float
    """Since the preparation began."""
    eta: float | None = None
    """Seconds until the end of this phase, once it can be told."""


class Watch:
    """Tells progress at most four times a second and gives up when cancelled."""

    def __init__(
        self,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self.began = time.monotonic()
        self._told = 0.0
        self._phase = ""
        self._phase_began = self.began

    def tell(self, phase: str, rows: int = 0, fraction: float = 0.0) -> None:
        if self._cancelled is not None and self._cancelled():
            raise Cancelled("cancelled; nothing was written")
        now = time.monotonic()
        new = phase != self._phase
        if new:
            self._phase, self._phase_began = phase, now
        if self._progress is not None and (new or now - self._told >= PROGRESS_SECONDS):
            self._told = now
            fraction = min(fraction, 1.0)
            spent = max(now - self._phase_began, 1e-3)
            eta = spent * (1 - fraction) / fraction if fraction > 0.02 else None
            self._progress(Progress(phase, rows, fraction, rows / spent, now - self.began, eta))
