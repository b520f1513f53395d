"""Builds the index of a train split's stretches: an errand, without torch.

``python -m engine.generate.copying_work --answers FD HOME DATASET``. Memory stays flat: hashes are
put aside sorted, some million at a time, and merged at the end. The file appears whole or not at
all.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.dataset import open_dataset
from engine.errors import UserError
from engine.generate.copying import HASHES, WEIGHT, index_file, read_index
from engine.generate.errand import Answers, serve_errand
from engine.generate.stretches import stretches, words
from engine.home import Home
from engine.jobs.lock import locked
from engine.whole import sync

__all__ = ["build", "hashes_of"]

PASS_CHARACTERS = 500_000
"""Texts that are hashed at once."""
BATCH_ROWS = 2_000
PART_HASHES = 4_000_000
"""Put aside at once: 32 MB."""
RANGES = 64
"""The parts are merged a range of hashes at a time."""
MOST_BYTES = 4 << 30
"""All indexes of a home together; the longest unused goes first."""
RESERVE_BYTES = 1 << 30
"""Left free on the disk for checkpoints."""
PROGRESS_SECONDS = 0.25


def hashes_of(texts: list[str]) -> np.ndarray:
    """The hashes of all stretches of these texts, uint64, in no order; none spans two texts."""
    found = words("\n".join(texts))
    looked = stretches(found, WEIGHT)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    begins = np.cumsum(lengths + 1) - (lengths + 1)
    text = np.searchsorted(begins, found.starts, side="right")
    same = text[looked.first] == text[looked.after - 1]
    return looked.hashes[same]


def build(home: Home, dataset_path: Path, answers: Answers) -> dict[str, Any]:
    """Build the index unless it is there; waits for another process that does."""
    dataset = open_dataset(home, dataset_path)
    path = index_file(home, dataset)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), lambda: answers.status("waiting for another")):
            if read_index(path) is not None:
                return {"file": str(path), "built": False}
            for left in path.parent.glob(f".{path.stem}-*"):  # of one that was killed
                shutil.rmtree(left, ignore_errors=True)
            folder = path.with_name(f".{path.stem}-{os.getpid()}")
            folder.mkdir(mode=0o700)
            try:
                _build(folder, path, dataset, answers)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        _trim(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be built ({error.strerror})") from None
    return {"file": str(path), "built": True}


def _build(folder: Path, path: Path, dataset: Any, answers: Answers) -> None:
    table = dataset.split("train")
    rows, done, told = table.num_rows, 0, 0.0
    parts: list[Path] = []
    waiting: list[np.ndarray] = []
    size = 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        for texts in _passes(_texts(batch)):
            waiting.append(hashes_of(texts))
            size += len(waiting[-1])
            if size >= PART_HASHES:
                parts.append(_put_aside(folder, len(parts), waiting))
                waiting, size = [], 0
        done += batch.num_rows
        if (now := time.monotonic()) - told >= PROGRESS_SECONDS:
            told = now
            answers.status(f"indexing the training rows {done / rows:.0%}")
    if waiting or not parts:
        parts.append(_put_aside(folder, len(parts), waiting))
    answers.status("indexing the training rows, sorting")
    whole = folder / "whole.npy"
    _merge([_mapped(part) for part in parts], whole)
    whole.replace(path)
    sync(path.parent)


def _texts(batch: Any) -> Iterator[str]:
    """Every text of rows: what was trained on, and what was given with it."""
    for name in batch.schema.names:
        column = batch.column(name)
        if str(column.type) in ("string", "large_string"):
            yield from (text for text in column.to_pylist() if text)
        elif name == "messages":
            for messages in column.to_pylist():
                yield from (m["content"] for m in messages or () if m["content"])


def _passes(texts: Iterator[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= PASS_CHARACTERS:
            yield some
            some, size = [], 0
    if some:
        yield some


def _put_aside(folder: Path, number: int, waiting: list[np.ndarray]) -> Path:
    """A file of these hashes sorted, each once."""
    hashes = _sorted(waiting)
    if shutil.disk_usage(folder).free < RESERVE_BYTES + 3 * hashes.nbytes:
        raise UserError(
            f"{folder.parent}: too little is free for an index of the training rows; "
            f"{RESERVE_BYTES >> 30} GiB are left for checkpoints"
        )
    path = folder / f"{number}.u64"
    hashes.tofile(path)
    return path


def _sorted(pieces: list[np.ndarray]) -> np.ndarray:
    """All of them in order, each once. (numpy's unique() takes a table, and ten times as long.)"""
    hashes = np.concatenate([np.zeros(0, HASHES), *pieces]).astype(HASHES, copy=False)
    hashes.sort()
    fresh = np.ones(len(hashes), bool)
    fresh[1:] = hashes[1:] != hashes[:-1]
    return hashes[fresh]


def _mapped(path: Path) -> np.ndarray:
    if not path.stat().st_size:
        return np.zeros(0, HASHES)  # nothing cannot be mapped
    return np.asarray(np.memmap(path, HASHES, "r"))


def _merge(parts: list[np.ndarray], path: Path) -> None:
    """All parts in one file of numpy's, sorted, each once."""
    step = (1 << 64) // RANGES
    edges = np.array([step * n for n in range(1, RANGES)], np.uint64)
    cuts = [[0, *np.searchsorted(part, edges).tolist(), len(part)] for part in parts]
    count = 0
    with path.open("wb") as file:
        _header(file, 0)
        for n in range(RANGES):
            pieces = [part[cut[n] : cut[n + 1]] for part, cut in zip(parts, cuts, strict=True)]
            merged = pieces[0] if len(pieces) == 1 else _sorted(pieces)
            file.write(merged.tobytes())
            count += len(merged)
        file.seek(0)
        _header(file, count)  # as long as the first: numpy leaves room for any count
    sync(path)


def _header(file: Any, count: int) -> None:
    described = {"descr": HASHES.str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, described)


def _trim(kept: Path) -> None:
    """Remove what was not used for longest. (Who has it mapped keeps it: Linux frees it later.)"""
    with contextlib.suppress(OSError):
        files = sorted(kept.parent.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        total = sum(file.stat().st_size for file in files)
        for file in files:
            if total <= MOST_BYTES:
                break
            if file != kept:
                total -= file.stat().st_size
                file.unlink(missing_ok=True)


def _work(arguments: list[str], answers: Answers) -> dict[str, Any]:
    home, dataset = arguments
    return build(Home(Path(home)), Path(dataset), answers)


if __name__ == "__main__":
    sys.exit(serve_errand(_work))
