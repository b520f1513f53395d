"""What changed between two texts, word by word, marked so that it is seen without colour.

What went stands in ``[-`` and ``-]``, what came in ``{+`` and ``+}``; inside the marks spaces, line
ends and invisible characters are written out, because they may be all that changed.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.style import Style

from engine.text import UNSAFE, steady
from tui.widgets.lines import PLAIN, QUIET, Run

__all__ = ["Marked", "marked"]

GONE = Style(color="#ff8787", underline=True)
CAME = Style(color="#87d787", underline=True)
MOST_WORDS = 2_000
"""Words that are compared; where more differ, the whole stretch is marked. 2,000 take 0.1 s."""
ALIKE_AROUND = 160
"""Characters of a stretch without changes that are shown beside the next change."""
PIECE = 20_000
"""Characters of one changed stretch that are shown."""

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_HIDDEN = re.compile(f"[{UNSAFE}\u200d\ufe00-\ufe0f\u0300-\u036f\u00a0]")


class Marked(NamedTuple):
    """The two texts with their changes marked, as runs for a pane."""

    before: list[Run]
    after: list[Run]
    same: bool


def marked(before: str, after: str) -> Marked:
    """Both texts with marks; long stretches that are alike are shortened."""
    if before == after:
        text = steady(before[: 2 * PIECE]) + _more(len(before) - 2 * PIECE)
        return Marked([(text, PLAIN)], [(text, PLAIN)], True)
    left: list[Run] = []
    right: list[Run] = []
    pieces = list(_pieces(before, after))
    for number, (old, new, alike) in enumerate(pieces):
        if alike:
            shown = _shortened(old, first=number == 0, last=number == len(pieces) - 1)
            left += shown
            right += shown
        else:
            if old:
                left.append((f"[-{_visible(old)}-]", GONE))
            if new:
                right.append((f"{{+{_visible(new)}+}}", CAME))
    return Marked(left, right, False)


def _pieces(before: str, after: str) -> Iterator[tuple[str, str, bool]]:
    """(before, after, alike) pieces in order; neighbours of one kind are put together."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _alike_from_start(old, new)
    end = _alike_from_start(old[start:][::-1], new[start:][::-1])
    stop_old, stop_new = len(old) - end, len(new) - end
    if start:
        yield "".join(old[:start]), "".join(new[:start]), True
    yield from _inner(old[start:stop_old], new[start:stop_new])
    if end:
        yield "".join(old[stop_old:]), "".join(new[stop_new:]), True


def _inner(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    if max(len(old), len(new)) > MOST_WORDS:
        yield "".join(old), "".join(new), False
        return
    for kind, i, j, k, l in difflib.SequenceMatcher(None, old, new).get_opcodes():  # noqa: E741
        yield "".join(old[i:j]), "".join(new[k:l]), kind == "equal"


def _alike_from_start(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _shortened(text: str, *, first: bool, last: bool) -> list[Run]:
    """A stretch without changes: what is next to a change, and how much was left out."""
    room = ALIKE_AROUND * (2 - first - last)
    if len(text) <= room + 60:
        return [(steady(text), PLAIN)]
    head = "" if first else text[:ALIKE_AROUND]
    tail = "" if last else text[-ALIKE_AROUND:]
    left = len(text) - len(head) - len(tail)
    return [
        (steady(head), PLAIN),
        (f" … {left:,} characters alike … ", QUIET),
        (steady(tail), PLAIN),
    ]


def _visible(text: str) -> str:
    """A changed stretch with everything in it to be seen."""
    shown = text[:PIECE].replace("\r", "␍").replace("\n", "⏎").replace("\t", "→").replace(" ", "·")
    return _HIDDEN.sub(_name, shown) + _more(len(text) - PIECE)


def _name(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "⟨nbsp⟩" if code == 0xA0 else f"⟨U+{code:04X}⟩"


def _more(left: int) -> str:
    return f" … {left:,} more characters" if left > 0 else ""
