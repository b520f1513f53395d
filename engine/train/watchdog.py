"""The loss watchdog: sees a loss that is not a number, or too high, and acts as the recipe says."""

import math
import statistics
from collections import deque
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from engine.recipe import TrainSection

__all__ = ["MOST_SKIPPED", "Watchdog"]

WINDOW = 50
"""Steps whose median a spike is measured against."""
FEWEST = 10
"""Steps before a median means anything."""
MOST_SKIPPED = 20
"""Steps in a row that can be skipped: a rate halved as often is a millionth, and it was not it."""


class Watchdog(TrainerCallback, ExportableState):
    """Counts bad steps. Its state is kept in checkpoints, so a resumed run is watched as before."""

    def __init__(self) -> None:
        self.recent: list[float] = []
        """The last good losses, oldest first."""
        self.bad = 0
        """Bad steps in a row."""
        self.factor = 1.0
        """What the learning rate was multiplied by so far."""
        self.skipped = 0
        """Steps in a row without a finite loss and finite gradients."""

    def state(self) -> dict[str, Any]:
        names = ("recent", "bad", "factor", "skipped")
        attributes = {name: getattr(self, name) for name in names}
        return {"args": {}, "attributes": attributes}

    def look(self, loss: float, train: TrainSection) -> str:
        """Why the watchdog has to act now, after a step with this loss; "" when it has not to."""
        if not math.isfinite(loss):
            self.bad = 0
            return f"the loss is {loss}"
        why = self._too_high(loss, train)
        if not why:
            self.bad = 0
            self.recent = list(deque([*self.recent, loss], WINDOW))
            return ""
        self.bad += 1
        if self.bad < train.loss_watchdog_patience:
            return ""
        steps, self.bad = self.bad, 0
        return f"{why} for {steps} steps in a row" if steps > 1 else why

    def _too_high(self, loss: float, train: TrainSection) -> str:
        limit = train.loss_watchdog_threshold
        if limit and loss > limit:
            return f"the loss is {loss:.4g}, above loss_watchdog_threshold = {limit:g}"
        times = train.loss_watchdog_spike
        if times and len(self.recent) >= FEWEST:
            median = statistics.median(self.recent)
            if loss > times * median:
                return f"the loss is {loss:.4g}, above {times:g} times the median of {median:.4g}"
        return ""
