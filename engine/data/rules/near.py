"""Rule ``near_duplicates``: completions that nearly repeat an earlier one, found as rows pass by.

A completion is taken as the set of its words and its pairs of neighbouring words. Which earlier
ones it is compared with is decided by keys that both have:

- the same words in any order: case, punctuation, white space, sentences in another order;
- the same first or second half: one word changed, put in or left out;
- the same band of MinHash values (MinHash-LSH): whatever else leaves most of the text alone.

A key alone decides nothing, because a catalogue is full of texts from one template: a sketch of the
set, 64 bytes, estimates the Jaccard similarity, and that has to reach the rule's threshold (less
where a key says already that a whole half or all words are the same).

MinHash comes from rensa (Rust). Its own index finds as much, but takes 1.7 KB a document;
datasketch gets through 2,100 documents a second.
"""

from array import array
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from engine.data.rules.near_signer import (
    BANDS,
    PERMUTATIONS,
    QUERIES,
    SKETCH_BYTES,
    STORED,
    Signatures,
    Signer,
)
from engine.data.rules.near_table import MOST_DOCUMENTS, KeyTable
from engine.sections.data import NearDuplicatesRule

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NearIndex", "Signatures", "Signer"]

_LOWER_BAR = (0.2, 0.05, 0.05, 0.05, 0.05) + (0.0,) * BANDS
"""How far below the threshold the estimate may be, by the key that two texts share. One changed
word of 12 leaves a similarity of 0.77; words in another order may leave less, and are the same."""
_YOUNG = 4096
_MOST_YOUNG = 32
"""Under one key, as in :mod:`engine.data.rules.near_table`."""
_PAIRS = 1 << 16
"""Sketches compared at once: 4 MB."""
_FIRST_TABLE = 1 << 16
"""Documents; each following table holds four times as many, up to 2**20."""
_NUMBERS = (1 << 40) - 1
"""A score is the similarity, then how early: the greatest is the most similar, of those the first.
"""


class NearIndex:
    """The completions that stayed so far, and which of them a new one nearly repeats.

    Only those that stayed are kept, and they alone decide: a batch may be of any size, and when
    what stayed passes by once more, all of it stays. Some 160 bytes a document.
    """

    def __init__(self, rule: NearDuplicatesRule) -> None:
        import numpy as np

        self._bars = np.array([_bar(rule.threshold - lower) for lower in _LOWER_BAR])
        self._matches = np.array(
            [(not value & 15) + (not value & 240) for value in range(256)], dtype=np.uint8
        )
        self._lines = array("q")
        self._tables: list[_Table] = []
        self._young = _Young(0)

    def add(self, lines: Sequence[int], signatures: Signatures) -> list[int]:
        """For each text the line that it nearly repeats, or 0: then it stays and is kept in mind.

        Of several the most similar one, of those the first.
        """
        found = [0] * len(lines)
        start = 0
        while start < len(lines):
            start = self._add(start, lines, signatures, found)
        return found

    def _add(
        self, start: int, lines: Sequence[int], signatures: Signatures, found: list[int]
    ) -> int:
        """Texts from ``start`` on, until the young ones are so many that they join the tables."""
        old = self._among_old(signatures.keys[start:], signatures.sketch[start:])
        keys = signatures.keys[start:].tolist()
        words = signatures.words[start:].tolist()
        for place, (score, text_keys, count) in enumerate(
            zip(old, keys, words, strict=True), start
        ):
            if not count:
                continue
            score = max(score, self._among_young(text_keys, signatures.sketch[place]))
            if score:
                found[place] = self._lines[_NUMBERS - (score & _NUMBERS)]
                continue
            self._lines.append(lines[place])
            self._young.add(text_keys, signatures, place)
            if self._young.count == _YOUNG:
                self._grow()
                return place + 1
        return len(lines)

    def _among_old(self, keys: "np.ndarray", sketch: "np.ndarray") -> list[int]:
        """The best score of each text among those in the tables; 0: none is near."""
        import numpy as np

        best = np.zeros(len(keys), dtype=np.int64)
        for table in self._tables:
            places, documents = table.keys.candidates(keys)
            for part in range(0, len(places), _PAIRS):
                some = documents[part : part + _PAIRS]
                texts, queries = np.divmod(places[part : part + _PAIRS], QUERIES)
                alike = self._alike(sketch[texts], table.sketch[some])
                near = alike >= self._bars[queries]
                np.maximum.at(best, texts[near], _score(alike, table.first + some)[near])
        return best.tolist()

    def _among_young(self, keys: list[int], sketch: "np.ndarray") -> int:
        """The best score of one text among the young ones; 0: none is near."""
        import numpy as np

        young = self._young
        places: list[int] = []
        bars: list[int] = []
        for key, bar in zip(keys, self._bars.tolist(), strict=True):
            if here := young.by_key.get(key):
                places += here
                bars += [bar] * len(here)
        if not places:
            return 0
        some = np.array(places)
        alike = self._alike(young.sketch[some], sketch)
        return int(np.where(alike >= bars, _score(alike, young.first + some), 0).max())

    def _alike(self, one: "np.ndarray", other: "np.ndarray") -> "np.ndarray":
        """How many of the 128 MinHash values agree, as far as their four bits tell."""
        import numpy as np

        return self._matches[one ^ other].sum(axis=-1, dtype=np.int64)

    def _grow(self) -> None:
        young = self._young
        if not self._tables or not self._tables[-1].keys.room:
            last = self._tables[-1].keys.documents if self._tables else _FIRST_TABLE // 4
            self._tables.append(_Table(young.first, min(last * 4, MOST_DOCUMENTS)))
        self._tables[-1].add(young)
        self._young = _Young(len(self._lines))


class _Young:
    """The last few that stayed, found through a dict."""

    def __init__(self, first: int) -> None:
        import numpy as np

        self.first = first
        self.count = 0
        self.by_key: dict[int, list[int]] = {}
        self.keys = np.zeros((_YOUNG, len(STORED)), dtype=np.uint64)
        self.sketch = np.zeros((_YOUNG, SKETCH_BYTES), dtype=np.uint8)

    def add(self, keys: list[int], signatures: Signatures, place: int) -> None:
        for column in STORED:
            here = self.by_key.setdefault(keys[column], [])
            here.append(self.count)
            if len(here) > _MOST_YOUNG:
                del here[0]
        self.keys[self.count] = signatures.keys[place, STORED]
        self.sketch[self.count] = signatures.sketch[place]
        self.count += 1


class _Table:
    """Older ones: their keys and sketches in arrays, which get their memory as they are filled."""

    def __init__(self, first: int, documents: int) -> None:
        import numpy as np

        self.first = first
        self.keys = KeyTable(documents, len(STORED))
        self.sketch = np.zeros((documents, SKETCH_BYTES), dtype=np.uint8)

    def add(self, young: _Young) -> None:
        start = self.keys.documents
        self.keys.add(young.keys)
        self.sketch[start : start + young.count] = young.sketch


def _score(alike: "np.ndarray", numbers: "np.ndarray") -> "np.ndarray":
    return (alike << 40) | (_NUMBERS - numbers)


def _bar(similarity: float) -> int:
    """How many of the 128 values agree at this similarity: one in 16 does so by chance."""
    similarity = max(similarity, 0.0)
    return ceil(PERMUTATIONS * (similarity + (1 - similarity) / 16) - 1e-9)
