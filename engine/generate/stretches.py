"""Texts as words, and stretches of words as 64-bit hashes: what repeating and copying are told by.

A word is what stands between spaces, in lower case. Scripts that set no spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese, ...) are taken character by character, each for half
a word. All of it in numpy: 100,000 characters take some milliseconds.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["HALVES", "Stretches", "Words", "covered", "stretches", "words"]

HALVES = 2
"""What a word weighs; a character of a script without spaces weighs 1."""

_SPACES = (
    *range(0x09, 0x0E),
    *range(0x1C, 0x21),
    *(0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000),
    *range(0x2000, 0x200C),  # with the zero-width space, which parts words in Thai and Khmer
    *(0x2060, 0xFEFF),
)
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals
    (0x3001, 0x312F),  # their punctuation, kana, bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF),  # Yi
    (0xF900, 0xFAFF),
    (0xFF01, 0xFF0F),  # full-width punctuation
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF9F),
)
_IDEOGRAPHS = 0x1AFF0, 0x3FFFF  # kana and ideographs of the higher planes; emoji are words
_EMOJI = 0x1F000, 0x1FFFF
_WORD, _SPACE, _UNSPACED_KIND = 0, 1, 2

_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15 | 1, -1, 1 << 64))


@dataclass(frozen=True)
class Words:
    """The words of a text, in order; arrays of one length."""

    starts: np.ndarray
    """Where each begins in the text, in characters (int64)."""
    ends: np.ndarray
    hashes: np.ndarray
    """uint64; the same for the same word in any case."""
    weights: np.ndarray
    """:data:`HALVES` or 1 (int64)."""

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Stretches:
    """Stretches of one weight that begin at each word in turn, as far as the text goes."""

    first: np.ndarray
    """Number of the first word (int64)."""
    after: np.ndarray
    """Number of the word behind the last one."""
    hashes: np.ndarray
    """uint64."""


@cache
def _kinds() -> np.ndarray:
    kinds = np.zeros(0x10000, np.uint8)
    kinds[list(_SPACES)] = _SPACE
    for first, last in _UNSPACED:
        kinds[first : last + 1] = _UNSPACED_KIND
    return kinds


def words(text: str, longest: int | None = None) -> Words:
    """The words of a text. With ``longest``, what is longer than that is taken as unspaced."""
    # The only character whose lower case is two: places must stay what they are.
    lower = text.replace("\u0130", "i").lower()
    codes = np.frombuffer(lower.encode("utf-32-le", "surrogatepass"), np.uint32)
    low = np.minimum(codes, 0xFFFF)
    kinds = _kinds()[low]
    if codes.size and codes.max() > 0xFFFF:
        high = (codes >= _IDEOGRAPHS[0]) & (codes <= _IDEOGRAPHS[1])
        high &= (codes < _EMOJI[0]) | (codes > _EMOJI[1])
        kinds[codes > 0xFFFF] = _WORD
        kinds[high] = _UNSPACED_KIND
    starts, ends = _bounds(kinds)
    if longest is not None and (long := ends - starts > longest).any():
        for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
            kinds[start:end] = _UNSPACED_KIND
        starts, ends = _bounds(kinds)
    weights = np.where(kinds[starts] == _UNSPACED_KIND, 1, HALVES).astype(np.int64)
    return Words(starts, ends, _sums(_mix(codes), starts, ends), weights)


def _bounds(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where words begin and end: at spaces, and around each character that is one."""
    single = kinds == _UNSPACED_KIND
    inside = kinds == _WORD
    before = np.zeros(len(kinds), bool)
    before[1:] = inside[:-1]
    behind = np.zeros(len(kinds), bool)
    behind[:-1] = inside[1:]
    starts = np.flatnonzero(single | (inside & ~before))
    ends = np.flatnonzero(single | (inside & ~behind)) + 1
    return starts, ends


def stretches(found: Words, weight: int) -> Stretches:
    """The shortest stretches of at least ``weight`` from each word on."""
    reach = np.concatenate(([0], np.cumsum(found.weights)))
    after = np.searchsorted(reach, reach[:-1] + weight)
    first = np.flatnonzero(after <= len(found))
    after = after[first]
    return Stretches(first, after, _sums(_mix(found.hashes), first, after))


def covered(found: Words, first: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which words lie in one of the stretches ``first`` to ``after`` (bool, one a word)."""
    steps = np.zeros(len(found) + 1, np.int64)
    np.add.at(steps, first, 1)
    np.subtract.at(steps, after, 1)
    return np.cumsum(steps[:-1]) > 0


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64: uint64 in which every bit depends on every bit of a value."""
    mixed = values.astype(np.uint64) + _BASE
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _sums(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Polynomial hashes modulo 2**64 of slices of ``values``, from one running sum of all."""
    count = len(values)
    powers = _powers(_BASE, count)
    sums = np.zeros(count + 1, np.uint64)
    np.cumsum(values * powers, out=sums[1:])
    inverse = _powers(_INVERSE, count)
    return _mix((sums[ends] - sums[starts]) * inverse[starts])


_MOST_KEPT = 1 << 21
_kept: dict[int, np.ndarray] = {}


def _powers(base: np.uint64, count: int) -> np.ndarray:
    """1, base, base**2, ... modulo 2**64; kept up to some length, being the same each time."""
    kept = _kept.get(int(base))
    if kept is None or len(kept) < count:
        kept = np.full(1 << max(16, count.bit_length()), base, np.uint64)
        kept[0] = 1
        np.cumprod(kept, out=kept)
        if len(kept) <= _MOST_KEPT:
            _kept[int(base)] = kept
    return kept[:count]
