"""Inputs that never blink: a blinking cursor is traffic on a slow link and noise in snapshots."""

from typing import Any

from textual.widgets import Input

__all__ = ["PlainInput"]


class PlainInput(Input):
    """A one-line input without blinking, suggestions or markup."""

    def __init__(self, value: str = "", **options: Any) -> None:
        super().__init__(value, **options)
        self.cursor_blink = False
