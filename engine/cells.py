"""Texts as cells of a CSV file that no spreadsheet takes for a formula, and the way back."""

import re

__all__ = ["guarded", "unguarded"]

_RISKY = re.compile("'*[=+\\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](Infinity|NaN)")


def guarded(text: str) -> str:
    """``text`` with an apostrophe before it where it begins like a formula.

    That is with ``=``, ``+``, ``-``, ``@``, a tab or a line end, or with apostrophes before one of
    them, so that :func:`unguarded` is exact. Plain numbers stay as they are.
    """
    return f"'{text}" if _RISKY.match(text) and not _NUMBER.fullmatch(text) else text


def unguarded(cell: str) -> str:
    """The text that :func:`guarded` made ``cell`` of."""
    return cell[1:] if cell[:1] == "'" and _RISKY.match(cell) else cell
