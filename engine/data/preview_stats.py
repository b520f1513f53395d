"""What the model will see of a whole split: lengths in tokens, what is cut, what is trained."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.data.dataset import Dataset
from engine.data.packing import pack
from engine.data.progress import Cancelled
from engine.data.tokens import Formatter
from engine.errors import UserError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["preview_stats"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BATCH_ROWS = 1000
_BINS = 32


def preview_stats(
    dataset: Dataset,
    formatter: Formatter,
    split: str = "train",
    *,
    completion_only: bool = True,
    sample: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Token lengths of a split, some 5,000 rows a second and core: JSON-able.

    ``sample``: look at the first so many rows only, which makes every figure an estimate; 0: at
    all. ``progress(done, rows)`` is called after every 1,000 rows. Raises :class:`Cancelled` when
    ``cancelled()`` turns true.

    Keys: split, shape, rows (looked at), rows_in_split, estimate, max_length; quantiles (5% to
    99%, max), mean, histogram (32 bins: upper edges and counts; the last bin goes up to the
    longest row), all of tokens before cutting; truncated and truncated_share, answers_cut and
    answers_cut_share (rows with an answer token cut), answers_lost (rows whose answer is cut off
    entirely), untrained (rows with no trained token left), eos_untrained (rows whose last token is
    no trained end of text or turn), double_bos (rows), unknown_tokens, unknown_rows, tokens and
    trained_tokens (after cutting), fits_95 and fits_99 (the least max_length, a power of two or
    multiple of 64, that cuts under 5 %, under 1 % of the rows), packing (sequences, rows, tokens,
    filled: share of their room), sentence.
    """
    import numpy as np

    whole = dataset.split(split)
    table = whole.slice(0, min(sample, len(whole))) if sample else whole
    if not len(table):
        raise UserError(f"{dataset.name}: the {split} split has no rows")
    lengths = np.zeros(len(table), dtype=np.int64)
    ends = np.zeros(len(table), dtype=np.int64)  # of the last answer token
    counts = dict.fromkeys(
        ("answers_cut", "answers_lost", "untrained", "eos_untrained", "double_bos",
         "unknown_tokens", "unknown_rows", "tokens", "trained_tokens"), 0
    )  # fmt: skip
    kept: list[int] = []
    done = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for example in formatter.examples(batch, shape=dataset.shape, offsets=False):
            trained = example.trained(completion_only)
            number = sum(trained)
            unknown = formatter.unknown_tokens(example)
            left = sum(example.completion_mask)
            lengths[done] = example.length
            ends[done] = example.answer_end
            counts["answers_cut"] += left < example.answer_length
            counts["answers_lost"] += not left
            counts["untrained"] += not number
            counts["eos_untrained"] += not (formatter.ends(example) and trained[-1])
            counts["double_bos"] += formatter.begins_twice(example)
            counts["unknown_tokens"] += unknown
            counts["unknown_rows"] += unknown > 0
            counts["tokens"] += len(example.input_ids)
            counts["trained_tokens"] += number
            if number:
                kept.append(len(example.input_ids))
            done += 1
        if cancelled and cancelled():
            raise Cancelled
        if progress:
            progress(done, len(table))
    most = formatter.max_length
    places = np.quantile(lengths, _QUANTILES, method="higher")
    # A few very long rows would press all others into two bins: they share the last one.
    longest = int(lengths.max())
    top = max(_BINS, min(longest, int(1.5 * places[-1])))
    bins, edges = np.histogram(np.minimum(lengths, top), bins=_BINS, range=(0, top))
    edges[-1] = max(top, longest)
    quantiles = {f"{q:.0%}": int(value) for q, value in zip(_QUANTILES, places, strict=True)}
    truncated = int((lengths > most).sum())
    return {
        "split": split,
        "shape": dataset.shape,
        "rows": done,
        "rows_in_split": len(whole),
        "estimate": done < len(whole),
        "max_length": most,
        "quantiles": quantiles | {"max": longest},
        "mean": float(lengths.mean()),
        "histogram": {"edges": edges[1:].tolist(), "counts": bins.tolist()},
        "truncated": truncated,
        "truncated_share": truncated / done,
        "answers_cut_share": counts["answers_cut"] / done,
        **counts,
        "fits_95": _fitting(lengths, 0.05),
        "fits_99": _fitting(lengths, 0.01),
        "packing": _packing(kept, most),
        "sentence": _sentence(ends, most, _answers(dataset.shape, formatter.instruction)),
    }


def _packing(lengths: list[int], most: int) -> dict[str, Any]:
    sequences, tokens = len(pack(lengths, most)), sum(lengths)
    return {
        "sequences": sequences,
        "rows": len(lengths),
        "tokens": tokens,
        "filled": tokens / (sequences * most) if sequences else 0.0,
    }


def _fitting(lengths: "np.ndarray", share: float) -> int:
    """The least power of two or multiple of 64 that less than this share of rows is longer than."""
    import numpy as np

    rising = np.sort(lengths)
    # As many of the longest rows as may be cut are cut; what is left must fit.
    may_be_cut = max(0, int(np.ceil(share * len(rising))) - 1)
    least = int(rising[len(rising) - 1 - may_be_cut])
    power = 8
    while power < least:
        power *= 2
    return min(power, -(-least // 64) * 64)


def _answers(shape: str, instruction: str) -> str:
    """What people would call the completions."""
    if shape == "text":
        return "texts"
    return "descriptions" if shape == "pair" and "description" in instruction else "answers"


def _sentence(ends: "np.ndarray", most: int, answers: str) -> str:
    """Where answers end decides: a prompt that is cut has no answer at all."""
    cut = float((ends > most).mean())
    words = f"at max_length {most}, {_percent(cut)} of {answers} are cut"
    if cut:
        words += f"; {2 * most} would cut {_percent(float((ends > 2 * most).mean()))}"
    return words


def _percent(share: float) -> str:
    """Whole per cent; never 0 % or 100 % for what is not none or all."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"
