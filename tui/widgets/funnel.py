"""The cleaning funnel: what was read, what was dropped and why, what is left."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from engine.text import clip
from tui.widgets.lines import BOLD, GOOD, PLAIN, QUIET, WARM, LinesView

__all__ = ["FunnelView", "funnel_strips"]

LABELS = {
    "rows_read": "read",
    "rows_kept": "kept",
    "dropped.malformed": "− malformed",
    "dropped.missing_field": "− missing",
    "dropped.not_text": "− not text",
    "dropped.empty_prompt": "− no prompt",
    "dropped.empty_completion": "− no text",
    "dropped.duplicate_completion": "− duplicate",
    "dropped.duplicate_prompt": "− duplicate",
    "dropped.duplicate_both": "− duplicate",
    "train": "  train",
    "validation": "  validation",
    "test": "  test",
    "leakage_before": "leaks, naive",
    "leakage_after": "leaks, ours",
    "repaired.invalid_utf8": "bad UTF-8",
    "repaired.lone_surrogate": "surrogate",
    "repaired.number_overflow": "big number",
    "repaired.duplicate_key": "column twice",
    "repaired.number_as_text": "number",
}
WIDE = 44
"""From this width on every row has a bar and its words."""


def funnel_strips(rows: Sequence[tuple[str, int, str]], width: int) -> list[Strip]:
    """The rows of ``engine.data.report.funnel`` in at most ``width`` cells.

    The way of the rows first (read, dropped, kept, splits), then what was repaired and changed.
    """
    by_name = {name: (count, words) for name, count, words in rows}
    read = max(1, by_name.get("rows_read", (0, ""))[0])
    wide = width >= WIDE
    way = ["rows_read", *_named(by_name, "dropped."), "rows_kept", "train", "validation", "test"]
    other = ["leakage_before", "leakage_after"]
    lines = [
        _line(name, *by_name[name], read, width)
        for name in way
        if name in by_name and (wide or by_name[name][0] or not name.startswith("dropped."))
    ]
    for heading, prefix in (("repaired", "repaired."), ("changed", "changed.")):
        names = [name for name in _named(by_name, prefix) if wide or by_name[name][0]]
        if names:
            total = sum(by_name[name][0] for name in names)
            lines += [Strip([]), _heading(heading, total if prefix == "repaired." else None, width)]
            lines += [_line(name, *by_name[name], read, width) for name in names]
    lines.append(Strip([]))
    lines += [_line(name, *by_name[name], read, width) for name in other if name in by_name]
    return lines


def _named(by_name: dict[str, tuple[int, str]], prefix: str) -> list[str]:
    return [name for name in by_name if name.startswith(prefix)]


def _heading(title: str, total: int | None, width: int) -> Strip:
    if total is None:
        return Strip([Segment(title, BOLD)])
    number = f"{total:,}"
    space = " " * max(1, min(width, 24) - len(title) - len(number))
    return Strip([Segment(title, BOLD), Segment(space), Segment(number, BOLD)])


def _line(name: str, count: int, words: str, read: int, width: int) -> Strip:
    number = f"{count:,}"
    label = LABELS.get(name, name.rpartition(".")[2].replace("_", " "))
    if name.startswith(("repaired.", "changed.")):
        label = f"  {label}"
    room = min(width, 24)
    label = clip(label, max(1, room - len(number) - 1))
    space = " " * max(1, room - _cells(label) - len(number))
    look = _look(name, count)
    segments = [Segment(label, look), Segment(space), Segment(number, look)]
    if width >= WIDE:
        bar = max(8, min(24, width - 70))
        full = min(bar, max(round(bar * count / read), 1 if count else 0))
        segments += [
            Segment("  "),
            Segment("━" * full, look),
            Segment("─" * (bar - full), Style(color="#444444")),
            Segment(f"  {clip(words, max(1, width - room - bar - 4))}", QUIET),
        ]
    return Strip(segments)


def _cells(text: str) -> int:
    return Segment(text).cell_length


def _look(name: str, count: int) -> Style:
    if not count:
        return QUIET
    if name in ("rows_read", "rows_kept"):
        return BOLD
    if name.startswith("dropped."):
        return WARM
    if name in ("train", "validation", "test"):
        return GOOD
    if name == "leakage_after":
        return WARM
    return PLAIN


class FunnelView(LinesView):
    """A scrollable pane with one funnel."""

    def show_funnel(self, rows: Sequence[tuple[str, int, str]]) -> None:
        """See :func:`funnel_strips`; no rows: nothing is chosen."""
        if not rows:
            self.show([("No dataset chosen.", QUIET)])
            return
        self.show_layout(lambda width: funnel_strips(rows, width))
