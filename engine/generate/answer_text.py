"""The text of one answer as it grows: whole characters only, and up to the first stop string.

Text that may be the beginning of a stop string is held back until it is known not to be.
"""

from collections import deque
from collections.abc import Callable, Sequence

from engine.generate.decoding import Decoding

__all__ = ["AnswerText", "GrowingText", "Piece", "Stopping"]

Piece = tuple[str, float]
"""The text of a token, and how likely the model found that token."""


class Stopping:
    """A text that ends before the first of some strings, however it is cut into pieces.

    First is the one that is whole first; of several that are whole at the same character the
    longest.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.stopped = False
        self.held = ""
        """What is not said yet."""

    def push(self, text: str) -> int:
        """Take more text; how many characters of :attr:`held` may be said now."""
        self.held += text
        found = [(at + len(s), at) for s in self.strings if (at := self.held.find(s)) >= 0]
        if found:
            self.stopped = True
            return min(found)[1]
        return len(self.held) - max(map(self._begun, self.strings), default=0)

    def _begun(self, string: str) -> int:
        """How many characters at the end of what is held the string begins with."""
        most = min(len(string) - 1, len(self.held))
        return next((n for n in range(most, 0, -1) if self.held.endswith(string[:n])), 0)

    def take(self, count: int) -> str:
        """The first ``count`` characters, which are then said."""
        said, self.held = self.held[:count], self.held[count:]
        return said


class GrowingText:
    """What may be shown of an answer that comes as pieces of text.

    With ``with_odds`` the text comes with its pieces, one a token: then it is held back by whole
    tokens.
    """

    def __init__(self, stop_strings: Sequence[str] = (), *, with_odds: bool = False) -> None:
        self._stopping = Stopping(stop_strings)
        self._kept: deque[Piece] | None = deque() if with_odds else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come: nothing is said any more."""
        return self._stopping.stopped

    def add(self, text: str, odds: float = 0.0) -> tuple[str, list[Piece]]:
        """The text that can be said now, and its pieces where they are kept; may be empty."""
        if self._kept is not None:
            self._kept.append((text, odds))
        return self._say(self._stopping.push(text), whole=self.stopped)

    def end(self, rest: str = "") -> tuple[str, list[Piece]]:
        """What was held back, once the answer has ended; ``rest`` is the last token's."""
        if self.stopped:
            return "", []
        if self._kept is not None and rest:
            text, odds = self._kept.pop() if self._kept else ("", 0.0)
            self._kept.append((text + rest, odds))
        ready = self._stopping.push(rest)
        return self._say(ready if self.stopped else len(self._stopping.held), whole=True)

    def stop(self) -> tuple[str, list[Piece]]:
        """As :meth:`end`, by something else that stands for a stop string."""
        said = self.end()
        self._stopping.stopped = True
        return said

    def _say(self, ready: int, *, whole: bool) -> tuple[str, list[Piece]]:
        if self._kept is None:
            return self._stopping.take(ready), []
        pieces: list[Piece] = []
        length = 0
        while self._kept and length + len(self._kept[0][0]) <= ready:
            text, odds = self._kept.popleft()
            pieces.append((text, odds))
            length += len(text)
        if whole and self._kept and length < ready:  # the stop string begins within a token
            pieces.append((self._kept[0][0][: ready - length], self._kept[0][1]))
            length = ready
        if not length and not whole:  # parts of a character: with the text that they become
            self._kept.extendleft(reversed(pieces))
            return "", []
        return self._stopping.take(length), pieces


class AnswerText(GrowingText):
    """The same of tokens: ``decode`` turns their ids into text.

    ``stop_ids`` are tokens that stand for stop strings themselves.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        stop_strings: Sequence[str] = (),
        stop_ids: frozenset[int] = frozenset(),
        *,
        with_odds: bool = False,
    ) -> None:
        super().__init__(stop_strings, with_odds=with_odds)
        self._decoding = Decoding(decode)
        self._stop_ids = stop_ids

    def push(self, token: int, odds: float = 0.0) -> tuple[str, list[Piece]]:
        """What can be said once this token is there."""
        if token in self._stop_ids:
            return self.stop()
        return self.add(self._decoding.push(token), odds)

    def flush(self) -> tuple[str, list[Piece]]:
        """What was held back, once the answer has ended."""
        return self.end("" if self.stopped else self._decoding.flush())
