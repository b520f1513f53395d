"""Turns a growing list of token ids into text pieces, never breaking a character in two."""

from collections.abc import Callable, Sequence

__all__ = ["Decoding"]

REPLACEMENT = "�"


class Decoding:
    """Text of one answer, piece by piece.

    A character of several bytes may be spread over several tokens; decoded too early it shows as
    U+FFFD. Pieces that end so are held back until the rest is there. Only the last few tokens are
    decoded again at each step, so that a long answer costs no more a token than a short one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self.decode = decode
        self.ids: list[int] = []
        self._prefix = 0
        self._read = 0

    def push(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        self.ids.append(token)
        before = self.decode(self.ids[self._prefix : self._read])
        now = self.decode(self.ids[self._prefix :])
        if len(now) <= len(before) or now.endswith(REPLACEMENT):
            return ""
        self._prefix, self._read = self._read, len(self.ids)
        return now[len(before) :]

    def flush(self) -> str:
        """What was held back, as it is."""
        before = self.decode(self.ids[self._prefix : self._read])
        now = self.decode(self.ids[self._prefix :])
        self._prefix = self._read = len(self.ids)
        return now[len(before) :]
