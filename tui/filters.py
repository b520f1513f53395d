"""The last gate before the terminal: no control or bidi character leaves, whatever drew it.

``engine.text`` makes outside text safe where it enters a widget; this filter is the second layer,
because Textual passes control characters in any widget's text on to the terminal byte for byte.
"""

import re

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

__all__ = ["UnsafeText"]

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


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
