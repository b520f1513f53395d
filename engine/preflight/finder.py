"""Which batch size fits: a search over the sizes that leave the effective batch as it is."""

from collections.abc import Sequence

__all__ = ["MARGIN", "Search", "batch_choices"]

MARGIN = 0.08
"""Share of the device that stays free: shapes of a whole epoch fragment memory a little more."""


def batch_choices(batch: int, accumulation: int) -> list[tuple[int, int]]:
    """(batch, accumulation) with the same product, smallest batch first: all its divisors."""
    effective = batch * accumulation
    return [(size, effective // size) for size in range(1, effective + 1) if not effective % size]


class Search:
    """Finds the largest size that fits, with few attempts.

    From the recipe's own size it goes up (or, where that does not fit, down) by about doubling,
    then halves what is left between the largest that fitted and the smallest that did not.
    """

    def __init__(self, sizes: Sequence[int], limit_bytes: int) -> None:
        self.sizes = sorted(sizes)
        self.most = int(limit_bytes * (1 - MARGIN))
        self.fits: int | None = None
        self.fails: int | None = None

    def next(self, size: int, peak_bytes: int, out_of_memory: bool) -> int | None:
        """What to try after ``size`` took ``peak_bytes``; None when the search is over."""
        place = self.sizes.index(size)
        if out_of_memory or peak_bytes > self.most:
            self.fails = place if self.fails is None else min(place, self.fails)
        else:
            self.fits = place if self.fits is None else max(place, self.fits)
        low = -1 if self.fits is None else self.fits
        high = len(self.sizes) if self.fails is None else self.fails
        if high - low <= 1:
            return None
        if self.fails is None:
            return self.sizes[self._at_most(2 * self.sizes[low], low + 1, high - 1)]
        if self.fits is None:
            return self.sizes[self._at_most(self.sizes[high] // 2, 0, high - 1)]
        return self.sizes[(low + high) // 2]

    def _at_most(self, wanted: int, low: int, high: int) -> int:
        """The place of the largest size up to ``wanted``, within places ``low`` to ``high``."""
        return max((p for p in range(low, high + 1) if self.sizes[p] <= wanted), default=low)
