"""What the model sees of one example: tokens with their boundaries, and which ones are trained.

Which tokens are trained and where the text is cut is said in headings, boundaries are drawn:
nothing depends on colour.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.segment import Segment
from rich.style import Style

from engine.text import steady
from tui.widgets.lines import ACCENT, PLAIN, QUIET, WARM, Line, LinesView, wrap

__all__ = ["TokensView", "layout_tokens", "shown_token"]

BOUNDARY = Segment("│", Style(color="#585858"))
TRAINED = Style(color="#87d787", bold=True)
SHOWN_TOKENS = 20_000
TOKEN = 10
"""Characters that take about as long to be laid out as one token."""


def shown_token(text: str) -> str:
    """One token's text with its spaces and line ends visible; always at least one cell."""
    shown = steady(text).replace(" ", "·").replace("\n", "⏎")
    return shown or "∅"


def layout_tokens(
    tokens: Sequence[Mapping[str, Any]], truncated_at: int | None, total: int | None, width: int
) -> list[Line]:
    """Lines of at most ``width`` cells.

    ``tokens``: ``id``, ``text`` and ``trained`` of each; ``truncated_at``: tokens kept when the
    example was cut, else None; ``total``: tokens it had before, where that is known.
    """
    lines: list[Line] = []
    start = 0
    kept = tokens[:SHOWN_TOKENS]
    while start < len(kept):
        trained = bool(kept[start]["trained"])
        end = start
        while end < len(kept) and bool(kept[end]["trained"]) == trained:
            end += 1
        number = end - start
        plural = "s" * (number != 1)
        words = (
            f"{number} token{plural}, trained: the loss counts them"
            if trained
            else f"{number} token{plural}, not trained: only read"
        )
        if lines:
            lines.append(Line([]))
        lines += wrap([(words, ACCENT if trained else QUIET)], width)
        lines += _flow(kept[start:end], TRAINED if trained else PLAIN, width)
        start = end
    if len(tokens) > SHOWN_TOKENS:
        more = len(tokens) - SHOWN_TOKENS
        lines += wrap([(f"… {more:,} more tokens are not shown", QUIET)], width)
    if truncated_at is not None:
        words = f"✂ cut here at max_length {truncated_at}"
        if total is not None and total > truncated_at:
            words += f": {total - truncated_at:,} of {total:,} tokens are never seen"
        lines.append(Line([]))
        lines += wrap([(words, WARM)], width)
    return lines


def _flow(tokens: Sequence[Mapping[str, Any]], style: Style, width: int) -> list[Line]:
    """Tokens one after the other, a boundary behind each; a line end in a token ends the line."""
    lines: list[Line] = []
    line: list[Segment] = []
    used = 0
    for token in tokens:
        text = str(token["text"])
        segment = Segment(shown_token(text), style)
        size = segment.cell_length + 1
        if used and used + size > width:
            lines.append(Line(line))
            line, used = [], 0
        if size > width:  # one token wider than the pane
            lines += wrap([(segment.text, style)], width)
            continue
        line += [segment, BOUNDARY]
        used += size
        if text.endswith("\n"):
            lines.append(Line(line))
            line, used = [], 0
    if line:
        lines.append(Line(line))
    return lines


class TokensView(LinesView):
    """A scrollable pane of one example's tokens."""

    def show_tokens(
        self,
        tokens: Sequence[Mapping[str, Any]],
        truncated_at: int | None = None,
        total: int | None = None,
    ) -> None:
        """See :func:`layout_tokens`."""
        self.show_layout(
            lambda width: layout_tokens(tokens, truncated_at, total, width),
            size=TOKEN * len(tokens),
        )
