"""Token counts of every row of the splits that a run uses: of the token ids themselves. No torch.

A run's token ids are made and kept here as by the run itself, so that it finds them made. What was
counted is kept beside them (``cache/preflight``): a form reads that in a millisecond. Without
either a sample of the first rows gives estimates.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.dataset import Dataset
from engine.data.tokens import Formatter
from engine.home import Home
from engine.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SplitTokens", "count_split"]

_KEPT_FILES = 200


@dataclass
class SplitTokens:
    """One split as the trainer gets it, after cutting to ``max_length``."""

    split: str
    rows_in_split: int
    """Rows that the run uses of it: after ``evaluate.validation_rows`` and ``test_rows``."""
    lengths: "np.ndarray"
    """Tokens of each row looked at, in order; 0 for a row with no trained token: left out."""
    counts: Mapping[str, int]
    """:data:`engine.data.tokenised.COUNTS` over the rows looked at: rows without a trained token,
    rows with an answer token cut, rows whose last token is no trained end of text or turn, rows
    that begin with two beginning-of-text tokens, tokens kept, tokens trained on."""

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return len(self.lengths)

    @property
    def is_estimate(self) -> bool:
        return self.rows < self.rows_in_split

    @property
    def scale(self) -> float:
        """What a count over the rows looked at is multiplied by, for the whole split."""
        return self.rows_in_split / self.rows if self.rows else 1.0

    def whole(self, count: str) -> int:
        """A count for the whole split; rounded where it is an estimate."""
        return round(self.counts[count] * self.scale)

    @property
    def trained_rows(self) -> int:
        """Rows that are trained or evaluated: with at least one trained token."""
        return self.rows_in_split - self.whole("left_out")

    def longest(self, count: int) -> list[int]:
        """Numbers of the longest rows, longest first."""
        import numpy as np

        order = np.argsort(-self.lengths, kind="stable")[:count]
        return [int(number) for number in order if self.lengths[number]]

    def shortest(self) -> int:
        """Number of the shortest row that is not left out."""
        import numpy as np

        return int(np.argmin(np.where(self.lengths > 0, self.lengths, np.iinfo(np.int32).max)))


def count_split(
    home: Home,
    dataset: Dataset,
    formatter: Formatter,
    recipe: Recipe,
    split: str,
    *,
    sample: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> SplitTokens:
    """Counts of a split: those that are kept, or counted now and kept.

    ``sample``: of a split that was never counted look at the first so many rows only (nothing is
    kept then). ``progress(done, rows)`` is called after every 1,000 rows. Raises
    :class:`engine.data.progress.Cancelled`.
    """
    from engine.data.tokenised.key import rows_key

    limit = {
        "train": 0,
        "validation": recipe.evaluate.validation_rows,
        "test": recipe.evaluate.test_rows,
    }[split]
    rows = min(limit or dataset.count(split), dataset.count(split))
    completion_only = recipe.train.completion_only_loss
    key = rows_key(dataset, split, rows, formatter, completion_only)
    assert key is not None  # a recipe's formatter comes from files
    file = home.path / "cache" / "preflight" / f"{key}.npz"
    if kept := _read(file, split, rows):
        return kept
    # Imported this late because a form that finds its counts needs no pyarrow.
    from engine.data.tokenised import find_tokenised, tokenise, tokenise_table

    made = find_tokenised(
        *(home, dataset, split, formatter), rows=rows, completion_only_loss=completion_only
    )
    if made is None and sample:
        made = tokenise_table(
            dataset.split(split).slice(0, min(sample, rows)),
            formatter,
            shape=dataset.shape,
            completion_only_loss=completion_only,
        )
    elif made is None:
        made = tokenise(
            *(home, dataset, split, formatter),
            rows=rows,
            completion_only_loss=completion_only,
            progress=progress,
            cancelled=cancelled,
        )
    made.close()
    counted = SplitTokens(split, rows, made.lengths_in_split, made.counts)
    if not counted.is_estimate:
        _keep(file, counted)
    return counted


def _read(file: Path, split: str, rows: int) -> SplitTokens | None:
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as kept:
            counts = dict(zip(kept["names"].tolist(), kept["counts"].tolist(), strict=True))
            found = SplitTokens(split, rows, kept["lengths"], counts)
    except (OSError, ValueError, KeyError):
        return None
    return None if found.is_estimate else found


def _keep(file: Path, counted: SplitTokens) -> None:
    """A full disk costs the next preflight some milliseconds, nothing else."""
    import numpy as np

    temporary = file.with_suffix(f".{os.getpid()}.tmp.npz")
    names, counts = zip(*counted.counts.items(), strict=True)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        np.savez(temporary, lengths=counted.lengths, names=names, counts=counts)
        temporary.replace(file)
        there = sorted(file.parent.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for old in there[:-_KEPT_FILES]:
            old.unlink(missing_ok=True)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
