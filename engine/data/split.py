"""Which row goes to which side: fixed pools by the hash of the title, lowest hashes as the sample.

A row's pool depends on its title, the seed and the sizes asked for, never on other rows, so rows
added later move none from one side to the other. Rows with one title are always in one pool.
"""

from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.recipe import SplitSection

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SIDES", "Sides", "assign", "leaks", "sides_by_share"]

SIDES = ("train", "validation", "test")
_UNUSED = -1


class Sides:
    """The outcome: ``side[i]`` is 0, 1, 2 (train, validation, test) or -1 (in none), as int8."""

    def __init__(self, side: "np.ndarray", leakage_before: int, left_out: int) -> None:
        self.side = side
        self.leakage_before = leakage_before
        self.left_out = left_out
        """Rows taken out of train or validation because another side has their completion."""

    def count(self, name: str) -> int:
        return int((self.side == SIDES.index(name)).sum())


def assign(
    split: SplitSection,
    titles: "np.ndarray",
    completions: "np.ndarray",
    lines: "np.ndarray",
    unique_completions: bool,
) -> Sides:
    """Sides of all clean rows.

    ``titles`` and ``completions`` are 64-bit hashes (uint64), ``lines`` line numbers (int64), all
    of the same length. Raises :class:`UserError` when the counts asked for are more than there are.
    """
    import numpy as np

    wanted = (split.train, split.validation, split.test)
    title_mix = _mix(titles, split.seed)
    pool = _pools(title_mix, wanted, split.by_count)
    left_out = 0
    if not unique_completions:
        left_out = _part(pool, completions)
    order = _mix(completions ^ title_mix, split.seed + 1)
    if split.by_count:
        _check(pool, split)
        pool = _sample(pool, order, lines, wanted)
    # What a split that looks at lines instead of titles would have done, to show the difference.
    line_mix = _mix(lines.astype(np.uint64), split.seed)
    plain = _pools(line_mix, wanted, split.by_count)
    if split.by_count:
        plain = _sample(plain, line_mix, lines, wanted)
    leaked = np.isin(titles[plain == 2], titles[plain == 0])
    return Sides(pool, int(leaked.sum()), left_out)


def sides_by_share(split: SplitSection, titles: "np.ndarray") -> "np.ndarray":
    """Sides (int8) of rows that are dealt out by shares: known without the other rows."""
    wanted = (split.train, split.validation, split.test)
    return _pools(_mix(titles, split.seed), wanted, by_count=False)


def leaks(side: "np.ndarray", titles: "np.ndarray", completions: "np.ndarray") -> int:
    """Rows of validation and test with a title or completion of train: 0, or something is wrong."""
    import numpy as np

    train, others = side == 0, side > 0
    return int(
        (
            np.isin(titles[others], titles[train])
            | np.isin(completions[others], completions[train])
        ).sum()
    )


def _mix(values: "np.ndarray", seed: int) -> "np.ndarray":
    """splitmix64 of hashes and a seed: uint64 in, uint64 out, the same everywhere."""
    import numpy as np

    start = ((seed + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = values + np.uint64(start)  # wraps around, as it shall
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _pools(mixed: "np.ndarray", wanted: tuple[float, float, float], by_count: bool) -> "np.ndarray":
    import numpy as np

    whole = sum(wanted) if by_count else max(1.0, sum(wanted))
    place = (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    _, validation, test = wanted
    # Test and validation first: their borders stay put when only the share of train changes.
    pool = np.full(len(mixed), _UNUSED, dtype=np.int8)
    pool[place < (2.0 if sum(wanted) > whole * 0.999999 else sum(wanted) / whole)] = 0
    pool[place < (test + validation) / whole] = 1
    pool[place < test / whole] = 2
    return pool


def _part(pool: "np.ndarray", completions: "np.ndarray") -> int:
    """Take rows out of train (and validation) whose completion another side has; how many."""
    import numpy as np

    before = int((pool != _UNUSED).sum())
    for side, others in ((1, (2,)), (0, (1, 2))):
        there = completions[np.isin(pool, others)]
        pool[(pool == side) & np.isin(completions, there)] = _UNUSED
    return before - int((pool != _UNUSED).sum())


def _check(pool: "np.ndarray", split: SplitSection) -> None:
    there = {name: int((pool == side).sum()) for side, name in enumerate(SIDES)}
    wanted = {name: int(getattr(split, name)) for name in SIDES}
    short = [name for name in SIDES if there[name] < wanted[name]]
    if short:
        asked = ", ".join(f"{name} {wanted[name]:,} of {there[name]:,}" for name in SIDES)
        raise UserError(
            f"split.{short[0]}: too few clean rows, {sum(there.values()):,} in all; asked for and "
            f"there: {asked}; ask for fewer, or for shares "
            "(--set split.train=0.9 --set split.validation=0.05 --set split.test=0.05)"
        )


def _sample(
    pool: "np.ndarray",
    order: "np.ndarray",
    lines: "np.ndarray",
    wanted: tuple[float, float, float],
) -> "np.ndarray":
    """The ``wanted`` rows with the lowest hashes of each pool; the others are in none."""
    import numpy as np

    chosen = np.full(len(pool), _UNUSED, dtype=np.int8)
    for side, count in enumerate(wanted):
        rows = np.flatnonzero(pool == side)
        lowest = np.lexsort((lines[rows], order[rows]))[: int(count)]
        chosen[rows[lowest]] = side
    return chosen
