"""n-grams that two texts have in common, counted for hundreds of pairs at once.

The numbers that BLEU and chrF are made of. sacrebleu counts them text by text in dictionaries,
which takes 2.2 ms a pair of 60 words; sorting the n-grams of all pairs together takes a tenth.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OURS", "SHARED", "THEIRS", "character_codes", "ngram_counts", "word_codes"]

OURS, THEIRS, SHARED = range(3)
"""Places along the last axis of :func:`ngram_counts`."""
_MOST = 1 << 62
"""Keys are whole numbers of 63 bits: exact, no hashes."""


def character_codes(texts: Sequence[str]) -> "list[NDArray[np.uint32]]":
    """The code points of each text."""
    import numpy as np

    return [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32) for text in texts]


def word_codes(texts: Sequence[Sequence[str]]) -> "list[NDArray[np.uint32]]":
    """A number for each word of each text; equal words of these texts have equal numbers."""
    import numpy as np

    known: dict[str, int] = {}
    return [
        np.fromiter((known.setdefault(word, len(known)) for word in text), np.uint32, len(text))
        for text in texts
    ]


def ngram_counts(
    ours: "Sequence[NDArray[np.uint32]]", theirs: "Sequence[NDArray[np.uint32]]", orders: int
) -> "NDArray[np.int64]":
    """How many n-grams each pair of texts has, n from 1 to ``orders``.

    Shape (pairs, orders, 3): of our text, of theirs, and in common (each as often as in the text
    that has it less often). ``ours`` and ``theirs`` are codes of the same numbering.
    """
    import numpy as np

    pairs = len(ours)
    counts = np.zeros((pairs, orders, 3), np.int64)
    texts = [*ours, *theirs]
    units, alphabet = _ranked(np.concatenate([*texts, np.empty(0, np.uint32)]))
    text = np.repeat(np.arange(2 * pairs), [len(codes) for codes in texts])
    codes, size = units, alphabet
    for order in range(1, orders + 1):
        if order > 1:
            last = order - 1
            codes = codes[: len(units) - last]  # that of order n begins where that of n - 1 did
            codes, size = codes * alphabet + units[last:], size * alphabet
        if size * alphabet * (pairs + 1) >= _MOST:
            _, codes = np.unique(codes, return_inverse=True)
            size = int(codes.max()) + 1 if len(codes) else 1
        its = text[: len(codes)]
        whole = its == text[order - 1 :]  # begins and ends in the same text
        keys = (its[whole] % max(pairs, 1)) * size + codes[whole]
        mine = its[whole] < pairs
        first, its_times = np.unique(keys[mine], return_counts=True)
        second, their_times = np.unique(keys[~mine], return_counts=True)
        place = np.minimum(np.searchsorted(second, first), max(len(second) - 1, 0))
        here = second[place] == first if len(second) else np.zeros(len(first), bool)
        shared = np.minimum(its_times[here], their_times[place[here]])
        of = counts[:, order - 1]
        of[:, OURS] = np.bincount(first // size, its_times, pairs)
        of[:, THEIRS] = np.bincount(second // size, their_times, pairs)
        of[:, SHARED] = np.bincount(first[here] // size, shared, pairs)
    return counts


def _ranked(codes: "NDArray[np.uint32]") -> "tuple[NDArray[np.int64], int]":
    """The codes numbered from 0 without gaps, and how many different ones there are."""
    import numpy as np

    if not len(codes):
        return np.empty(0, np.int64), 1
    there = np.flatnonzero(np.bincount(codes))
    number = np.zeros(there[-1] + 1, np.int64)
    number[there] = np.arange(len(there))
    return number[codes], len(there)
