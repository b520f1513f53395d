"""Rule ``near_duplicates``: completions that nearly repeat an earlier one, found as rows pass by.

A completion is taken as the set of its words and its pairs of neighbouring words. Which earlier
ones it is compared with is decided by keys that both have:

- the same words in any order: case, punctuation, white space, sentences in another order;
- the same first or second half: one word changed, put in or left out;
- the same band of MinHash values (MinHash-LSH): whatever else leaves most of the text alone.

A key alone decides nothing, because a catalogue is full of texts from one template: a sketch of the
set, 64 bytes, estimates the Jaccard similarity, and that has to reach the rule's threshold (less
where a key says already that a whole half or all words are the same).

MinHash comes from rensa (Rust). Its own index was not taken: it keeps Python-sized keys (2.5 KB a
document), and datasketch hashes 2,000 documents a second.
"""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from engine.data.rules.near_table import MOST_DOCUMENTS, KeyTable
from engine.data.rules.near_words import hash_words, mix, weights
from engine.sections.data import NearDuplicatesRule

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NearIndex", "Signatures", "Signer"]

_PERMUTATIONS = 128
_SEED = 20_111
_BANDS = 8
_SKETCH = _PERMUTATIONS // 2
"""Bytes: four bits of each MinHash value. They estimate a similarity of 0.8 to 0.03."""
_QUERIES = 5 + _BANDS
"""Keys to look for: words, first half (2), second half (2), bands.

With a word more or less the middle moves: the second of each two is the half such a text has."""
_STORED = (0, 1, 3, *range(5, _QUERIES))
"""Which of them a document is found by."""
_LOWER_BAR = (0.2, 0.05, 0.05, 0.05, 0.05) + (0.0,) * _BANDS
"""How far below the threshold the estimate may be, by the key that two texts share. Among 12 words
one that is changed leaves a similarity of 0.77, two sentences in turn one of 0.85."""
_RECALL = 0.95
"""Of the pairs at the threshold that share a band."""
_BATCH = 1 << 20
"""Characters hashed at once: 40 MB of arrays."""
_YOUNG = 4096
_MOST_YOUNG = 32
"""Under one key, as in :mod:`engine.data.rules.near_table`."""
_PAIRS = 1 << 16
"""Sketches compared at once: 4 MB."""
_FIRST_TABLE = 1 << 16
"""Documents; each following table holds four times as many, up to 2**20."""


class Signatures(NamedTuple):
    """What is compared of a batch of texts, one a row: 170 bytes each."""

    keys: "np.ndarray"
    """uint64, (texts, 13)."""
    sketch: "np.ndarray"
    """uint8, (texts, 64)."""
    words: "np.ndarray"
    """int64: how many words a text has. One without any is like no other."""


def _rows_per_band(threshold: float) -> int:
    rows = 1
    while rows < 12 and 1 - (1 - threshold ** (rows + 1)) ** _BANDS >= _RECALL:
        rows += 1
    return rows


class Signer:
    """Makes the signatures of texts: pure, the same in every process, and picklable."""

    def __init__(self, rule: NearDuplicatesRule) -> None:
        self._rows = _rows_per_band(rule.threshold)

    def sign(self, texts: Sequence[str]) -> Signatures:
        """The signatures of these texts, in their order. Each depends on its text alone."""
        import numpy as np

        parts, start, size = [], 0, 0
        for end, text in enumerate(texts, 1):
            size += len(text)
            if size >= _BATCH or end == len(texts):
                parts.append(self._sign(texts[start:end]))
                start, size = end, 0
        if len(parts) == 1:
            return parts[0]
        parts = parts or [self._sign([])]
        return Signatures(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _sign(self, texts: Sequence[str]) -> Signatures:
        import numpy as np

        words, counts = hash_words(texts)
        keys = np.zeros((len(texts), _QUERIES), dtype=np.uint64)
        sketch = np.zeros((len(texts), _SKETCH), dtype=np.uint8)
        (filled,) = np.nonzero(counts)
        if len(filled):
            lengths = counts[filled]
            ends = np.cumsum(lengths)
            starts = ends - lengths
            keys[filled, :5] = _word_keys(words, starts, ends, lengths)
            values = _minhash(words, ends)
            low = (values & 15).astype(np.uint8)
            sketch[filled] = (low[:, ::2] << 4) | low[:, 1::2]
            for band in range(_BANDS):
                key = np.full(len(filled), 0x51ED_2701 + band, dtype=np.uint64)
                for row in range(self._rows):
                    key = mix(
                        key * np.uint64(0x9E3779B97F4A7C15) + values[:, band * self._rows + row]
                    )
                keys[filled, 5 + band] = key
        return Signatures(keys, sketch, counts)


def _running(values: "np.ndarray") -> "np.ndarray":
    import numpy as np

    total = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values, out=total[1:])
    return total


def _word_keys(
    words: "np.ndarray", starts: "np.ndarray", ends: "np.ndarray", lengths: "np.ndarray"
) -> "np.ndarray":
    """The keys that are made of whole words: all in any order, first and second half."""
    import numpy as np

    half = lengths // 2
    other = np.where(lengths % 2, half + 1, half - 1)
    place = np.arange(len(words)) - np.repeat(starts, lengths)
    back = np.repeat(lengths, lengths) - 1 - place
    weight = weights(3)
    period = len(weight) - 1
    bag = _running(words)
    forward = _running(words * weight[place & period])
    backward = _running(words * weight[back & period])
    columns = (
        bag[ends] - bag[starts] + np.uint64(11),
        forward[starts + half] - forward[starts] + np.uint64(13),
        forward[starts + other] - forward[starts] + np.uint64(13),
        backward[ends] - backward[ends - half] + np.uint64(17),
        backward[ends] - backward[ends - other] + np.uint64(17),
    )
    return mix(np.stack(columns, axis=1))


def _minhash(words: "np.ndarray", ends: "np.ndarray") -> "np.ndarray":
    """128 MinHash values of each text's words and pairs of neighbouring words."""
    import numpy as np
    from rensa import RMinHash

    features = np.empty(2 * len(words), dtype=np.uint64)
    features[::2] = words
    features[1:-1:2] = mix(words[:-1] * np.uint64(0xD1B54A32D192ED03) + words[1:])
    # No pair reaches over the end of a text: there a word takes its place, once more.
    features[2 * ends - 1] = words[ends - 1]
    offsets = np.zeros(len(ends) + 1, dtype=np.uint64)
    offsets[1:] = 2 * ends
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(features, offsets, _PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint64)


class NearIndex:
    """The completions that stayed so far, and which of them a new one nearly repeats.

    Only those that stayed are kept, and they alone decide: a batch may be of any size, and when
    what stayed passes by once more, all of it stays. Some 150 bytes a document.
    """

    def __init__(self, rule: NearDuplicatesRule) -> None:
        import numpy as np

        self._bars = np.array([_bar(rule.threshold - lower) for lower in _LOWER_BAR])
        self._matches = np.array(
            [(not value & 15) + (not value & 240) for value in range(256)], dtype=np.uint8
        )
        self._tables: list[_Table] = []
        self._young = _Young()

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
        young = self._young
        old = self._among_old(signatures, start)
        keys = signatures.keys[start:].tolist()
        words = signatures.words[start:].tolist()
        for place, (line, row, row_keys) in enumerate(
            zip(old, range(start, len(lines)), keys, strict=True), start
        ):
            if not words[place - start]:
                continue
            found[place] = line or self._among_young(row_keys, signatures.sketch[row])
            if not found[place]:
                young.add(lines[place], row_keys, signatures, place)
                if young.count == _YOUNG:
                    self._grow()
                    return place + 1
        return len(lines)

    def _among_old(self, signatures: Signatures, start: int) -> list[int]:
        import numpy as np

        keys, sketch = signatures.keys[start:], signatures.sketch[start:]
        # How alike and which, in one number: the greatest is the most similar, then the first.
        best = np.zeros(len(keys), dtype=np.int64)
        lines = np.zeros(len(keys), dtype=np.int64)
        for table in self._tables:
            best_here = np.zeros(len(keys), dtype=np.int64)
            places, documents = table.keys.candidates(keys)
            rows, queries = np.divmod(places, _QUERIES)
            for part in range(0, len(rows), _PAIRS):
                some = slice(part, part + _PAIRS)
                alike = self._alike(sketch[rows[some]], table.sketch[documents[some]])
                near = alike >= self._bars[queries[some]]
                score = (alike[near] << 32) | (0xFFFFFFFF - documents[some][near])
                np.maximum.at(best_here, rows[some][near], score)
            better = best_here >> 32 > best >> 32
            best[better] = best_here[better]
            lines[better] = table.lines[0xFFFFFFFF - (best_here[better] & 0xFFFFFFFF)]
        return lines.tolist()

    def _among_young(self, keys: list[int], sketch: "np.ndarray") -> int:
        import numpy as np

        young = self._young
        rows: list[int] = []
        bars: list[int] = []
        for query, key in enumerate(keys):
            if here := young.by_key.get(key):
                rows += here
                bars += [int(self._bars[query])] * len(here)
        if not rows:
            return 0
        alike = self._alike(young.sketch[rows], sketch)
        near = alike >= np.array(bars)
        if not near.any():
            return 0
        score = np.where(near, (alike << 32) | (0xFFFFFFFF - np.array(rows)), 0)
        return int(young.lines[rows[int(score.argmax())]])

    def _alike(self, one: "np.ndarray", other: "np.ndarray") -> "np.ndarray":
        """How many of the 128 MinHash values agree, as far as their four bits tell."""
        import numpy as np

        return self._matches[one ^ other].sum(axis=-1, dtype=np.int64)

    def _grow(self) -> None:
        young = self._young
        if not self._tables or not self._tables[-1].keys.room:
            last = self._tables[-1].keys.documents if self._tables else _FIRST_TABLE // 4
            self._tables.append(_Table(min(last * 4, MOST_DOCUMENTS)))
        self._tables[-1].add(young)
        self._young = _Young()


class _Young:
    """The last few that stayed, found through a dict."""

    def __init__(self) -> None:
        import numpy as np

        self.count = 0
        self.by_key: dict[int, list[int]] = {}
        self.keys = np.zeros((_YOUNG, len(_STORED)), dtype=np.uint64)
        self.sketch = np.zeros((_YOUNG, _SKETCH), dtype=np.uint8)
        self.lines = np.zeros(_YOUNG, dtype=np.int64)

    def add(self, line: int, keys: list[int], signatures: Signatures, row: int) -> None:
        number, by_key = self.count, self.by_key
        for column in _STORED:
            here = by_key.setdefault(keys[column], [])
            here.append(number)
            if len(here) > _MOST_YOUNG:
                del here[0]
        self.keys[number] = signatures.keys[row, _STORED]
        self.sketch[number] = signatures.sketch[row]
        self.lines[number] = line
        self.count += 1


class _Table:
    """Older ones: their keys, sketches and lines in arrays."""

    def __init__(self, documents: int) -> None:
        import numpy as np

        self.keys = KeyTable(documents, len(_STORED))
        # The system gives these their memory as they are written to.
        self.sketch = np.zeros((documents, _SKETCH), dtype=np.uint8)
        self.lines = np.zeros(documents, dtype=np.int64)

    def add(self, young: _Young) -> None:
        start = self.keys.documents
        self.keys.add(young.keys)
        self.sketch[start : start + _YOUNG] = young.sketch
        self.lines[start : start + _YOUNG] = young.lines


def _bar(similarity: float) -> int:
    """How many of the 128 values agree at this similarity: one in 16 does so by chance."""
    similarity = max(similarity, 0.0)
    return ceil(_PERMUTATIONS * (similarity + (1 - similarity) / 16) - 1e-9)
