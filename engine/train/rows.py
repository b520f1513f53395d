"""Turns the rows of a split into what the trainer eats: token ids, and which are trained."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.tokens import Formatter

__all__ = ["IGNORED", "Encoded", "encode"]

IGNORED = -100
"""Label of a token that is not trained on."""

BATCH_ROWS = 1024
PROGRESS_SECONDS = 1.0


@dataclass
class Encoded:
    """One split, tokenised."""

    dataset: Any
    """A ``datasets.Dataset`` with ``input_ids`` and ``labels`` (int32 lists)."""
    rows: int
    tokens: int
    left_out: int
    """Rows without a single trained token: the prompt alone fills ``max_length``."""


def encode(
    table: pa.Table,
    formatter: Formatter,
    *,
    completion_only_loss: bool,
    longest_first: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Encoded:
    """Tokenise ``prompt`` and ``completion`` of every row, in order.

    ``longest_first`` sorts by length, which saves padding where the order does not matter.
    ``progress(done, rows)`` is called at most once a second; when ``cancelled()`` turns true, what
    is there so far is returned.
    """
    from datasets import Dataset
    from datasets.table import InMemoryTable

    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    left_out, done, told = 0, 0, time.monotonic()
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        for example in formatter.examples(batch):
            row = np.asarray(example.input_ids, dtype=np.int32)
            mask = np.asarray(example.completion_mask, dtype=bool)
            trained = mask if completion_only_loss else np.ones(len(row), dtype=bool)
            # The first token has no predecessor to be predicted from.
            if not trained[1:].any():
                left_out += 1
                continue
            ids.append(row)
            labels.append(np.where(trained, row, np.int32(IGNORED)))
        done += batch.num_rows
        if cancelled and cancelled():
            break
        if progress and time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            progress(done, table.num_rows)
    if longest_first:
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        ids, labels = [ids[index] for index in order], [labels[index] for index in order]
    columns = pa.table({"input_ids": _lists(ids), "labels": _lists(labels)})
    return Encoded(
        dataset=Dataset(InMemoryTable(columns)),
        rows=len(ids),
        tokens=sum(len(row) for row in ids),
        left_out=left_out,
    )


def _lists(rows: list[np.ndarray]) -> pa.Array:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    values = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
