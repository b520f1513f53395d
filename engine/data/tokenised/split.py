"""A split's token ids: those that are kept, or made now, on all cores, and kept."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from engine.data.dataset import Dataset
from engine.data.processes import cores, in_order
from engine.data.progress import Cancelled
from engine.data.tokenised.key import check_current, rows_key
from engine.data.tokenised.store import Entry, Part, store
from engine.data.tokenised.work import COUNTS, SCHEMA, Piece, Span, Tokenising
from engine.data.tokens import Formatter
from engine.home import Home

__all__ = [
    "Tokenised",
    "find_tokenised",
    "list_lengths",
    "shards_of",
    "tokenise",
    "tokenise_table",
]

MOST_WORKERS = 32
"""One process receives and writes what the others make, in 2 % of their time."""
SMALL_TOKENS = 800_000
"""A worker's least share: with less, starting it takes longer than it saves."""
_SHARD_ROWS, _SHARD_TOKENS = 8000, 1 << 23
_PIECE_ROWS, _PIECE_TOKENS = 1000, 1 << 19


@dataclass
class Tokenised:
    """The rows of one split as token ids, in order, those without a trained token left out."""

    table: pa.Table
    """``input_ids`` and ``labels`` (int32 lists), ``row`` (its number in the split); mapped from
    the store."""
    rows: int
    """Rows looked at, those left out among them."""
    counts: Counter[str]
    """:data:`COUNTS` of the rows looked at."""
    key: str = ""
    """Names what was tokenised, and how; "" where that is not known."""
    parts: list[Part] = field(default_factory=list)
    """What the table was put together from."""
    not_kept: str = ""
    """Why a part of it is not in the store; it will be made again."""
    entry: Entry | None = None
    """Holds what is mapped in the store."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row of the table: read from the offsets alone."""
        return list_lengths(self.table.column("input_ids"))

    @property
    def lengths_in_split(self) -> np.ndarray:
        """Tokens of each row looked at; 0 for one that is left out."""
        lengths = np.zeros(self.rows, dtype=np.int32)
        lengths[self.table.column("row").to_numpy()] = self.lengths
        return lengths

    def close(self) -> None:
        """Let the store remove it when it has to."""
        if self.entry is not None:
            self.entry.close()


def list_lengths(column: pa.ChunkedArray) -> np.ndarray:
    """Values of each list (int32), without a look at the values."""
    found = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    return np.concatenate([np.zeros(0, np.int32), *found]).astype(np.int32)


def find_tokenised(
    home: Home,
    dataset: Dataset,
    split: str,
    formatter: Formatter,
    *,
    rows: int,
    completion_only_loss: bool,
) -> Tokenised | None:
    """The first ``rows`` rows of a split if they are kept whole; nothing is made or written."""
    key = rows_key(dataset, split, rows, formatter, completion_only_loss)
    if key is None or not (store(home) / key).is_dir():
        return None
    try:
        entry = Entry(store(home), key)
    except OSError:
        return None
    parts = _sound(entry, shards_of(rows, formatter.max_length))
    if len(parts) < len(shards_of(rows, formatter.max_length)):
        entry.close()
        return None
    return _joined(parts, rows, key, entry, "")


def tokenise(
    home: Home,
    dataset: Dataset,
    split: str,
    formatter: Formatter,
    *,
    rows: int,
    completion_only_loss: bool,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Tokenised:
    """The first ``rows`` rows of a split, mapped: made where they are not kept, and kept.

    ``progress(done, rows)`` is called after every piece of at most 1,000 rows. One process makes
    them, others wait for it. What is whole when it is killed or cancelled is not made again. A
    store that cannot be written to costs only the next start: the rows are in memory then, and
    ``not_kept`` says why. Raises :class:`Cancelled`, and :class:`engine.errors.UserError` for a row
    that the format has no place for.
    """

    def look_up() -> None:
        if cancelled and cancelled():
            raise Cancelled("cancelled; what was tokenised is kept")

    look_up()
    key = rows_key(dataset, split, rows, formatter, completion_only_loss)
    entry, not_kept = None, ""
    try:
        entry = Entry(store(home), key) if key else None
    except OSError as error:
        not_kept = error.strerror or str(error)
    shards = shards_of(rows, formatter.max_length)
    parts = _sound(entry, shards) if entry else {}
    if len(parts) < len(shards):
        table = dataset.split(split)
        task = Tokenising(
            *(table, formatter),
            shape=dataset.shape,
            completion_only_loss=completion_only_loss,
            file=dataset.file(split),
        )
        check_current(dataset)
        maker = _Maker(entry, task, table, shards, formatter.max_length, progress, look_up)
        try:
            maker.make(parts)
        except BaseException:
            if entry:
                entry.close()
            raise
        not_kept = not_kept or maker.not_kept
    return _joined(parts, rows, key or "", entry, not_kept)


def tokenise_table(
    table: pa.Table, formatter: Formatter, *, shape: str, completion_only_loss: bool
) -> Tokenised:
    """Some rows, by this process and in memory; nothing is kept."""
    task = Tokenising(table, formatter, shape=shape, completion_only_loss=completion_only_loss)
    shards = shards_of(table.num_rows, formatter.max_length)
    parts: dict[int, Part] = {}
    _Maker(None, task, table, shards, formatter.max_length, None, lambda: None).make(parts)
    return _joined(parts, table.num_rows, "", None, "")


def shards_of(rows: int, max_length: int) -> list[Span]:
    """Which rows of a split are in which file: at most 8,000 rows, and 64 MB."""
    size = max(1, min(_SHARD_ROWS, _SHARD_TOKENS // max_length))
    starts = range(0, rows, size)
    return [Span(n, start, min(start + size, rows)) for n, start in enumerate(starts)]


class _Maker:
    """Makes the shards that are missing."""

    def __init__(
        self,
        entry: Entry | None,
        task: Tokenising,
        table: pa.Table,
        shards: list[Span],
        max_length: int,
        progress: Callable[[int, int], None] | None,
        look_up: Callable[[], None],
    ) -> None:
        self._entry = entry
        self._task = task
        self._table = table
        self._shards = shards
        self._max_length = max_length
        self._progress = progress
        self._look_up = look_up
        self.not_kept = ""

    def make(self, parts: dict[int, Part]) -> None:
        """Add to ``parts`` what it lacks."""
        if self._entry is None:
            self._make(parts)
            return
        with self._entry.making(self._wait):
            parts |= _sound(self._entry, self._shards)  # another one may have made them meanwhile
            self._make(parts)
        self._entry.trim()

    def _wait(self) -> None:
        assert self._entry is not None
        self._look_up()
        if self._progress and (whole := self._entry.whole()):
            shard = self._shards[min(whole, len(self._shards)) - 1]
            self._progress(shard.stop, self._shards[-1].stop)

    def _make(self, parts: dict[int, Part]) -> None:
        missing = [shard for shard in self._shards if shard.shard not in parts]
        rows = self._shards[-1].stop if self._shards else 0
        done = rows - sum(shard.stop - shard.start for shard in missing)
        pieces: list[Piece] = []
        made = in_order(self._task, self._spans(missing), self._workers(missing), [], self._look_up)
        with closing(made):
            for span, piece in made:
                pieces.append(piece)
                shard = self._shards[span.shard]
                if span.stop == shard.stop:
                    parts[shard.shard] = self._part(shard, pieces)
                    pieces = []
                done += span.stop - span.start
                self._look_up()
                if self._progress:
                    self._progress(done, rows)

    def _spans(self, shards: list[Span]) -> Iterator[Span]:
        size = max(1, min(_PIECE_ROWS, _PIECE_TOKENS // self._max_length))
        for shard in shards:
            for start in range(shard.start, shard.stop, size):
                yield Span(shard.shard, start, min(start + size, shard.stop))

    def _workers(self, shards: list[Span]) -> int:
        """Processes besides this one; 0 where starting them takes longer than it saves."""
        rows = sum(shard.stop - shard.start for shard in shards)
        text = self._table.nbytes * rows / max(1, self._table.num_rows)
        tokens = min(text / 4, rows * self._max_length)
        count = min(cores(), MOST_WORKERS, int(tokens // SMALL_TOKENS))
        return count if count > 1 and self._task.can_move else 0

    def _part(self, shard: Span, pieces: list[Piece]) -> Part:
        self._task.check()
        table = pa.Table.from_batches([piece.rows for piece in pieces], SCHEMA).combine_chunks()
        facts: dict[str, object] = {"rows": [shard.start, shard.stop]}
        for name in COUNTS:
            facts[name] = sum(piece.counts[name] for piece in pieces)
        if self._entry is not None:
            try:
                return self._entry.write(shard.shard, table, facts)
            except OSError as error:
                self.not_kept = error.strerror or str(error)
        return table, facts, None


def _sound(entry: Entry, shards: list[Span]) -> dict[int, Part]:
    """The kept parts that are what they should be."""
    spans = {shard.shard: [shard.start, shard.stop] for shard in shards}
    return {
        number: part
        for number, part in entry.read(SCHEMA).items()
        if part[1].get("rows") == spans.get(number) and all(name in part[1] for name in COUNTS)
    }


def _joined(
    parts: dict[int, Part], rows: int, key: str, entry: Entry | None, not_kept: str
) -> Tokenised:
    nothing: Part = (SCHEMA.empty_table(), dict.fromkeys(COUNTS, 0), None)
    ordered = [parts[number] for number in sorted(parts)] or [nothing]
    table = pa.concat_tables([part[0] for part in ordered])
    counts: Counter[str] = Counter()
    for _, facts, _ in ordered:
        counts.update({name: facts[name] for name in COUNTS})
    return Tokenised(table, rows, counts, key, ordered, not_kept, entry)
