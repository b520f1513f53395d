"""ROUGE-1, ROUGE-2 and ROUGE-L as ``rouge-score`` defines them, with its default tokenizer.

Its own implementation fills a table of the two lengths for each ROUGE-L in Python; here the longest
common subsequence is found in the bits of one integer (Crochemore et al. 2001; Hyyrö 2004).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["longest_common_subsequence", "rouge", "rouge_words", "unseen_share"]

_OTHER = re.compile("[^a-z0-9]+")
_SEEN = re.compile("[a-z0-9]")
_LETTER = re.compile(r"\w")


def rouge_words(text: str) -> list[str]:
    """The runs of a-z and 0-9 in the lower-case text: other scripts have no words here."""
    return _OTHER.sub(" ", text.lower()).split()


def unseen_share(texts: Sequence[str]) -> float:
    """The share of the texts with letters of other scripts only, of which ROUGE sees no word."""
    unseen = sum(
        _SEEN.search(text.lower()) is None and _LETTER.search(text) is not None for text in texts
    )
    return unseen / len(texts) if texts else 0.0


def rouge(prediction: str, reference: str) -> tuple[float, float, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L of one pair, each 0..1."""
    ours, theirs = rouge_words(prediction), rouge_words(reference)
    if not ours or not theirs:
        return 0.0, 0.0, 0.0
    common = longest_common_subsequence(ours, theirs)
    return (
        _of_counts(Counter(ours), Counter(theirs)),
        _of_counts(Counter(pairwise(ours)), Counter(pairwise(theirs))),
        _f1(common / len(ours), common / len(theirs)),
    )


def longest_common_subsequence(one: Iterable[str], other: Sequence[str]) -> int:
    """Words of the longest sequence that both have in this order, gaps allowed."""
    places: dict[str, int] = {}
    for place, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(other)) - 1
    row = every
    for word in one:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & every
    return len(other) - row.bit_count()


def _of_counts(ours: Counter[object], theirs: Counter[object]) -> float:
    both = 0
    for ngram, count in ours.items():
        if ngram in theirs:
            both += min(count, theirs[ngram])
    return _f1(both / max(ours.total(), 1), both / max(theirs.total(), 1))


def _f1(precision: float, recall: float) -> float:
    both = precision + recall
    return 2 * precision * recall / both if both > 0 else 0.0
