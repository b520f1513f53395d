"""Which stretches of an answer stand literally in the rows that a model was trained on.

A stretch counts from 8 words on. Words are what stands between spaces, in any case, with their
punctuation; of scripts that set no spaces between words two characters count as a word, so 16 of
them make a stretch. Looked up are 64-bit hashes of all stretches of just that length in the train
split, prompts included, sorted in a file of the home's cache that is mapped into memory. With n of
them a stretch that was never trained on is taken for one with odds of n in 2**64: at 150,000 rows
about 1 in 10**12.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.data.dataset import Dataset
from engine.errors import UserError
from engine.generate.errand import run_errand
from engine.generate.stretches import HALVES, Words, covered, stretches, words
from engine.home import Home

__all__ = ["WEIGHT", "CopyIndex", "index_file", "read_index"]

WEIGHT = 8 * HALVES
"""Of the shortest stretch that counts."""
VERSION = 1
"""Raise it when other hashes are made than before."""
HASHES = np.dtype("<u8")
WORKER = "engine.generate.copying_work"


def index_file(home: Home, dataset: Dataset) -> Path:
    """Where the index of a dataset's train split is, or will be."""
    size = dataset.file("train").stat().st_size
    # Hashed, for a manifest may come from elsewhere: it names no file of ours.
    what = f"{VERSION} {WEIGHT} {dataset.fingerprint} {size}"
    key = hashlib.blake2b(what.encode("utf-8", "replace"), digest_size=12).hexdigest()
    return home.path / "cache" / "copies" / f"{key}.npy"


def read_index(path: Path) -> np.ndarray | None:
    """The sorted hashes in a file, mapped; None: there is none, or it is not whole."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(found, np.ndarray) or found.dtype != HASHES or found.ndim != 1:
        return None
    return np.asarray(found)


class CopyIndex:
    """The stretches of one train split. Looking up reads pages of a file: some ms when cold."""

    def __init__(self, hashes: np.ndarray) -> None:
        """``hashes``: uint64, sorted."""
        self._hashes = hashes

    def __len__(self) -> int:
        """Different stretches."""
        return len(self._hashes)

    @classmethod
    def open(cls, home: Home, dataset: Dataset) -> "CopyIndex | None":
        """The index of a dataset's train split; None: it is not built yet."""
        try:
            path = index_file(home, dataset)
        except OSError:
            return None
        hashes = read_index(path)
        if hashes is None:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the longest unused goes first
        return cls(hashes)

    @classmethod
    def open_or_build(
        cls,
        home: Home,
        dataset: Dataset,
        on_progress: Callable[[str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> "CopyIndex":
        """The index of a dataset's train split, built in a process of its own where there is none.

        Blocking, so nothing for an event loop; ``on_progress`` gets words, ``cancelled`` is asked
        ten times a second. Raises :class:`engine.data.progress.Cancelled`, after which nothing
        half-made is there, and :class:`UserError` when it cannot be built.
        """
        found = cls.open(home, dataset)
        if found is None:
            arguments = [str(home.path), str(dataset.path)]
            result = run_errand(WORKER, arguments, on_progress, cancelled=cancelled)
            # Read where it was built: the source may have been cleaned anew since it was opened.
            hashes = read_index(Path(result["file"]))
            if hashes is None:
                raise UserError(f"{result['file']}: was built and cannot be read; try again")
            found = cls(hashes)
        return found

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where a text is literally train's: (start, end) in its characters, in order, apart.

        Neighbouring stretches are one, from its first word's first character to its last one's end.
        """
        found = words(text)
        copied = self._copied(found)
        steps = np.diff(copied.astype(np.int8), prepend=np.int8(0), append=np.int8(0))
        first, after = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        return list(zip(found.starts[first].tolist(), found.ends[after - 1].tolist(), strict=True))

    def rate(self, text: str) -> float:
        """The share of a text's words that :meth:`spans` cover, 0 to 1; of no words 0."""
        found = words(text)
        total = int(found.weights.sum())
        return int(found.weights[self._copied(found)].sum()) / total if total else 0.0

    def _copied(self, found: Words) -> np.ndarray:
        """Which words lie in a stretch that stands in train."""
        looked = stretches(found, WEIGHT)
        if not len(looked.hashes) or not len(self._hashes):
            return np.zeros(len(found), bool)
        place = np.searchsorted(self._hashes, looked.hashes)
        place[place == len(self._hashes)] = 0
        there = self._hashes[place] == looked.hashes
        return covered(found, looked.first[there], looked.after[there])
