"""What the model will see of one row: its text, tokens and loss mask; packed, its neighbours too.

The figures of a whole split are in :mod:`engine.data.preview_stats`.
"""

from collections.abc import Callable
from typing import Any

from engine.data.dataset import Dataset
from engine.data.packing import pack as pack_rows
from engine.data.packing import position_ids
from engine.data.preview_stats import preview_stats
from engine.data.progress import Cancelled
from engine.data.tokens import Example, Formatter
from engine.errors import UserError

__all__ = ["pieces", "preview_pack", "preview_row", "preview_stats", "row_of_line"]

_BATCH_ROWS = 1000


def pieces(example: Example, formatter: Formatter) -> list[str]:
    """The text of each token. Joined they give the text (as far as it was not cut off).

    A character that several tokens share is shown with the first of them. A beginning-of-text that
    is only added shows as its own spelling.
    """
    found, done = [], 0
    for number, (start, end) in zip(example.input_ids, example.offsets, strict=True):
        if start == end == 0 and number == formatter.bos_id:
            found.append(formatter.token(number))
            continue
        # Some tokenizers leave white space out of the offsets: it goes with the token behind it.
        end = max(end, done)
        found.append(example.text[done:end])
        done = end
    return found


def preview_row(
    dataset: Dataset, formatter: Formatter, split: str, row: int, *, completion_only: bool = True
) -> dict[str, Any]:
    """One row of a split as the trainer gets it: JSON-able.

    Keys: split, row, line, shape, text, tokens (id, text, trained: whether the loss counts it),
    trained (how many), length (tokens before cutting), truncated_at (tokens kept, or None),
    answer_cut (tokens of the answer that are cut), eos_trained, bos_count, double_bos (the row
    begins with two), unknown_tokens. Raises :class:`UserError` when there is no such row.
    """
    there = dataset.count(split)
    if not 0 <= row < there:
        raise UserError(
            f"--row {row}: the {split} split of {dataset.name} has "
            + (f"rows 0 to {there - 1:,}" if there else "no rows")
        )
    table = dataset.split(split).slice(row, 1)
    example = next(formatter.examples(table, shape=dataset.shape))
    trained = example.trained(completion_only)
    return {
        "split": split,
        "row": row,
        "line": table.column("line")[0].as_py(),
        "shape": dataset.shape,
        "text": example.text,
        "tokens": _tokens(example, formatter, trained),
        "trained": sum(trained),
        "length": example.length,
        "truncated_at": example.truncated_at,
        "answer_cut": example.answer_length - sum(example.completion_mask),
        "eos_trained": formatter.ends(example) and trained[-1],
        "bos_count": sum(number == formatter.bos_id for number in example.input_ids),
        "double_bos": formatter.begins_twice(example),
        "unknown_tokens": formatter.unknown_tokens(example),
    }


def row_of_line(dataset: Dataset, split: str, line: int) -> int:
    """The row of a split that came from this line of the source.

    Raises :class:`UserError` when none did, naming the split that has it if another one does.
    """
    import pyarrow.compute as compute

    for name in (split, "train", "validation", "test"):
        if line >= 1 << 63:  # more than a column of lines can be asked for
            break
        found = compute.index(dataset.split(name).column("line"), line).as_py()
        if found >= 0:
            if name == split:
                return int(found)
            raise UserError(
                f"--line {line}: went to the {name} split of {dataset.name}; add --split {name}"
            )
    raise UserError(f"--line {line}: no row of {dataset.name} came from it, or it was dropped")


def preview_pack(
    dataset: Dataset,
    formatter: Formatter,
    split: str,
    pack: int,
    *,
    completion_only: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """One packed sequence of the train split as the trainer gets it: JSON-able.

    Keys: split, pack, packs (how many sequences there are), max_length, length, rows (of each row
    that shares the sequence: row, line, text, start (its first token), length), tokens (id, text,
    trained, position: the position id). Every row is tokenised to know which go together:
    ``progress(done, rows)`` tells how far that is. Raises :class:`Cancelled` when ``cancelled()``
    turns true, and :class:`UserError` when there is no such sequence.
    """
    if split != "train":
        raise UserError(f"--split {split}: only the train split is packed, for training")
    table = dataset.split(split)
    kept: list[int] = []
    lengths: list[int] = []
    done = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for example in formatter.examples(batch, shape=dataset.shape, whole=False):
            if any(example.trained(completion_only)):
                kept.append(done)
                lengths.append(len(example.input_ids))
            done += 1
        if cancelled and cancelled():
            raise Cancelled
        if progress:
            progress(done, len(table))
    sequences = pack_rows(lengths, formatter.max_length)
    if not 0 <= pack < len(sequences):
        raise UserError(
            f"--pack {pack}: the {split} split of {dataset.name} makes "
            + (f"sequences 0 to {len(sequences) - 1:,}" if sequences else "no sequences")
        )
    rows: list[dict[str, Any]] = []
    tokens: list[dict[str, Any]] = []
    for number in (kept[place] for place in sequences[pack]):
        one = table.slice(number, 1)
        example = next(formatter.examples(one, shape=dataset.shape))
        rows.append(
            {
                "row": number,
                "line": one.column("line")[0].as_py(),
                "text": example.text,
                "start": len(tokens),
                "length": len(example.input_ids),
            }
        )
        tokens += _tokens(example, formatter, example.trained(completion_only))
    places = position_ids([row["length"] for row in rows])
    for token, place in zip(tokens, places, strict=True):
        token["position"] = place
    return {
        "split": split,
        "pack": pack,
        "packs": len(sequences),
        "max_length": formatter.max_length,
        "length": len(tokens),
        "rows": rows,
        "tokens": tokens,
    }


def _tokens(example: Example, formatter: Formatter, trained: list[bool]) -> list[dict[str, Any]]:
    return [
        {"id": number, "text": text, "trained": is_trained}
        for number, text, is_trained in zip(
            example.input_ids, pieces(example, formatter), trained, strict=True
        )
    ]
