"""How varied the predictions are: distinct n-grams of all of them, repetition in each."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["repetition", "variety", "words"]

REPEATED = 4
"""Words of what counts as repeated."""
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores of any script, in lower case."""
    return _WORD.findall(text.lower())


def repetition(words: Sequence[str]) -> float:
    """The share of 4-grams of words that were there before in the same text (seq-rep-4), 0..1."""
    count = len(words) - REPEATED + 1
    if count <= 1:
        return 0.0
    return 1 - len(set(zip(*(words[n:] for n in range(REPEATED)), strict=False))) / count


def variety(texts: Sequence[Sequence[str]]) -> "tuple[tuple[float, float], NDArray[np.float64]]":
    """distinct-1 and distinct-2 (Li et al. 2016) of all texts together, and each text's influence.

    The influence of a text (shape: texts, 2) is how much leaving it out would lower the value,
    times the number of texts but one, and zero on average. Distinct n-grams are no sum over texts,
    and a resample that holds texts twice has fewer of them: a bootstrap of these influences does
    not suffer from that (the infinitesimal jackknife).
    """
    import numpy as np

    vocabulary: dict[str, int] = {}
    ids = np.fromiter(
        (vocabulary.setdefault(word, len(vocabulary)) for text in texts for word in text), np.int64
    )
    row = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    inside = row[:-1] == row[1:]
    pairs = (ids[:-1] * len(vocabulary) + ids[1:])[inside]
    one, one_influence = _distinct(ids, row, len(texts))
    two, two_influence = _distinct(pairs, row[:-1][inside], len(texts))
    return (one, two), np.stack([one_influence, two_influence], axis=1)


def _distinct(
    keys: "NDArray[np.int64]", row: "NDArray[np.int64]", count: int
) -> "tuple[float, NDArray[np.float64]]":
    """Different keys a key; and the influence of each of ``count`` rows on that."""
    import numpy as np

    if not len(keys):
        return 0.0, np.zeros(count)
    order = np.lexsort((row, keys))
    keys, row = keys[order], row[order]
    new = np.append(True, keys[1:] != keys[:-1])
    first = new | np.append(True, row[1:] != row[:-1])
    begins = np.flatnonzero(new[first])  # among the different pairs of key and row
    in_one_row = np.diff(np.append(begins, first.sum())) == 1
    own = np.bincount(row[first][begins[in_one_row]], minlength=count)
    each = np.bincount(row, minlength=count)
    there, rest = len(begins) / len(keys), len(keys) - each
    without = np.where(rest > 0, (len(begins) - own) / np.maximum(rest, 1), there)
    return there, (count - 1) * (without.mean() - without)
