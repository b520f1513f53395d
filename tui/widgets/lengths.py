"""How long the rows of a split are in tokens, and what max_length cuts off them."""

import math
from collections.abc import Mapping, Sequence
from os import environ
from typing import Any

from rich.segment import Segment
from rich.style import Style

from engine.text import clip, safe_line
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, WARM, Line, LinesView, hanging, wrap

__all__ = ["LengthsView", "histogram_strips", "lengths_strips", "plain_ascii"]

KEPT = Style(color="#5fafff")
CUT = Style(color="#ffaf5f")
EIGHTHS = " ▏▎▍▌▋▊▉█"
NARROW_LINES = 16
"""Lines of the histogram in a pane of few lines: its bins are put together two by two."""


def plain_ascii() -> bool:
    """Whether the terminal's fonts are taken to have no blocks; see :mod:`tui.raster`."""
    from tui.raster import charset_for

    return charset_for(environ) == "ascii"


def lengths_strips(
    seen: Mapping[str, Any], seen_by: str, width: int, *, few: bool, ascii_only: bool
) -> list[Line]:
    """The sentence that matters, the histogram, then the figures, in at most ``width`` cells.

    ``seen``: see :func:`engine.data.preview.preview_stats`.
    """
    rows, whole = seen["rows"], seen.get("rows_in_split", seen["rows"])
    told = f"{seen['split']}: " + (
        f"the first {rows:,} of {whole:,} rows, an estimate"
        if rows < whole
        else f"all {rows:,} rows"
    )
    lines = wrap([(safe_line(seen["sentence"]), BOLD)], width)
    lines += wrap([(f"{told}, as {clip(seen_by, 60)} sees them", QUIET)], width)
    if rows < whole:
        lines += wrap([(f"enter counts all {whole:,}", ACCENT)], width)
    lines.append(Line([]))
    lines += histogram_strips(seen, width, few=few, ascii_only=ascii_only)
    lines.append(Line([]))
    places = " · ".join(f"{name} {value:,}" for name, value in seen["quantiles"].items())
    lines += wrap(
        [("quantiles ", QUIET), (f"{places} tokens, mean {seen['mean']:,.0f}", PLAIN)], width
    )
    for words, key, always in FIGURES:
        count = seen.get(key)
        if count is None or not (count or always):
            continue
        look = WARM if count else PLAIN
        head = [(f"{count:>7,} ", look), (f"{_percent(count / rows):>5}  ", QUIET)]
        lines += hanging(head, words, look, width)
    fits = [
        (share, seen[key]) for share, key in (("5 %", "fits_95"), ("1 %", "fits_99")) if key in seen
    ]
    for share, length in fits:
        lines += wrap(
            [("max_length ", QUIET), (f"{length:,}", BOLD), (f" would cut under {share}", QUIET)],
            width,
        )
    packing = seen.get("packing")
    if packing and packing["sequences"]:
        words = f"packed: {packing['sequences']:,} sequences, {packing['filled']:.0%} filled"
        lines += wrap([(words, QUIET)], width)
    return lines


FIGURES = (
    ("rows longer than max_length", "truncated", True),
    ("rows with a part of the answer cut off", "answers_cut", True),
    ("rows whose answer is cut off entirely", "answers_lost", True),
    ("rows without a trained token", "untrained", True),
    ("rows whose end is not trained", "eos_untrained", False),
    ("rows that begin twice", "double_bos", False),
    ("rows with unknown tokens", "unknown_rows", False),
)
"""Words, key of the figures, and whether a zero is worth a line."""


def histogram_strips(
    seen: Mapping[str, Any], width: int, *, few: bool = False, ascii_only: bool = False
) -> list[Line]:
    """One line a bin; a line of its own says where max_length cuts, and what is behind it is drawn
    in another character: nothing depends on colour."""
    bins = _bins(seen["histogram"], seen["max_length"], few)
    most = max((count for _, _, count in bins), default=0)
    cut_at, cut = seen["max_length"], seen["truncated"]
    size = max((len(_range(low, high)) for low, high, _ in bins), default=1)
    number = max((len(f"{count:,}") for _, _, count in bins), default=1)
    room = max(4, width - size - number - 4)
    lines = [Line([Segment(f"{'tokens':>{size}}", QUIET), Segment(f"  {'rows':>{number}}", QUIET)])]
    said = False
    words = f"max_length {cut_at:,} cuts {cut:,} rows ({_percent(cut / max(1, seen['rows']))})"
    scissors, dash = ("8<", "-") if ascii_only else ("✂", "─")
    for low, high, count in bins:
        # A bin on both sides of the cut is drawn with the side on which most of it lies.
        over = 2 * cut_at < low + high - 1
        if over and not said:
            said = True
            lines.append(_cut_line(f"{scissors} {words} ", dash, width))
        lines.append(
            Line(
                [
                    Segment(f"{_range(low, high):>{size}}", QUIET),
                    Segment(f"  {count:>{number},}  "),
                    Segment(_bar(count, most, room, over, ascii_only), CUT if over else KEPT),
                ]
            )
        )
    if not said:
        lines.append(_cut_line(f"{scissors} {words} ", dash, width))
    return lines


def _bins(histogram: Mapping[str, Any], cut_at: int, few: bool) -> list[tuple[int, int, int]]:
    """(first, last length, rows) of each bin that is drawn; empty ones at both ends are not."""
    edges: Sequence[float] = histogram["edges"]
    counts: Sequence[int] = histogram["counts"]
    bins: list[tuple[int, int, int]] = []
    low = 0
    for edge, count in zip(edges, counts, strict=True):
        # A bin ends below its upper edge; only the last one includes it.
        high = int(edge) if len(bins) == len(edges) - 1 else math.ceil(edge) - 1
        bins.append((low, max(low, high), int(count)))
        low = max(low, high) + 1
    while len(bins) > 1 and not bins[-1][2]:
        bins.pop()
    while len(bins) > 1 and not bins[0][2]:
        bins.pop(0)
    if few and len(bins) > NARROW_LINES:
        bins = [
            (pair[0][0], pair[-1][1], sum(count for _, _, count in pair))
            for pair in (bins[at : at + 2] for at in range(0, len(bins), 2))
        ]
    return bins


def _range(low: int, high: int) -> str:
    return f"{low:,}–{high:,}".replace("–", "-") if high > low else f"{low:,}"


def _bar(count: int, most: int, room: int, over: bool, ascii_only: bool) -> str:
    if not count or not most:
        return ""
    if over or ascii_only:
        sign = ("x" if over else "#") if ascii_only else "░"
        return sign * max(1, round(room * count / most))
    eighths = max(1, round(8 * room * count / most))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def _cut_line(words: str, dash: str, width: int) -> Line:
    text = clip(words, width)
    return Line([Segment(text, WARM), Segment(dash * max(0, width - len(text)), CUT)])


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


class LengthsView(LinesView):
    """A scrollable pane with the figures of one split."""

    def show_lengths(self, seen: Mapping[str, Any], seen_by: str) -> None:
        """See :func:`lengths_strips`."""
        few = not self.screen.has_class("-tall")
        ascii_only = plain_ascii()
        self.show_layout(
            lambda width: lengths_strips(seen, seen_by, width, few=few, ascii_only=ascii_only)
        )
        self.go(0)
