"""Token counts of every row of the splits that a run uses: kept beside the datasets, no torch.

Counting takes about 5,000 rows a second and core, so counts are kept in ``cache/preflight`` of the
home by everything that they depend on; without them a sample of the first rows gives estimates.
"""

import datetime
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.data.dataset import Dataset
from engine.data.progress import Cancelled
from engine.data.tokenizer_files import tokenizer_state
from engine.data.tokens import Formatter
from engine.home import Home
from engine.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COUNTS", "SplitTokens", "count_split"]

COUNTS = (
    "left_out",
    "answers_cut",
    "eos_untrained",
    "double_bos",
    "tokens",
    "trained_tokens",
)
_BATCH_ROWS = 1000
_VERSION = 1


@dataclass
class SplitTokens:
    """One split as the trainer gets it, after cutting to ``max_length``."""

    split: str
    rows_in_split: int
    """Rows that the run uses of it: after ``evaluate.validation_rows`` and ``test_rows``."""
    lengths: "np.ndarray"
    """Tokens of each row looked at, in order; 0 for a row with no trained token: left out."""
    counts: dict[str, int]
    """:data:`COUNTS` over the rows looked at: rows without a trained token, rows with an answer
    token cut, rows whose last token is no trained end of text or turn, rows that begin with two
    beginning-of-text tokens, tokens kept, tokens trained on."""

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

    ``sample``: without kept counts look at the first so many rows only (nothing is kept then).
    ``progress(done, rows)`` is called after every 1,000 rows. Raises :class:`Cancelled`.
    """
    import numpy as np

    limit = {
        "train": 0,
        "validation": recipe.evaluate.validation_rows,
        "test": recipe.evaluate.test_rows,
    }[split]
    rows = min(limit or dataset.count(split), dataset.count(split))
    file = home.path / "cache" / "preflight" / f"{_key(dataset, recipe, split)}.npz"
    try:
        with np.load(file, allow_pickle=False) as kept:
            if len(kept["lengths"]) == rows:
                counts = dict(zip(COUNTS, map(int, kept["counts"]), strict=True))
                return SplitTokens(split, rows, kept["lengths"], counts)
    except (OSError, ValueError, KeyError):
        pass
    table = dataset.split(split).slice(0, min(sample or rows, rows))
    lengths = np.zeros(len(table), dtype=np.int32)
    counts = dict.fromkeys(COUNTS, 0)
    done = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for example in formatter.examples(batch, shape=dataset.shape, offsets=False):
            trained = example.trained(recipe.train.completion_only_loss)
            number = sum(trained)
            lengths[done] = len(example.input_ids) if number else 0
            counts["left_out"] += not number
            counts["answers_cut"] += sum(example.completion_mask) < example.answer_length
            counts["eos_untrained"] += not (formatter.ends(example) and trained[-1])
            counts["double_bos"] += formatter.begins_twice(example)
            counts["tokens"] += int(lengths[done])
            counts["trained_tokens"] += number
            done += 1
        if cancelled and cancelled():
            raise Cancelled("cancelled")
        if progress:
            progress(done, len(table))
    if len(table) == rows:
        _keep(file, lengths, [counts[name] for name in COUNTS])
    return SplitTokens(split, rows, lengths, counts)


def _keep(file: Any, lengths: "np.ndarray", counts: list[int]) -> None:
    """A full disk costs the next preflight some seconds, nothing else."""
    import numpy as np

    temporary = file.with_suffix(".tmp.npz")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        np.savez(temporary, lengths=lengths, counts=np.asarray(counts))
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)


def _key(dataset: Dataset, recipe: Recipe, split: str) -> str:
    """Everything that the counts depend on, in one name."""
    model = recipe.model
    undated = recipe.format.template == "chat" and not recipe.format.date
    what = json.dumps(
        {
            "version": _VERSION,
            "dataset": dataset.fingerprint,
            "split": split,
            "limit": [recipe.evaluate.validation_rows, recipe.evaluate.test_rows],
            "format": recipe.format.model_dump(),
            "day": datetime.date.today().isoformat() if undated else "",
            "add_tokens": model.add_tokens,
            "tokenizer": tokenizer_state(model.model_name_or_path, model.revision),
            "max_length": recipe.train.max_length,
            "completion_only_loss": recipe.train.completion_only_loss,
        },
        sort_keys=True,
    )
    return hashlib.sha256(what.encode()).hexdigest()[:24]
