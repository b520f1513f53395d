"""Bootstrap over rows: intervals, and the paired test of two columns on the same resamples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "RESAMPLES", "SEED", "interval", "p_value", "resampled_sums"]

RESAMPLES = 1000
SEED = 0
CONFIDENCE = 0.95
_BLOCK_BYTES = 16 << 20


def resampled_sums(
    columns: "Sequence[NDArray[np.float64]]", resamples: int = RESAMPLES, seed: int = SEED
) -> "list[NDArray[np.float64]]":
    """Of each column of rows (shape: rows, statistics) the sums of as many rows, drawn again.

    Shapes: (resamples, statistics). Every column is summed over the same rows of each resample.
    """
    import numpy as np

    rows = len(columns[0])
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, _BLOCK_BYTES // (8 * max(rows, 1))))
    sums: list[list[NDArray[np.float64]]] = [[] for _ in columns]
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        times = np.empty((size, rows))
        for number in range(size):
            drawn = random.integers(0, rows, rows)
            times[number] = np.bincount(drawn, minlength=rows)
        for found, column in zip(sums, columns, strict=True):
            found.append(times @ column)
    return [np.vstack(found) for found in sums]


def interval(values: "NDArray[np.float64]") -> tuple[float, float]:
    """The middle 95 % of the resamples' values (percentile bootstrap)."""
    import numpy as np

    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [edge, 1 - edge])
    return float(low), float(high)


def p_value(difference: float, differences: "NDArray[np.float64]") -> float:
    """Two-sided p of a difference by the paired bootstrap (as sacrebleu's ``--paired-bs``).

    How often the resamples' differences, moved to have none on average, are as large as what was
    found; one is added to both counts, so that it is never 0.
    """
    import numpy as np

    moved = np.abs(differences - differences.mean())
    # Sums in another order differ in the last bits: two equal columns have p = 1, not chance.
    as_large = moved >= abs(difference) - 1e-12 * max(1.0, abs(difference))
    return float((as_large.sum() + 1) / (len(differences) + 1))
