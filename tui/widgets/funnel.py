"""The cleaning funnel: what was read, what was dropped and why, what is left."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.message import Message

from engine.text import clip
from tui.widgets.lines import BOLD, GOOD, PLAIN, QUIET, WARM, Line
from tui.widgets.namedlines import NamedLines

__all__ = ["WARNINGS", "FunnelView", "funnel_lines", "funnel_strips"]

WARNINGS = "warnings"
"""The name of the line that stands for the report's warnings."""

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
    "dropped.near_duplicate": "− nearly again",
    "dropped.wrong_language": "− language",
    "dropped.personal_data": "− personal",
    "dropped.placeholder": "− placeholder",
    "dropped.too_short": "− too short",
    "dropped.too_long": "− too long",
    "dropped.echo": "− echo",
    "train": "  train",
    "validation": "  validation",
    "test": "  test",
    "leakage_before": "leaks, naive",
    "near_leakage": "leaks, nearly",
    "leakage_after": "leaks, ours",
    "repaired.invalid_utf8": "bad UTF-8",
    "repaired.lone_surrogate": "surrogate",
    "repaired.number_overflow": "big number",
    "repaired.duplicate_key": "column twice",
    "repaired.number_as_text": "number",
}
WIDE = 44
"""From this width on every row has a bar and its words."""


def funnel_strips(rows: Sequence[tuple[str, int, str]], width: int) -> list[Line]:
    """The lines of :func:`funnel_lines` without their names."""
    return [strip for _, strip in funnel_lines(rows, width)]


def funnel_lines(
    rows: Sequence[tuple[str, int, str]], width: int, warnings: int = 0
) -> list[tuple[str, Line]]:
    """The rows of ``engine.data.report.funnel`` in at most ``width`` cells, each with its name.

    The way of the rows first (read, dropped, kept, splits), then what was repaired, changed and
    flagged. Lines that stand for nothing have the name "".
    """
    by_name = {name: (count, words) for name, count, words in rows}
    read = max(1, by_name.get("rows_read", (0, ""))[0])
    wide = width >= WIDE
    way = ["rows_read", *_named(by_name, "dropped."), "rows_kept", "train", "validation", "test"]
    other = ["leakage_before", "near_leakage", "leakage_after"]
    lines = [
        (name, _line(name, *by_name[name], read, width))
        for name in way
        if name in by_name and (wide or by_name[name][0] or not name.startswith("dropped."))
    ]
    if warnings:
        words = f"! {warnings} warning{'s' * (warnings != 1)}"
        lines.append((WARNINGS, Line([Segment(words, WARM)])))
    for heading in ("repaired", "changed", "flagged"):
        names = _named(by_name, f"{heading}.")
        names = [name for name in names if wide or by_name[name][0]]
        if names:
            total = sum(by_name[name][0] for name in names)
            told = total if heading == "repaired" else None
            lines += [("", Line([])), ("", _heading(heading, told, width))]
            lines += [(name, _line(name, *by_name[name], read, width)) for name in names]
    lines.append(("", Line([])))
    lines += [(name, _line(name, *by_name[name], read, width)) for name in other if name in by_name]
    return lines


def _named(by_name: dict[str, tuple[int, str]], prefix: str) -> list[str]:
    return [name for name in by_name if name.startswith(prefix)]


def _heading(title: str, total: int | None, width: int) -> Line:
    if total is None:
        return Line([Segment(title, BOLD)])
    number = f"{total:,}"
    space = " " * max(1, min(width, 24) - len(title) - len(number))
    return Line([Segment(title, BOLD), Segment(space), Segment(number, BOLD)])


def _line(name: str, count: int, words: str, read: int, width: int) -> Line:
    number = f"{count:,}"
    label = LABELS.get(name, name.rpartition(".")[2].replace("_", " "))
    if name.startswith(("repaired.", "changed.", "flagged.")):
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
    return Line(segments)


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
    if name in ("leakage_after", "near_leakage"):
        return WARM
    return PLAIN


class FunnelView(NamedLines):
    """A scrollable pane with one funnel; enter on a line shows what it counts."""

    class Asked(Message):
        """Enter on the line of this name."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def show_funnel(self, rows: Sequence[tuple[str, int, str]], warnings: int = 0) -> None:
        """See :func:`funnel_lines`; no rows: nothing is chosen."""
        if not rows:
            self.show_named(lambda width: [("", Line([Segment("No dataset chosen.", QUIET)]))])
            return
        self.show_named(lambda width: funnel_lines(rows, width, warnings))

    def ask(self) -> None:
        if self.chosen:
            self.post_message(self.Asked(self.chosen))
