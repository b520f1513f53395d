"""Turns the rows of a split into what the trainer eats: token ids, and which are trained."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.packing import pack
from engine.data.tokens import Formatter

__all__ = ["IGNORED", "TOKENS", "Encoded", "encode"]

IGNORED = -100
"""Label of a token that is not trained on."""

TOKENS = "row_tokens"
"""In a batch without padding, or packed: its tokens without padding; the model is not given it."""

BATCH_ROWS = 1024
PROGRESS_SECONDS = 1.0


@dataclass
class Encoded:
    """One split, tokenised."""

    dataset: Any
    """A ``datasets.Dataset`` with ``input_ids`` and ``labels`` (int32 lists); packed also with
    ``seq_lengths``, the tokens of each row that shares the sequence."""
    rows: int
    tokens: int
    left_out: int
    """Rows without a single trained token: the prompt alone fills ``max_length``."""

    @property
    def sequences(self) -> int:
        """What batches are made of: rows, or the sequences that they are packed in."""
        return len(self.dataset)


def encode(
    table: pa.Table,
    formatter: Formatter,
    *,
    completion_only_loss: bool,
    shape: str = "",
    longest_first: bool = False,
    packing: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Encoded:
    """Tokenise every row of a dataset of this ``shape``, in order.

    ``longest_first`` sorts by length, which saves padding where the order does not matter.
    ``packing`` puts rows together in sequences of at most the formatter's ``max_length``.
    ``progress(done, rows)`` is called at most once a second; when ``cancelled()`` turns true, what
    is there so far is returned.
    """
    from datasets import Dataset
    from datasets.table import InMemoryTable

    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    left_out, done, told = 0, 0, time.monotonic()
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        for example in formatter.examples(batch, shape=shape, whole=False):
            trained = example.trained(completion_only_loss)
            if not any(trained):
                left_out += 1
                continue
            row = np.asarray(example.input_ids, dtype=np.int32)
            ids.append(row)
            labels.append(np.where(trained, row, np.int32(IGNORED)))
        done += batch.num_rows
        if cancelled and cancelled():
            break
        if progress and time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            progress(done, table.num_rows)
    rows, tokens = len(ids), sum(map(len, ids))
    if longest_first:
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        ids, labels = [ids[index] for index in order], [labels[index] for index in order]
    columns = {}
    if packing:
        lengths = list(map(len, ids))
        sequences = pack(lengths, formatter.max_length)
        ids = [np.concatenate([ids[row] for row in sequence]) for sequence in sequences]
        labels = [np.concatenate([labels[row] for row in sequence]) for sequence in sequences]
        columns["seq_lengths"] = _lists(
            [np.asarray([lengths[row] for row in sequence], np.int32) for sequence in sequences]
        )
    columns = {"input_ids": _lists(ids), "labels": _lists(labels)} | columns
    return Encoded(Dataset(InMemoryTable(pa.table(columns))), rows, tokens, left_out)


def _lists(rows: list[np.ndarray]) -> pa.Array:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    values = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
