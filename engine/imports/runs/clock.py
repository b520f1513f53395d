"""When a step was: between moments that are known, steps are spread evenly."""

from bisect import bisect_right
from collections.abc import Iterable

__all__ = ["Clock"]


class Clock:
    """Called with a step, answers with Unix seconds. Never goes backwards."""

    def __init__(self, known: Iterable[tuple[int, float]]) -> None:
        """``known``: (step, moment), of which those that contradict earlier ones are left out."""
        self.steps: list[int] = []
        self.moments: list[float] = []
        for step, moment in sorted(known):
            if self.steps and (step == self.steps[-1] or moment < self.moments[-1]):
                continue
            self.steps.append(step)
            self.moments.append(moment)

    def __call__(self, step: int) -> float:
        place = bisect_right(self.steps, step)
        if place == 0:
            return self.moments[0] if self.moments else 0.0
        if place == len(self.steps):
            return self.moments[-1]
        before, after = self.steps[place - 1], self.steps[place]
        share = (step - before) / (after - before)
        return self.moments[place - 1] + share * (self.moments[place] - self.moments[place - 1])
