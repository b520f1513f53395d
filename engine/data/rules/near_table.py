"""A table from 64-bit keys to the documents that have them, in arrays: 76 bytes a document.

Several documents may have one key: they form a chain, the newest first. Python's own dict would
take 2 KB a document for the same.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MOST_DOCUMENTS", "KeyTable"]

MOST_DOCUMENTS = 1 << 20
"""Of one table: its entries must be told apart with 24 bits."""
_SLOTS_A_DOCUMENT = 8
_LONGEST_WALK = 32
"""Entries looked at for one key. Templates give thousands of documents the same key: without a
limit a file of them takes quadratic time; documents that are nearly the same share other keys."""


class KeyTable:
    """A fixed number of documents, each with the same number of keys.

    An entry is 32 bits: 24 for its number, 8 of its key, which keep most strangers that share a
    slot from being looked at. Memory is touched only as documents come.
    """

    def __init__(self, documents: int, keys: int) -> None:
        import numpy as np

        assert documents <= MOST_DOCUMENTS and documents * keys < 1 << 24
        self._keys = keys
        self._mask = np.uint64(documents * _SLOTS_A_DOCUMENT - 1)
        self._heads = np.zeros(documents * _SLOTS_A_DOCUMENT, dtype=np.uint32)
        self._next = np.zeros(documents * keys + 1, dtype=np.uint32)
        self.documents = 0
        self.room = documents

    def add(self, keys: "np.ndarray") -> None:
        """Put in documents, one a row of keys, numbered on from those that are there."""
        import numpy as np

        count, width = keys.shape
        assert width == self._keys and count <= self.room
        flat = keys.ravel()
        numbers = np.arange(count * width, dtype=np.uint32)
        numbers += np.uint32(self.documents * width + 1)
        entries = numbers | ((flat >> np.uint64(56)).astype(np.uint32) << np.uint32(24))
        slots = flat & self._mask
        order = np.argsort(slots, kind="stable")
        slots, entries, numbers = slots[order], entries[order], numbers[order]
        first = np.ones(len(slots), dtype=bool)
        first[1:] = slots[1:] != slots[:-1]
        self._next[numbers[first]] = self._heads[slots[first]]
        self._next[numbers[1:][~first[1:]]] = entries[:-1][~first[1:]]
        last = np.ones(len(slots), dtype=bool)
        last[:-1] = first[1:]
        self._heads[slots[last]] = entries[last]
        self.documents += count
        self.room -= count

    def candidates(self, keys: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        """Pairs (place in the flat ``keys``, document), each document that may have that key."""
        import numpy as np

        flat = keys.ravel()
        tags = (flat >> np.uint64(56)).astype(np.uint32)
        found = self._heads[flat & self._mask]
        places = np.flatnonzero(found)
        found, tags = found[places], tags[places]
        all_places, all_documents = [], []
        for _ in range(_LONGEST_WALK):
            if not len(places):
                break
            entries = found & np.uint32(0xFFFFFF)
            same = (found >> np.uint32(24)) == tags
            all_places.append(places[same])
            all_documents.append((entries[same] - np.uint32(1)) // np.uint32(self._keys))
            found = self._next[entries]
            more = found != 0
            found, places, tags = found[more], places[more], tags[more]
        if not all_places:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        return np.concatenate(all_places), np.concatenate(all_documents).astype(np.int64)
