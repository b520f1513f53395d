"""Token ids of texts in which special tokens come from the format only, never from a row.

Where a row's text spells a special token out (``<|eot_id|>``), that spelling is escaped before the
text is formatted, and the result is tokenised piece by piece with the spelling as plain text.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from engine.data.tokenizer_files import TokenizerFiles

if TYPE_CHECKING:
    from tokenizers import Encoding

__all__ = ["Encoder", "Part", "Text"]

_PRIVATE = range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE)
"""Private-use characters: no tokenizer and no template has a meaning for them."""


class Text(NamedTuple):
    """A stretch of a row's text that is trained as a whole, or not at all."""

    text: str
    trained: bool
    special: list[tuple[int, int]] | None = None
    """Where special tokens are, all others being plain text; None: wherever they are spelled."""


class Part(NamedTuple):
    """The tokens of a text, and their places in it where those were asked for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Encoder:
    """One tokenizer, with an eye on its special tokens."""

    def __init__(self, files: TokenizerFiles) -> None:
        self.tokenizer = files.tokenizer
        self.special = {
            token.content: number
            for number, token in files.tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content
        }
        """Text -> id."""
        longest_first = sorted(self.special, key=len, reverse=True)
        self._pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._spelled = re.compile(self._pattern)
        self._first_characters = {token[0] for token in self.special}

    def spells_special(self, text: str) -> bool:
        return (
            any(character in text for character in self._first_characters)
            and self._spelled.search(text) is not None
        )

    def escape(
        self, texts: Iterable[str]
    ) -> tuple[Callable[[str], str], Callable[[str, bool], Text]]:
        """Two functions: one that hides special tokens spelled in ``texts``, one that shows them.

        The first is for the texts before they are formatted, the second for what the format makes
        of them.
        """
        used = set(chain.from_iterable(texts))
        mark = next(chr(n) for n in chain(*_PRIVATE) if chr(n) not in used)
        numbers = {token: f"{mark}{number}{mark}" for number, token in enumerate(self.special)}
        tokens = {hidden: token for token, hidden in numbers.items()}
        either = re.compile(f"({mark}[0-9]+{mark})|({self._pattern})")

        def hide(text: str) -> str:
            return self._spelled.sub(lambda match: numbers[match.group()], text)

        def show(formatted: str, trained: bool) -> Text:
            pieces: list[str] = []
            special: list[tuple[int, int]] = []
            done = length = 0
            for match in either.finditer(formatted):
                piece = tokens.get(match.group(), match.group())
                pieces += [formatted[done : match.start()], piece]
                length += match.start() - done + len(piece)
                if match.group(2):
                    special.append((length - len(piece), length))
                done = match.end()
            return Text("".join(pieces) + formatted[done:], trained, special)

        return hide, show

    def encode(self, texts: Sequence[Text], places: bool) -> list[Part]:
        """Tokens of every text, on all cores; without ``places`` offsets are empty."""
        plain = [text.text for text in texts if text.special is None]
        batch = (self.tokenizer.encode_batch if places else self.tokenizer.encode_batch_fast)(
            plain, add_special_tokens=False
        )
        encodings = iter(batch)
        parts = []
        for text in texts:
            if text.special is not None:
                parts.append(self._apart(text.text, text.special))
                continue
            encoding = next(encodings)
            parts.append(Part(encoding.ids, encoding.offsets if places else []))
        return parts

    def encode_heads(self, texts: Sequence[Text], rooms: Sequence[int]) -> list[Part]:
        """As :meth:`encode` without places, but of long texts only what more than fills a room."""
        if not self._words_apart:
            return self.encode(texts, False)
        heads = [
            text if text.special is not None else text._replace(text=_head(text.text, room))
            for text, room in zip(texts, rooms, strict=True)
        ]
        parts = self.encode(heads, False)
        again = [
            place
            for place, part in enumerate(parts)
            if len(heads[place].text) < len(texts[place].text) and len(part.ids) <= rooms[place]
        ]
        for place, part in zip(again, self.encode([texts[n] for n in again], False), strict=True):
            parts[place] = part
        return parts

    @cached_property
    def _words_apart(self) -> bool:
        """Whether the tokenizer never joins what lies on both sides of a space."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        if any(character.isspace() for token in added for character in token.content):
            return False
        before = self.tokenizer.pre_tokenizer
        return before is not None and [span for _, span in before.pre_tokenize_str("ab cd")] == [
            (0, 2),
            (2, 5),
        ]

    def _apart(self, text: str, special: list[tuple[int, int]]) -> Part:
        """The text between two special tokens is one piece, as for the tokenizer itself."""
        part = Part([], [])
        done = 0
        for start, end in [*special, (len(text), len(text))]:
            if done < start:
                encoding = self._encode_plain(text[done:start])
                part.ids.extend(encoding.ids)
                part.offsets.extend((a + done, b + done) for a, b in encoding.offsets)
            if start < end:
                part.ids.append(self.special[text[start:end]])
                part.offsets.append((start, end))
            done = end
        return part

    def _encode_plain(self, text: str) -> "Encoding":
        self.tokenizer.encode_special_tokens = True
        try:
            return self.tokenizer.encode(text, add_special_tokens=False)
        finally:
            self.tokenizer.encode_special_tokens = False


def _head(text: str, tokens: int) -> str:
    """A beginning of ``text`` that ends before a lone space, most likely of ``tokens`` tokens."""
    most = max(256, 8 * tokens)
    if len(text) <= most:
        return text
    at = text.rfind(" ", 1, most)
    while at > 0 and (text[at - 1].isspace() or text[at + 1].isspace()):
        at = text.rfind(" ", 1, at)
    return text[:at] if at > 0 else text
