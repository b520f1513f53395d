"""Makes outside text safe to show.

Dataset rows, prompts, model output, logs, file names and error messages may hold escape sequences,
bidirectional overrides or markup. Textual and Rich pass most of them to the terminal as they are,
so everything from outside goes through here before it reaches a screen or a terminal.
"""

import json
import re

from rich.cells import cell_len, set_cell_size

__all__ = ["UNSAFE", "clip", "safe", "safe_json", "safe_line", "steady", "unstyled"]

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"
_INVISIBLE = "\u180e\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\u00ad\u2028\u2029\u0085"
# C0 without tab and newline, DEL, C1, bidi controls, invisible characters, surrogates, tags.
UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f" + _BIDI + _INVISIBLE + "\ud800-\udfff\U000e0000-\U000e007f"
"""What :func:`safe` replaces, as the inside of a regular expression's brackets."""
_UNSAFE = re.compile(f"[{UNSAFE}]")
_JOINERS = re.compile("[\u200d\ufe00-\ufe0f]")
_CSI = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")
_TAB = "    "


def _picture(match: re.Match[str]) -> str:
    """A visible stand-in of one cell (for surrogates and the rest: U+FFFD)."""
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if code in (0x85, 0x2028, 0x2029):
        return "\u2424"
    return "\ufffd"


def safe(text: str) -> str:
    """``text`` with control, bidi and invisible characters shown as symbols; newlines stay.

    Carriage returns before a newline vanish, tabs become four spaces. Never raises.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n").replace("\t", _TAB)
    return _UNSAFE.sub(_picture, text)


def safe_line(text: str) -> str:
    """:func:`safe` on one line: newlines are shown as symbols too."""
    return safe(text).replace("\n", "\u2424")


def safe_json(document: str) -> str:
    """A JSON document of the same value, with unsafe characters inside its texts escaped."""
    return _UNSAFE.sub(lambda match: json.dumps(match.group())[1:-1], document)


def steady(text: str) -> str:
    """:func:`safe` without joiners and variation selectors: as wide as every terminal draws it."""
    return _JOINERS.sub("", safe(text))


def unstyled(text: str) -> str:
    """``text`` without the sequences that colour it or move the cursor; not yet safe.

    Nothing else is taken out: what :func:`safe` then still shows as symbols is no mere colour.
    """
    return _CSI.sub("", text) if "\x1b" in text else text


def clip(text: str, cells: int, end: str = "…") -> str:
    """The beginning of one line of outside text, safe, in at most ``cells`` terminal cells.

    Only as much of ``text`` is looked at as can be shown, so a 100 MB line costs nothing. Widths
    are Rich's, the same that Textual lays out by. Joiners and variation selectors are dropped:
    terminals disagree on the width of what they join.
    """
    if cells <= 0:
        return ""
    look = cells * 8 + 64
    head = _JOINERS.sub("", safe_line(text[:look]))
    if len(text) <= look and cell_len(head) <= cells:
        return head
    room = cells - cell_len(end)
    return set_cell_size(head, room).rstrip() + end if room > 0 else end
