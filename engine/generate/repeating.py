"""Whether an answer goes round in circles, as small models and greedy answers do."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from engine.generate.stretches import HALVES, Stretches, Words, covered, stretches, words

__all__ = ["Repetition", "repetition"]

SHORT = 4 * HALVES
"""Four words (eight characters of a script without spaces) make a loop when they come three times,
each time at most :data:`NEAR` words behind the last."""
LONG = 12 * HALVES
"""Twelve words (24 characters) are a repetition wherever they came before."""
NEAR = 200
LONGEST = 48
"""A longer "word" (hahahaha..., a line of a drawing) is looked at character by character."""
MOST_DRAWN = 120
"""A line of dashes up to so long is a line, not a loop."""

TELL_SHARE = 0.15
TELL_LOOP = 24 * HALVES
"""Or so much repeated at the end, whatever came before: it would have gone on for ever."""
LEAST = 4 * HALVES
"""Less than that repeated is never worth a word."""


@dataclass(frozen=True)
class Repetition:
    """How much of an answer says again what it said before."""

    share: float
    """Of its words, 0 to 1; the first time something is said never counts."""
    words: str
    """A short warning, or "" where there is nothing to say."""


def repetition(text: str) -> Repetition:
    """How much of ``text`` repeats earlier words of it as a loop does.

    Numbers, names and phrases that come again here and there are no loop: see :data:`SHORT` and
    :data:`LONG`. Signs that stand alone, such as a table's lines, are left out. Never raises.
    """
    found = _told(text)
    total = int(found.weights.sum())
    if not total:
        return Repetition(0.0, "")
    loops = _loops(found)
    again = loops | _again(found)
    weight = int(found.weights[again].sum())
    share = weight / total
    if weight < LEAST:
        return Repetition(share, "")
    loop = int(found.weights[_end(loops) :].sum())
    if loop >= TELL_LOOP or (loop >= LEAST and share >= TELL_SHARE):
        return Repetition(share, f"loops at the end ({share:.0%} repeated)")
    if share >= TELL_SHARE:
        return Repetition(share, f"repeats itself ({share:.0%} repeated)")
    return Repetition(share, "")


def _end(loops: np.ndarray) -> int:
    """Number of the word from which on all are in a loop; the last one may be cut off."""
    others = np.flatnonzero(~loops).tolist()
    last = [-1, *others]
    return int(last[-2] if len(last) > 1 and last[-1] == len(loops) - 1 else last[-1]) + 1


def _told(text: str) -> Words:
    """The words that say something."""
    found = words(text, LONGEST)
    signs = _signs(text)
    drawn = np.zeros(len(text) + 1, np.int64)
    np.cumsum(signs, out=drawn[1:])
    only = drawn[found.ends] - drawn[found.starts] == found.ends - found.starts
    if not only.any():
        return found
    # Characters of a very long run of signs stay: that is no line any more.
    edges = np.flatnonzero(np.diff(signs, prepend=np.int8(0), append=np.int8(0)))
    begin, end = edges[::2], edges[1::2]
    length = np.zeros(len(text), np.int64)
    length[begin] = end - begin
    run = np.maximum.accumulate(np.where(length > 0, np.arange(len(text)), 0))
    keep = ~only | (length[run[found.starts]] > MOST_DRAWN)
    return Words(found.starts[keep], found.ends[keep], found.hashes[keep], found.weights[keep])


def _signs(text: str) -> np.ndarray:
    """Which characters only draw (int8, 0 or 1)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return _drawn()[np.minimum(codes, 0xFFFF)]


@cache
def _drawn() -> np.ndarray:
    drawn = np.zeros(0x10000, np.int8)
    drawn[[code for code in range(33, 127) if not chr(code).isalnum()]] = 1
    drawn[0x2010:0x2028] = 1  # dashes, quotes, dots
    drawn[0x2500:0x2600] = 1  # lines and boxes
    return drawn


def _loops(found: Words) -> np.ndarray:
    """Words in short stretches that came at least twice just before."""
    short = stretches(found, SHORT)
    order, same = _in_groups(short)
    near = np.zeros(len(order) + 1, bool)  # one more, for the look ahead
    near[1:-1] = same[1:] & (np.diff(short.first[order]) <= NEAR)
    third = near.copy()
    third[1:] &= near[:-1]
    second = near[:-1] & third[1:]
    chosen = order[third[:-1] | second]
    return covered(found, short.first[chosen], short.after[chosen])


def _again(found: Words) -> np.ndarray:
    """Words in long stretches that came before."""
    long = stretches(found, LONG)
    order, same = _in_groups(long)
    chosen = order[same]
    return covered(found, long.first[chosen], long.after[chosen])


def _in_groups(found: Stretches) -> tuple[np.ndarray, np.ndarray]:
    """Stretches, equal ones one after the other as in the text; which equal the one before.

    The place stands in the lowest bits: numbers are sorted ten times as fast as their order. At
    100,000 stretches 47 bits tell them apart: two are confused in 1 text of 28,000.
    """
    count = len(found.first)
    bits = np.uint64(max(1, count.bit_length()))
    keys = (found.hashes >> bits) << bits | np.arange(count, dtype=np.uint64)
    keys.sort()
    groups = keys >> bits
    same = np.zeros(count, bool)
    same[1:] = groups[1:] == groups[:-1]
    order = keys & ((np.uint64(1) << bits) - np.uint64(1))
    return order.astype(np.int64), same
