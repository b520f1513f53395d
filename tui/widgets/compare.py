"""A row before and after the rules, side by side where there is room, else one above the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style

from engine.text import clip, safe_line, steady
from tui.rowwords import why
from tui.widgets.lines import ACCENT, BOLD, PLAIN, QUIET, WARM, Line, LinesView, Run, wrap
from tui.worddiff import PIECE, Marked, marked

if TYPE_CHECKING:
    from engine.data.rows import Row
    from engine.data.trial import TriedRow

__all__ = ["CompareView", "Compared", "compare", "compare_examples", "layout_compared"]

SIDE_BY_SIDE = 78
"""From this many cells on the two texts stand beside each other."""
TEXT = 200
"""Characters that take about as long to be laid out as the headings of one text."""
RULE = Style(color="#585858")


@dataclass(frozen=True)
class Compared:
    """A row made ready: what to say above it, and every text of it with its changes marked."""

    head: list[Run]
    texts: list[tuple[str, Marked]]
    """Name of the text (prompt, completion, user, ...), and the text twice."""


def compare(row: "TriedRow") -> Compared:
    """Finds the changes; takes up to 0.2 s for long texts, so it is called in a thread."""
    head: list[Run] = [(f"line {row.line:,} of the source  ", QUIET)]
    if row.reason:
        evidence = f": {steady(safe_line(row.evidence[:300]))}" if row.evidence else ""
        head.append((f"dropped: {why(row.reason)}{evidence}", WARM))
    else:
        head.append(("kept", BOLD))
    if row.changed:
        head.append((f", changed by {', '.join(map(safe_line, row.changed))}", BOLD))
    before, after = row.before, row.after
    if before is None or after is None:
        raw = steady(row.raw[:PIECE].decode("utf-8", "replace"))
        left = len(row.raw) - PIECE
        raw += f" … {left:,} more bytes" if left > 0 else ""
        head.append(("\n\nIt could not be read as a row; this is what stands there:\n\n", QUIET))
        return Compared([*head, (raw, PLAIN)], [])
    names, olds, news = _named(before), _texts(before), _texts(after)
    texts = [
        (name, marked(old, new))
        for name, old, new in zip(names, olds, news, strict=False)
        if old or new
    ]
    if all(one.same for _, one in texts):
        head.append((", no text of it was changed", QUIET))
    return Compared(head, texts)


def compare_examples(title: str, examples: Sequence[tuple[int, str, str]]) -> Compared:
    """A report's examples of one rule: line, before, after."""
    texts = [(f"line {line:,}", marked(old, new)) for line, old, new in examples]
    return Compared([(title, BOLD)], texts)


def _named(row: "Row") -> tuple[str, ...]:
    if row.messages:
        return tuple(steady(safe_line(message.role[:40])) for message in row.messages)
    return ("prompt", "completion", "instruction", "system")


def _texts(row: "Row") -> tuple[str, ...]:
    if row.messages:
        return tuple(message.content for message in row.messages)
    return row.prompt, row.completion, row.instruction, row.system


def layout_compared(seen: Compared, width: int) -> list[Line]:
    """Lines of at most ``width`` cells."""
    lines = wrap(seen.head, width)
    for name, texts in seen.texts:
        lines.append(Line([]))
        if texts.same:
            lines += wrap([(clip(name, 40), ACCENT), ("  unchanged", QUIET)], width)
            lines += wrap(texts.before, width)
        elif width >= SIDE_BY_SIDE:
            lines += _beside(name, texts, width)
        else:
            lines += wrap([(f"{clip(name, 30)}, before", ACCENT)], width)
            lines += wrap(texts.before, width)
            lines += wrap([(f"{clip(name, 30)}, after", ACCENT)], width)
            lines += wrap(texts.after, width)
    return lines


def _beside(name: str, texts: Marked, width: int) -> list[Line]:
    column = (width - 3) // 2
    left = wrap([(f"{clip(name, 30)}, before\n", ACCENT), *texts.before], column)
    right = wrap([(f"{clip(name, 30)}, after\n", ACCENT), *texts.after], column)
    rule = Segment(" │ ", RULE)
    empty = Line([])
    return [
        Line([*one.fitted(column), rule, *other.fitted(column)])
        for one, other in zip_longest(left, right, fillvalue=empty)
    ]


class CompareView(LinesView):
    """A scrollable pane with one row before and after."""

    def show_compared(self, seen: Compared) -> None:
        size = sum(len(run[0]) for _, both in seen.texts for run in (*both.before, *both.after))
        self.show_layout(
            lambda width: layout_compared(seen, width), size=size + TEXT * len(seen.texts)
        )
        self.go(0)
