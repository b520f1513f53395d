"""The last gate before the terminal: no control or bidi character leaves, whatever drew it.

``engine.text`` makes outside text safe where it enters a widget; this filter is the second layer,
because Textual passes control characters in any widget's text on to the terminal byte for byte.
"""

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from engine.text import UNSAFE

__all__ = ["UnsafeText"]

_UNSAFE = re.compile(f"[\t\n{UNSAFE}]")  # a segment lies within one line


def _same_width(match: re.Match[str]) -> str:
    return "\ufffd" * cell_len(match.group())


class UnsafeText(LineFilter):
    """Takes the characters out; what had a width is replaced, so that columns stay aligned."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        search = _UNSAFE.search
        if not any(search(segment.text) for segment in segments):
            return segments
        return [
            Segment(_UNSAFE.sub(_same_width, text), style, control)
            if not control and search(text)
            else Segment(text, style, control)
            for text, style, control in segments
        ]
