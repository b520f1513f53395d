"""Rows put together in sequences of ``max_length``: made once of the tokenised rows, and mapped.

Packing 150,000 rows takes a second or two and no more than that, but the sequences are a copy of
all tokens: kept as files they take no memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine.data.packing import pack
from engine.data.progress import Cancelled
from engine.data.tokenised.key import derived_key
from engine.data.tokenised.split import Tokenised, shards_of
from engine.data.tokenised.store import Entry, Part
from engine.data.tokenised.work import Span, lists

__all__ = ["PACKED_SCHEMA", "Packed", "pack_rows"]

_VERSION = 1
"""Raise it when the same rows are packed in another way, or into another file."""
_IDS = pa.large_list(pa.int32())
PACKED_SCHEMA = pa.schema([("input_ids", _IDS), ("labels", _IDS), ("seq_lengths", _IDS)])
"""``seq_lengths``: the tokens of each row that shares the sequence."""


@dataclass
class Packed:
    """Sequences of at most ``max_length`` tokens."""

    parts: list[Part]
    key: str
    not_kept: str
    entry: Entry | None


def pack_rows(
    tokenised: Tokenised, max_length: int, cancelled: Callable[[], bool] | None = None
) -> Packed:
    """The rows packed, mapped where the rows themselves are kept. Raises :class:`Cancelled`."""

    def look_up() -> None:
        if cancelled and cancelled():
            raise Cancelled("cancelled")

    key = derived_key(tokenised.key, packed=_VERSION, max_length=max_length)
    entry, not_kept = None, tokenised.not_kept
    try:
        entry = tokenised.entry and tokenised.entry.beside(key)
    except OSError as error:
        not_kept = error.strerror or str(error)
    if entry is None:
        return Packed(_pack(tokenised, max_length, {}, None, look_up)[0], "", not_kept, None)
    try:
        parts = _whole(entry.read(PACKED_SCHEMA))
        if parts is None:
            with entry.making(look_up):
                parts, why = _pack(tokenised, max_length, entry.read(PACKED_SCHEMA), entry, look_up)
                not_kept = not_kept or why
            entry.trim()
    except BaseException:
        entry.close()
        raise
    return Packed(parts, key, not_kept, entry)


def _whole(parts: dict[int, Part]) -> list[Part] | None:
    """All parts, in order, if none is missing."""
    told = [parts[number][1].get("sequences", [0, 0, -1]) for number in sorted(parts)]
    ends = [0, *(stop for _, stop, _ in told)]
    fits = [start for start, _, _ in told] == ends[:-1]
    if not told or not fits or any(total != ends[-1] for _, _, total in told):
        return None
    return [parts[number] for number in sorted(parts)]


def _pack(
    tokenised: Tokenised,
    max_length: int,
    there: dict[int, Part],
    entry: Entry | None,
    look_up: Callable[[], None],
) -> tuple[list[Part], str]:
    """All parts, those that are there among them, and why one was not kept."""
    look_up()
    lengths = tokenised.lengths
    sequences = pack(lengths.tolist(), max_length)
    rows = _Rows(tokenised.table)
    parts: list[Part] = []
    not_kept = ""
    for span in shards_of(len(sequences), max_length) or [Span(0, 0, 0)]:
        look_up()
        facts = {"sequences": [span.start, span.stop, len(sequences)]}
        if span.shard in there and there[span.shard][1] == facts:
            parts.append(there[span.shard])
            continue
        table = rows.packed(sequences[span.start : span.stop], lengths)
        part: Part = (table, facts, None)
        if entry is not None:
            try:
                part = entry.write(span.shard, table, facts)
            except OSError as error:
                not_kept = error.strerror or str(error)
        parts.append(part)
    return parts, not_kept


class _Rows:
    """Tokens and labels of any row, as views of the table."""

    def __init__(self, table: pa.Table) -> None:
        batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self._columns = {
            name: [
                (batch.column(name).offsets.to_numpy(), batch.column(name).values.to_numpy())
                for batch in batches
            ]
            for name in ("input_ids", "labels")
        }

    def packed(self, sequences: list[list[int]], lengths: np.ndarray) -> pa.Table:
        """Of :data:`PACKED_SCHEMA`."""
        order = np.asarray([row for rows in sequences for row in rows], dtype=np.int64)
        counts = [len(rows) for rows in sequences]
        totals = [int(lengths[rows].sum()) for rows in sequences]
        columns = [lists(self._gathered(name, order), totals) for name in self._columns]
        return pa.table([*columns, lists(lengths[order], counts)], schema=PACKED_SCHEMA)

    def _gathered(self, name: str, order: np.ndarray) -> np.ndarray:
        batches = np.searchsorted(self._starts, order, side="right") - 1
        places = order - self._starts[batches]
        found = [np.zeros(0, np.int32)]
        for batch, row in zip(batches.tolist(), places.tolist(), strict=True):
            offsets, values = self._columns[name][batch]
            found.append(values[offsets[row] : offsets[row + 1]])
        return np.concatenate(found)
