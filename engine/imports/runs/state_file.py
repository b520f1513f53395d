"""Reads ``trainer_state.json`` entry by entry: one of 100 MB takes a few MB of memory.

Transformers writes it in one go, so a full disk or a kill leaves a beginning; that is read as far
as it goes.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["Broken", "entries_of"]

CHUNK_BYTES = 1 << 20
MOST_CHARACTERS = 4 << 20
"""Of one value; a log entry has 300."""
LOG = "log_history"
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class Broken(ValueError):
    """Here the file is no JSON any more. Its text begins with the line."""


class _Text:
    """The file's text from where reading stands on, filled up as it is needed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._text, self._at, self._line = "", 0, 1
        self._whole = False

    def _more(self) -> bool:
        """Read on; False at the end. What was read over is forgotten."""
        if self._whole:
            return False
        data = self._file.read(CHUNK_BYTES)
        self._whole = not data
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :], 0
        try:
            self._text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise self.broken(f"not UTF-8 text ({error.reason})", len(self._text)) from None
        return bool(data)

    def broken(self, words: str, at: int | None = None) -> Broken:
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        return Broken(f"line {line}: {words}")

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        found = self.peek()
        if found != expected:
            what = repr(found) if found else "the end of the file"
            raise self.broken(f"{expected!r} was expected, not {what}")
        self._at += 1

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                words, length = error.msg, error.pos - self._at
            except (ValueError, RecursionError) as error:  # 4,300 digits; 1,000 brackets
                raise self.broken(f"not to be read ({str(error)[:80]})") from None
            else:
                length = end - self._at
                if end < len(self._text) or not self._more():  # else more of a number may follow
                    self._at += length
                    return value
                continue
            if len(self._text) - self._at > MOST_CHARACTERS:
                words = f"a value of more than {MOST_CHARACTERS:,} characters"
                raise self.broken(words, self._at + length)
            if not self._more():
                at = self._at + length
                raise self.broken(words if at < len(self._text) else "the file ends here", at)


def entries_of(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """(key, value) of the one object of the file; its ``log_history`` as one pair for each entry.

    Raises :class:`Broken` where it breaks off, when all before was handed out. NaN, Infinity and
    -Infinity are numbers, as Python writes them.
    """
    text = _Text(file)
    if text.peek() != "{":
        raise text.broken("the file holds no object, so it is no trainer's state")
    text.take("{")
    if text.peek() == "}":
        return
    while True:
        if text.peek() != '"':
            raise text.broken("a key was expected")
        key = text.value()
        text.take(":")
        if key == LOG and text.peek() == "[":
            yield from ((LOG, entry) for entry in _elements(text))
        else:
            yield key, text.value()
        if text.peek() != ",":
            break
        text.take(",")
    text.take("}")


def _elements(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.peek() != ",":
            break
        text.take(",")
    text.take("]")
