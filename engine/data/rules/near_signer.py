"""What is compared of a text to find near-duplicates: keys and a sketch, made in any process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from engine.data.rules.near_words import hash_words, mix, weights
from engine.sections.data import NearDuplicatesRule

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BANDS", "PERMUTATIONS", "QUERIES", "SKETCH_BYTES", "STORED", "Signatures", "Signer"]

PERMUTATIONS = 128
BANDS = 8
SKETCH_BYTES = PERMUTATIONS // 2
"""Four bits of each MinHash value. They estimate a similarity of 0.8 to 0.03."""
QUERIES = 5 + BANDS
"""Keys to look for: words, first half (2), second half (2), bands.

With a word more or less the middle moves: the second of each two is the half such a text has."""
STORED = (0, 1, 3, *range(5, QUERIES))
"""Which of them a text is found by."""
_SEED = 20_111
_RECALL = 0.95
"""Of the pairs at the threshold that share a band."""
_BATCH = 1 << 20
"""Characters hashed at once: 40 MB of arrays."""


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
    while rows < 12 and 1 - (1 - threshold ** (rows + 1)) ** BANDS >= _RECALL:
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
        keys = np.zeros((len(texts), QUERIES), dtype=np.uint64)
        sketch = np.zeros((len(texts), SKETCH_BYTES), dtype=np.uint8)
        (filled,) = np.nonzero(counts)
        if len(filled):
            lengths = counts[filled]
            ends = np.cumsum(lengths)
            starts = ends - lengths
            keys[filled, :5] = _word_keys(words, starts, ends, lengths)
            values = _minhash(words, ends)
            low = (values & 15).astype(np.uint8)
            sketch[filled] = (low[:, ::2] << 4) | low[:, 1::2]
            for band in range(BANDS):
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
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(features, offsets, PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint64)
