"""What is counted in each pair, so that every metric of any choice of rows follows from sums.

A bootstrap then adds rows up a thousand times instead of comparing texts a thousand times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.data.processes import Work, cores, in_order
from engine.evaluate.ngrams import (
    OURS,
    SHARED,
    THEIRS,
    character_codes,
    ngram_counts,
    word_codes,
)
from engine.evaluate.rouge import rouge
from engine.evaluate.variety import repetition, variety, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sacrebleu.metrics import BLEU, CHRF

__all__ = ["BLEU_AT", "CHRF_AT", "COLUMNS", "Statistics", "bleu", "chrf", "statistics"]

BLEU_ORDERS, CHRF_ORDERS = 4, 6
"""Those of sacrebleu's defaults."""
_OWN = (
    *("rouge1", "rouge2", "rougeL", "exact_match", "empty", "repetition"),
    *("prediction_words", "reference_words", "row_chrf"),
)
_BLEU = (
    *("bleu_prediction_length", "bleu_reference_length"),
    *(f"bleu_{what}_{n}" for what in ("matches", "ngrams") for n in range(1, BLEU_ORDERS + 1)),
)
_CHRF = tuple(
    f"chrf_{what}_{n}"
    for n in range(1, CHRF_ORDERS + 1)
    for what in ("prediction", "reference", "matches")
)
_VARIETY = ("distinct_1_influence", "distinct_2_influence")
COLUMNS = (*_OWN, *_BLEU, *_CHRF, *_VARIETY)
"""Names of the statistics of a row, in order."""
BLEU_AT = slice(len(_OWN), len(_OWN) + len(_BLEU))
CHRF_AT = slice(BLEU_AT.stop, BLEU_AT.stop + len(_CHRF))

CHUNK_ROWS = 500
FEWEST_ROWS = 2000
"""Below, starting processes takes longer than it saves."""
MOST_WORKERS = 8

Pairs = tuple[Sequence[str], Sequence[str]]


@cache
def bleu() -> "BLEU":
    """sacrebleu's BLEU as it comes: 13a, mixed case, exponential smoothing."""
    from sacrebleu.metrics import BLEU

    # force: no advice on the log about texts that look tokenised.
    return BLEU(force=True)


@cache
def chrf() -> "CHRF":
    """sacrebleu's chrF2 as it comes: characters 1 to 6, no words, no white space."""
    from sacrebleu.metrics import CHRF

    return CHRF()


@dataclass(frozen=True)
class Statistics:
    """The statistics of all rows of one column of predictions."""

    rows: "NDArray[np.float64]"
    """Shape (rows, :data:`COLUMNS`)."""
    distinct: tuple[float, float]
    """distinct-1 and distinct-2 of all predictions together, 0..1."""
    more: "dict[str, NDArray[np.float64]]" = field(default_factory=dict)
    """Values of further metrics by name, one for each row."""

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, name: str) -> "NDArray[np.float64]":
        """One statistic of every row."""
        return self.rows[:, COLUMNS.index(name)]


def statistics(
    predictions: Sequence[str],
    references: Sequence[str],
    *,
    on_progress: Callable[[int], None] | None = None,
    look_up: Callable[[], None] = lambda: None,
    workers: int | None = None,
) -> Statistics:
    """Count each pair, in processes of their own when there are many.

    ``on_progress`` is told how many rows are done; ``look_up`` is called ten times a second and may
    raise to give up. ``workers``: None chooses, 0 counts in this process.
    """
    import numpy as np

    if len(predictions) != len(references):
        raise ValueError("as many predictions as references")
    if workers is None:
        workers = min(cores(), MOST_WORKERS) if len(predictions) >= FEWEST_ROWS else 0
        workers = 0 if workers < 2 else workers
    chunks = (
        (predictions[start : start + CHUNK_ROWS], references[start : start + CHUNK_ROWS])
        for start in range(0, len(predictions), CHUNK_ROWS)
    )
    counted: list[NDArray[np.float64]] = []
    for number, (_, rows) in enumerate(in_order(_Counting(), chunks, workers, [], look_up), 1):
        counted.append(np.frombuffer(rows).reshape(-1, len(COLUMNS) - len(_VARIETY)))
        if on_progress:
            on_progress(min(number * CHUNK_ROWS, len(predictions)))
    distinct, influences = variety([words(text) for text in predictions])
    return Statistics(np.hstack([np.vstack(counted), influences]), distinct)


class _Counting:
    """The task of a process."""

    doing = "evaluating"
    left = "What was answered is kept; the same command goes on."

    def start(self) -> Work:
        def work(pairs: Pairs, at_row: Callable[[], None] | None) -> bytes:
            return _count(*pairs, at_row or (lambda: None))

        return work


def _count(predictions: Sequence[str], references: Sequence[str], at_row: Any) -> bytes:
    """The rows' statistics as float64, without those that need to see all rows."""
    import numpy as np

    of_bleu = _bleu_counts(predictions, references)
    of_chrf = _chrf_counts(predictions, references)
    rows = []
    pairs = zip(predictions, references, of_chrf.tolist(), strict=True)
    for prediction, reference, its_chrf in pairs:
        own = words(prediction)
        rows.append(
            [
                *rouge(prediction, reference),
                float(prediction.strip() == reference.strip()),
                float(not prediction.strip()),
                repetition(own),
                len(own),
                len(words(reference)),
                chrf()._compute_score_from_stats(its_chrf).score,
            ]
        )
        at_row()
    return np.hstack([np.array(rows, np.float64), of_bleu, of_chrf]).tobytes()


def _bleu_counts(predictions: Sequence[str], references: Sequence[str]) -> "NDArray[np.int64]":
    """What sacrebleu's BLEU is computed from: lengths, matches of each order, n-grams of each."""
    import numpy as np

    tokenised = bleu()._preprocess_segment
    codes = word_codes([tokenised(text).split() for text in (*predictions, *references)])
    counts = ngram_counts(codes[: len(predictions)], codes[len(predictions) :], BLEU_ORDERS)
    lengths = counts[:, 0, (OURS, THEIRS)]
    return np.hstack([lengths, counts[:, :, SHARED], counts[:, :, OURS]])


def _chrf_counts(predictions: Sequence[str], references: Sequence[str]) -> "NDArray[np.int64]":
    """What sacrebleu's chrF is computed from: n-grams of both and in common, order by order."""
    codes = character_codes(["".join(text.split()) for text in (*predictions, *references)])
    counts = ngram_counts(codes[: len(predictions)], codes[len(predictions) :], CHRF_ORDERS)
    counts[:, :, OURS] *= counts[:, :, THEIRS] > 0  # no precision where the reference has none
    return counts.reshape(len(predictions), -1)
