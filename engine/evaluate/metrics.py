"""The metrics of predictions beside references: values, intervals, differences, definitions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.evaluate.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    SEED,
    interval,
    p_value,
    resampled_sums,
)
from engine.evaluate.rouge import unseen_share
from engine.evaluate.statistics import BLEU_AT, CHRF_AT, COLUMNS, Statistics, bleu, chrf

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["METRICS", "Metric", "RowMetric", "compare", "definitions", "evaluated", "footnotes"]


class Metric(NamedTuple):
    """One metric: how it is called, what it is, how it follows from sums over rows."""

    name: str
    label: str
    words: str
    """Its definition."""
    better: str
    """higher, lower, or "" where neither is."""
    of_sums: "Callable[[NDArray[np.float64], Statistics], NDArray[np.float64]]"
    """(sums of shape (choices, statistics), the statistics) -> its value for each choice."""


class RowMetric(NamedTuple):
    """A further metric: one value for each prediction, of which the mean is told.

    Not-a-number where a prediction has none: ``NAME_rows`` says how many have one.
    """

    name: str
    label: str
    words: str
    better: str
    rates: Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[float]]
    """(prompts, predictions, references) -> a value for each."""


def _mean(name: str) -> "Callable[[NDArray[np.float64], Statistics], NDArray[np.float64]]":
    at = COLUMNS.index(name)
    return lambda sums, found: sums[:, at] / len(found)


def _length_ratio(sums: "NDArray[np.float64]", found: Statistics) -> "NDArray[np.float64]":
    import numpy as np

    ours, theirs = (sums[:, COLUMNS.index(f"{side}_words")] for side in ("prediction", "reference"))
    return np.divide(ours, theirs, out=np.zeros_like(ours), where=theirs > 0)


def _bleu(sums: "NDArray[np.float64]", found: Statistics) -> "NDArray[np.float64]":
    import numpy as np

    metric = bleu()
    return np.array([metric._compute_score_from_stats(row).score for row in _whole(sums, BLEU_AT)])


def _chrf(sums: "NDArray[np.float64]", found: Statistics) -> "NDArray[np.float64]":
    import numpy as np

    metric = chrf()
    return np.array([metric._compute_score_from_stats(row).score for row in _whole(sums, CHRF_AT)])


def _whole(sums: "NDArray[np.float64]", at: slice) -> list[list[int]]:
    import numpy as np

    return np.rint(sums[:, at]).astype(np.int64).tolist()


def _distinct(order: int) -> "Callable[[NDArray[np.float64], Statistics], NDArray[np.float64]]":
    at = COLUMNS.index(f"distinct_{order}_influence")
    return lambda sums, found: found.distinct[order - 1] + sums[:, at] / len(found)


_ROUGE = (
    "F1 as rouge-score's, mean of the rows, 0..1; words are runs of a-z and 0-9 in lower case (its "
    "default tokenizer: other scripts count nothing), no stemming"
)
_UNSEEN = 0.05
"""Share of references without a word for ROUGE that is worth saying."""
_WORDS = "words are runs of letters and digits of any script in lower case"
METRICS = (
    Metric("rouge1", "ROUGE-1", f"words in common: {_ROUGE}", "higher", _mean("rouge1")),
    Metric("rouge2", "ROUGE-2", f"pairs of words in common: {_ROUGE}", "higher", _mean("rouge2")),
    Metric(
        "rougeL",
        "ROUGE-L",
        f"longest common subsequence of words, line ends being white space: {_ROUGE}",
        "higher",
        _mean("rougeL"),
    ),
    Metric("bleu", "BLEU", "corpus BLEU of sacrebleu, 0..100", "higher", _bleu),
    Metric("chrf", "chrF", "corpus chrF2 of sacrebleu, 0..100", "higher", _chrf),
    Metric(
        "exact_match",
        "exact match",
        "share of predictions that equal the reference, white space at both ends aside",
        "higher",
        _mean("exact_match"),
    ),
    Metric(
        "length_ratio",
        "length ratio",
        f"words of all predictions by words of all references; {_WORDS}",
        "",
        _length_ratio,
    ),
    Metric(
        "distinct_1",
        "distinct-1",
        f"different words by words, of all predictions together, 0..1; {_WORDS}",
        "",
        _distinct(1),
    ),
    Metric(
        "distinct_2",
        "distinct-2",
        "different pairs of words by pairs of words, of all predictions together, 0..1; falls with "
        f"the number of rows; {_WORDS}",
        "",
        _distinct(2),
    ),
    Metric(
        "repetition",
        "repetition",
        "share of a prediction's 4-grams of words that it had before (seq-rep-4), mean of the "
        f"rows, 0..1; {_WORDS}",
        "lower",
        _mean("repetition"),
    ),
    Metric(
        "empty",
        "empty",
        "share of predictions with nothing but white space",
        "lower",
        _mean("empty"),
    ),
)
"""In the order of the table."""


def definitions(more: Sequence[RowMetric] = ()) -> dict[str, str]:
    """What each number is: tokenisation, stemming, averaging, sacrebleu's signatures, intervals."""
    found = {metric.name: metric.words for metric in METRICS}
    found |= {metric.name: metric.words for metric in more}
    for name, metric in (("bleu", bleu()), ("chrf", chrf())):
        metric.num_refs = 1
        found[name] += f"; {metric.get_signature()}"
    found["interval"] = (
        f"{CONFIDENCE:.0%}, percentile bootstrap over rows ({RESAMPLES:,} resamples, seed {SEED}); "
        "BLEU and chrF from the resample's summed sentence statistics, distinct-n from each row's "
        "leave-one-out influence"
    )
    found["p"] = "two-sided, paired bootstrap on the same resamples"
    return found


def footnotes(references: Sequence[str] = (), *, compared: bool = False) -> list[str]:
    """The definitions in a few lines, for below a table; what to beware of before them."""
    said = definitions()
    unseen = unseen_share(references)
    beware = f"ROUGE sees no words in {unseen:.0%} of the references, which are of another script: "
    beware += "go by chrF"
    return [
        *([beware] if unseen > _UNSEEN else []),
        f"ROUGE: {_ROUGE}",
        *(f"{m.label}: {said[m.name]}" for m in METRICS if m.name in ("bleu", "chrf")),
        "repetition: 4-grams of words that a prediction had before; distinct-n: of all predictions "
        "together",
        f"interval: {said['interval']}",
        *([f"p: {said['p']}"] if compared else []),
    ]


def evaluated(found: Statistics) -> dict[str, Any]:
    """The metrics of one column: ``name`` a number, ``name_ci`` its interval, and ``rows``."""
    return compare({"": found})[0][""]


def compare(
    columns: Mapping[str, Statistics], base: str | None = None, more: Sequence[RowMetric] = ()
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The metrics of each column; and how the columns differ from the column ``base``.

    All columns have predictions for the same rows, and values of the metrics ``more``
    (:attr:`Statistics.more`). Differences: column -> metric -> ``difference`` (the column's value
    less the base's), ``ci`` (its interval), ``p`` (two-sided, paired bootstrap).
    """
    import numpy as np

    further = [
        Metric(one.name, one.label, one.words, one.better, _further(place))
        for place, one in enumerate(more)
    ]
    rows = [
        np.column_stack([found.rows, *(_with_count(found.more[one.name]) for one in more)])
        for found in columns.values()
    ]
    values: dict[str, dict[str, Any]] = {}
    resampled: dict[str, dict[str, Any]] = {}
    drawn = resampled_sums(rows)
    for (column, found), its_rows, its_sums in zip(columns.items(), rows, drawn, strict=True):
        values[column], resampled[column] = {}, {}
        for metric in (*METRICS, *further):
            own = float(metric.of_sums(its_rows.sum(axis=0, keepdims=True), found)[0])
            again = metric.of_sums(its_sums, found)
            values[column][metric.name] = own
            values[column][f"{metric.name}_ci"] = list(interval(again))
            resampled[column][metric.name] = again
        for one in more:
            values[column][f"{one.name}_rows"] = int(np.isfinite(found.more[one.name]).sum())
        values[column]["rows"] = len(found)
    differences: dict[str, dict[str, Any]] = {}
    for column in columns:
        if base is None or column == base:
            continue
        differences[column] = {}
        for name, again in resampled[column].items():
            differences[column][name] = _difference(
                values[column][name] - values[base][name], again - resampled[base][name]
            )
    return values, differences


def _further(place: int) -> "Callable[[NDArray[np.float64], Statistics], NDArray[np.float64]]":
    at = len(COLUMNS) + 2 * place
    return lambda sums, found: sums[:, at] / sums[:, at + 1].clip(1)


def _with_count(values: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Shape (rows, 2): the values, 0 where there is none; and where there is one."""
    import numpy as np

    there = np.isfinite(values)
    return np.stack([np.where(there, values, 0.0), there], axis=1)


def _difference(found: float, again: "NDArray[np.float64]") -> dict[str, Any]:
    return {"difference": found, "ci": list(interval(again)), "p": p_value(found, again)}
