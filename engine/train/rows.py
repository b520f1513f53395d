"""Turns the rows of a split into what the trainer eats: token ids, and which are trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.data.dataset import Dataset
from engine.data.tokenised import (
    IGNORED,
    Packed,
    Part,
    Tokenised,
    list_lengths,
    pack_rows,
    tokenise,
    tokenise_table,
)
from engine.data.tokens import Formatter
from engine.home import Home

__all__ = ["IGNORED", "TOKENS", "Encoded", "as_dataset", "encode", "encode_split", "row_lengths"]

TOKENS = "row_tokens"
"""In a batch without padding, or packed: its tokens without padding; the model is not given it."""


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
    made: Tokenised
    """The rows in their own order, as they are kept."""
    packed: Packed | None = None

    @property
    def sequences(self) -> int:
        """What batches are made of: rows, or the sequences that they are packed in."""
        return len(self.dataset)

    @property
    def not_kept(self) -> str:
        """Why the next start has to tokenise or pack again; "" where it has not."""
        return self.packed.not_kept if self.packed else self.made.not_kept


def encode_split(
    home: Home,
    dataset: Dataset,
    split: str,
    formatter: Formatter,
    *,
    completion_only_loss: bool,
    rows: int = 0,
    longest_first: bool = False,
    packing: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Encoded:
    """The first ``rows`` rows (0: all) of a split, in order, mapped from the home's cache.

    They are tokenised only when they never were: see :func:`engine.data.tokenised.tokenise`, also
    for ``progress``, ``cancelled`` and what is raised. ``longest_first`` sorts by length, which
    saves padding where the order does not matter: an order over the same files. ``packing`` puts
    rows together in sequences of at most the formatter's ``max_length``: files of their own.
    """
    there = dataset.split(split).num_rows
    made = tokenise(
        *(home, dataset, split, formatter),
        rows=min(rows or there, there),
        completion_only_loss=completion_only_loss,
        progress=progress,
        cancelled=cancelled,
    )
    return as_dataset(
        made,
        formatter.max_length,
        longest_first=longest_first,
        packing=packing,
        cancelled=cancelled,
    )


def encode(
    table: pa.Table,
    formatter: Formatter,
    *,
    completion_only_loss: bool,
    shape: str = "",
    longest_first: bool = False,
    packing: bool = False,
) -> Encoded:
    """As :func:`encode_split`, of a few rows of a dataset of this ``shape``: in memory."""
    made = tokenise_table(table, formatter, shape=shape, completion_only_loss=completion_only_loss)
    return as_dataset(made, formatter.max_length, longest_first=longest_first, packing=packing)


def row_lengths(dataset: Any) -> np.ndarray:
    """Tokens of each row of a ``datasets.Dataset``, from the offsets: no row is read."""
    lengths = list_lengths(dataset.data.column("input_ids"))
    indices = dataset._indices
    return lengths if indices is None else lengths[indices.column(0).to_numpy()]


def as_dataset(
    made: Tokenised,
    max_length: int,
    *,
    longest_first: bool,
    packing: bool,
    cancelled: Callable[[], bool] | None = None,
) -> Encoded:
    """What was tokenised, as the trainer takes it; the parameters as :func:`encode_split` says.

    Imports ``datasets``.
    """
    packed = None
    if packing:
        packed = pack_rows(made, max_length, cancelled)
        dataset = _dataset(packed.parts, ("input_ids", "labels", "seq_lengths"), packed.key)
    else:
        dataset = _dataset(made.parts, ("input_ids", "labels"), made.key)
    if longest_first and not packing:  # which goes by length by itself
        dataset = dataset.select(np.argsort(-made.lengths, kind="stable"))
    counts = made.counts
    rows = made.table.num_rows
    return Encoded(dataset, rows, counts["tokens"], counts["left_out"], made, packed)


def _dataset(parts: Sequence[Part], columns: Sequence[str], key: str) -> Any:
    """What is in files stays there, also for a process that is given the dataset."""
    from datasets import Dataset
    from datasets.table import InMemoryTable, MemoryMappedTable, concat_tables

    keep: list[Any] = [("replace_schema_metadata", (None,), {}), ("select", (list(columns),), {})]
    tables = [
        InMemoryTable(table.select(columns))
        if file is None
        else MemoryMappedTable.from_file(str(file), replays=keep)
        for table, _, file in parts
    ]
    return Dataset(concat_tables(tables), fingerprint=key or None)
