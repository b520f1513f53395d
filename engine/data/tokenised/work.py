"""Turns rows of a split into token ids and labels, a piece at a time: what every process does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.data.processes import Work
from engine.data.tokenised.key import check_unchanged, replaced
from engine.data.tokens import Formatter, FormatterSource

__all__ = ["COUNTS", "IGNORED", "SCHEMA", "Piece", "Span", "Tokenising", "lists", "open_split"]

IGNORED = -100
"""Label of a token that is not trained on."""
COUNTS = (
    "left_out",
    "answers_cut",
    "eos_untrained",
    "double_bos",
    "tokens",
    "trained_tokens",
)
_IDS = pa.large_list(pa.int32())
SCHEMA = pa.schema([("input_ids", _IDS), ("labels", _IDS), ("row", pa.int32())])
"""``row`` is the row's number in the split: rows without a trained token are left out."""


class Span(NamedTuple):
    """Rows of a split, from ``start`` to before ``stop``, of one shard."""

    shard: int
    start: int
    stop: int


class Piece(NamedTuple):
    """A span, tokenised."""

    rows: pa.RecordBatch
    """Of :data:`SCHEMA`."""
    counts: Counter[str]
    """:data:`COUNTS` over the span's rows: rows without a trained token, rows with an answer token
    cut, rows whose last token is no trained end of text or turn, rows that begin with two
    beginning-of-text tokens, tokens kept, tokens trained on."""


class Tokenising:
    """A task for :func:`engine.data.processes.in_order`: spans of a split become pieces.

    Another process opens the split's ``file`` and loads the formatter anew.
    """

    doing = "tokenising"
    left = "what is done is kept, the next start goes on from there"

    def __init__(
        self,
        table: pa.Table,
        formatter: Formatter,
        *,
        shape: str,
        completion_only_loss: bool,
        file: Path | None = None,
    ) -> None:
        self._table = table
        self._formatter = formatter
        self._shape = shape
        self._completion_only = completion_only_loss
        self._file = file
        self._state = _state(file) if file else None

    def __reduce__(self) -> tuple[Any, ...]:
        assert self.can_move
        source = self._formatter.source
        return _Elsewhere, (self._file, self._state, source, self._shape, self._completion_only)

    @property
    def can_move(self) -> bool:
        """Whether another process can do it: a formatter may be made of no files."""
        return self._file is not None and self._formatter.source is not None

    def check(self) -> None:
        """Raise :class:`UserError` when the tokenizer is no longer what was loaded."""
        if self._formatter.source is not None:
            check_unchanged(self._formatter.source)

    def start(self) -> Work:
        return self._piece

    def _piece(self, span: Span, at_row: Callable[[], None] | None) -> Piece:
        """Raises :class:`engine.errors.UserError` for a row that the format has no place for."""
        ids: list[int] = []
        trained: list[bool] = []
        lengths: list[int] = []
        numbers: list[int] = []
        unsure: list[int] = []
        counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        formatter = self._formatter
        rows = self._table.slice(span.start, span.stop - span.start)
        examples = formatter.examples(rows, shape=self._shape, whole=False)
        for number, example in enumerate(examples, span.start):
            mask = example.trained(self._completion_only)
            count = sum(mask)
            answer = sum(example.completion_mask)
            if answer < example.answer_length:
                counts["answers_cut"] += 1
            elif example.truncated_at is not None:
                unsure.append(number - span.start)
            counts["eos_untrained"] += not (formatter.ends(example) and mask[-1])
            counts["double_bos"] += formatter.begins_twice(example)
            if not count:
                counts["left_out"] += 1
                continue
            counts["trained_tokens"] += count
            ids += example.input_ids
            trained += mask
            lengths.append(len(mask))
            numbers.append(number)
        counts["tokens"] = len(ids)
        # Of those rows only what fits was tokenised: whether an answer follows was not seen.
        again = formatter.examples(
            rows.take(pa.array(unsure, pa.int64())), shape=self._shape, offsets=False
        )
        counts["answers_cut"] += sum(sum(e.completion_mask) < e.answer_length for e in again)
        input_ids = np.asarray(ids, dtype=np.int32)
        labels = np.where(np.asarray(trained, dtype=bool), input_ids, np.int32(IGNORED))
        columns = [lists(input_ids, lengths), lists(labels, lengths), pa.array(numbers, pa.int32())]
        return Piece(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), counts)


def lists(values: "np.ndarray", lengths: "list[int] | np.ndarray") -> pa.LargeListArray:
    """Consecutive lists of these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values, pa.int32()))


def _state(file: Path) -> tuple[int, ...]:
    info = file.stat()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def open_split(file: Path) -> pa.Table:
    """The rows of an Arrow file, mapped."""
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_stream(source).read_all()


@dataclass(frozen=True)
class _Elsewhere:
    """A :class:`Tokenising` in another process."""

    file: Path
    state: tuple[int, ...]
    source: FormatterSource
    shape: str
    completion_only_loss: bool

    def start(self) -> Work:
        formatter = self.source.load()
        check_unchanged(self.source)
        table = open_split(self.file)
        if _state(self.file) != self.state:  # looked at after it is open: the folder may change
            raise replaced(self.file.parent)
        return Tokenising(
            table,
            formatter,
            shape=self.shape,
            completion_only_loss=self.completion_only_loss,
        ).start()
