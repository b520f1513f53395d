"""The review of a run as lines: what may go wrong first, then what it comes to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style

from engine.text import safe_line
from engine.words import bytes_words
from tui.widgets.lines import ACCENT, BAD, BOLD, GOOD, PLAIN, QUIET, WARM, Line, hanging

if TYPE_CHECKING:
    from engine.preflight.look import Preflight

__all__ = ["review_lines"]

LABEL = 15
BAR = 24
OTHERS = {"model": "parameters", "data": "rows"}
"""Labels of the preflight whose words say something else in the review."""
MARKS = {"error": ("✗ error", BAD), "warning": ("! warning", WARM), "note": ("· note", QUIET)}
RAIL = Style(color="#585858")


def review_lines(
    basics: Sequence[tuple[str, str]],
    seen: "Preflight | None",
    note: str,
    failed: bool,
    width: int,
) -> list[Line]:
    """``basics``: known without looking; ``note``: why there is no more, or what ``failed``."""
    lines: list[Line] = []

    def row(label: str, words: str, style: Style = PLAIN, look: Style = QUIET) -> None:
        head = [(f"{safe_line(label[:40]):<{LABEL}}", look)]
        lines.extend(hanging(head, safe_line(words[:1000]), style, width))

    if note:
        mark, look = MARKS["error" if failed else "note"]
        row(mark, note, look=look)
    if seen is not None:
        order = list(MARKS)
        for warning in sorted(seen.warnings, key=lambda one: order.index(one.severity)):
            mark, look = MARKS[warning.severity]
            row(mark, warning.words, look=look)
    if lines:
        lines.append(Line([]))
    if seen is None:
        for label, words in basics:
            row(label, words)
        return lines
    from engine.preflight.report import attempt_words, facts

    found = facts(seen)
    told = {label for label, _ in found}
    others = [one for one in basics if one[0] not in told or one[0] in OTHERS]
    first = {"run": QUIET, "model": QUIET, "trains": QUIET, "changed": ACCENT, "not known": WARM}
    for label, words in others:
        if label in first:
            row(label, words, look=first[label])
    for label, words in found:
        if label == "time" and seen.pace is None:
            words = "not known: no run like this one yet; p measures it"
        row(OTHERS.get(label, label), words, BOLD if label in ("steps", "time") else PLAIN)
        if label == "memory":
            lines += _parts(seen, width)
    if seen.finder:
        for place, words in enumerate(attempt_words(seen)):
            row("" if place else "batches tried", words)
        for key, value in seen.finder["settings"].items():
            row("taken", f"{key} = {value}", look=ACCENT)
    lines.append(Line([]))
    for label, words in others:
        if label not in first:
            row(label, words)
    return lines


def _parts(seen: "Preflight", width: int) -> list[Line]:
    """A bar for each part of the estimate against the device's memory, then for all together."""
    from engine.preflight.report import PARTS

    if seen.estimate is None or not seen.place.total_bytes:
        return []
    values = seen.estimate.as_json()
    parts = [(PARTS[name], values[name], GOOD) for name in PARTS if values[name]]
    parts.append(("at the peak", seen.estimate.peak, WARM))
    attempt = seen.attempt
    if attempt and "out_of_memory" not in attempt:
        parts.append(("measured", attempt["peak_bytes"], ACCENT))
    room = max(6, min(BAR, width - LABEL - 34))
    return [_bar(label, value, value / seen.place.total_bytes, room, look)
            for label, value, look in parts]  # fmt: skip


def _bar(label: str, value: int, share: float, room: int, look: Style) -> Line:
    full = min(room, max(1, round(share * room)))
    return Line(
        [
            Segment(" " * LABEL + f"{label:<17}", QUIET),
            Segment("━" * full, look),
            Segment("─" * (room - full), RAIL),
            Segment(f" {bytes_words(value):>9} {100 * share:3.0f} %", PLAIN),
        ]
    )
