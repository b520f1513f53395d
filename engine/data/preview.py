"""What the model will see: of one row its tokens and loss mask, of a split its lengths."""

from collections.abc import Callable
from typing import Any

from engine.data.dataset import Dataset
from engine.data.tokens import Example, Formatter
from engine.errors import UserError

__all__ = ["pieces", "preview_row", "preview_stats"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


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

    Keys: split, row, line, text, tokens (id, text, trained), length (tokens before cutting),
    truncated_at (tokens kept, or None), eos_trained, bos_count. Raises :class:`UserError` when
    there is no such row.
    """
    there = dataset.count(split)
    if not 0 <= row < there:
        raise UserError(
            f"--row {row}: the {split} split of {dataset.name} has "
            + (f"rows 0 to {there - 1:,}" if there else "no rows")
        )
    values = dataset.page(split, row, 1)[0]
    example = formatter.example(values["prompt"], values["completion"])
    trained = [bool(mask) or not completion_only for mask in example.completion_mask]
    return {
        "split": split,
        "row": row,
        "line": values["line"],
        "text": example.text,
        "tokens": [
            {"id": number, "text": text, "trained": is_trained}
            for number, text, is_trained in zip(
                example.input_ids, pieces(example, formatter), trained, strict=True
            )
        ],
        "length": example.length,
        "truncated_at": example.truncated_at,
        "eos_trained": example.input_ids[-1] in formatter.stop_ids and trained[-1],
        "bos_count": sum(number == formatter.bos_id for number in example.input_ids),
    }


def preview_stats(
    dataset: Dataset,
    formatter: Formatter,
    split: str = "train",
    *,
    completion_only: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Token lengths of a whole split, some 2,000 rows a second: JSON-able.

    Keys: split, rows, max_length, quantiles, mean, truncated and truncated_share, untrained (rows
    with no trained token left), histogram (32 bins: upper edges and counts), sentence.
    """
    import numpy as np

    table = dataset.split(split)
    lengths = np.zeros(len(table), dtype=np.int64)
    untrained = done = 0
    for batch in table.to_batches(max_chunksize=1000):
        for example in formatter.examples(batch):
            lengths[done] = example.length
            untrained += completion_only and not any(example.completion_mask)
            done += 1
        if progress is not None:
            progress(done, len(table))
    if not done:
        raise UserError(f"{dataset.name}: the {split} split has no rows")
    most = formatter.max_length
    share = float((lengths > most).mean())
    counts, edges = np.histogram(lengths, bins=32, range=(0, max(32, int(lengths.max()))))
    places = np.quantile(lengths, _QUANTILES, method="higher")
    quantiles = {f"{q:.0%}": int(value) for q, value in zip(_QUANTILES, places, strict=True)}
    return {
        "split": split,
        "rows": done,
        "max_length": most,
        "quantiles": quantiles | {"max": int(lengths.max())},
        "mean": float(lengths.mean()),
        "truncated": int((lengths > most).sum()),
        "truncated_share": share,
        "untrained": untrained,
        "histogram": {"edges": edges[1:].tolist(), "counts": counts.tolist()},
        "sentence": f"at max_length {most}, {_percent(share)} of the rows are cut; "
        f"{2 * most} would cut {_percent(float((lengths > 2 * most).mean()))}",
    }


def _percent(share: float) -> str:
    """Whole per cent; never 0 % or 100 % for what is not none or all."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"
