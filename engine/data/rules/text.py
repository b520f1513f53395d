"""The cleaning rules on one text: what each one changes, in the order in which they run.

Every rule leaves clean text alone, and the whole chain is repeated until nothing changes any more,
so cleaning what was cleaned changes nothing.
"""

import re
import unicodedata
from collections.abc import Callable
from html import unescape

from engine.sections.data import TEXT_RULES, CleanSection

__all__ = ["Normaliser", "text_rules", "title_key"]

_MOST_PASSES = 16
"""Nested deeper than this, text is hostile: 100,000 characters take 1 s at most."""
_AMPERSANDS = re.compile(
    r"&(?:(?:amp|AMP);?|#0{0,6}38(?:;|(?![0-9]))|#[xX]0{0,6}26(?:;|(?![0-9a-fA-F])))+"
)
"""``&amp;amp;amp;lt;`` unescaped a level at a time is quadratic; all levels at once are not."""
_TAGS = re.compile(r"(?:<[a-zA-Z/!?][^<>]*>)+")
_INLINE_TAGS = re.compile(
    r"(?:<(?:/?(?:a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span"
    r"|strike|strong|sub|sup|tt|u|var|wbr)(?:[\s/][^<>]*)?|!--[^<>]*--)>)+",
    re.IGNORECASE,
)
"""Tags that may stand in the middle of a word: nothing takes their place."""
_CONTROL = re.compile(
    "["
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # C0 and C1 without white space, DEL
    "\u00ad\u180e\u200b-\u200d\u2060-\u2064\ufeff"  # zero-width
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # bidirectional controls
    "\U000e0000-\U000e007f"  # tags: invisible letters
    "]+"
)


def _space_between(match: re.Match[str]) -> str:
    # No second space beside one that is there, so that removing markup is no white-space change.
    text, start, end = match.string, match.start(), match.end()
    if not start or end == len(text) or text[start - 1].isspace() or text[end].isspace():
        return ""
    return " "


def html(text: str) -> str:
    """Entities unescaped and tags removed, again and again until none is left."""
    if "&" not in text and "<" not in text:
        return text
    for _ in range(_MOST_PASSES):
        new = text
        if "&" in new:
            new = unescape(_AMPERSANDS.sub("&", new))
        if "<" in new:
            new = _TAGS.sub(_space_between, _INLINE_TAGS.sub("", new))
        if new == text:
            return text
        text = new
    return html(text.replace("<", " "))  # tags nested by the hundred are no prose


def control(text: str) -> str:
    """Without control characters, zero-width characters and bidirectional controls."""
    # None of them is printable. Line ends are not either, but common; the search takes 6 µs.
    if text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable():
        return text
    return _CONTROL.sub("", text)


def whitespace(text: str) -> str:
    """Every run of Unicode white space as one space, none at the ends."""
    return " ".join(text.split())


def title_key(title: str) -> str:
    """What makes two titles the same: case and white space do not count."""
    if title.isascii():
        return " ".join(title.lower().split())
    return " ".join(unicodedata.normalize("NFC", title.casefold()).split())


class Normaliser:
    """The rules of a recipe that change texts, as one function of a text."""

    def __init__(self, clean: CleanSection) -> None:
        form = clean.unicode.form
        known: dict[str, Callable[[str], str]] = {
            "html": html,
            "unicode": lambda text: text if text.isascii() else unicodedata.normalize(form, text),
            "control": control,
            "whitespace": whitespace,
            "lowercase": str.lower,
        }
        self.names = text_rules(clean)
        self._steps = [(name, known[name]) for name in self.names]
        self._lowercase = clean.has("lowercase")
        self._form = form

    def is_clean(self, text: str) -> bool:
        """A quick yes for text that no rule touches (2 µs for 800 characters)."""
        return (
            "<" not in text
            and "&" not in text
            and text.isprintable()
            and "  " not in text
            and text[:1] != " "
            and text[-1:] != " "
            and (text.isascii() or unicodedata.is_normalized(self._form, text))
            and not (self._lowercase and text != text.lower())
        )

    def apply(self, text: str, changed: set[str]) -> str:
        """The clean text; the names of the rules that changed it are added to ``changed``."""
        if self.is_clean(text):
            return text
        return self.work(text, changed)

    def work(self, text: str, changed: set[str]) -> str:
        """:meth:`apply` to a text that is known not to be clean."""
        for _ in range(_MOST_PASSES):
            before = text
            last = ""
            for name, step in self._steps:
                new = step(text)
                if new != text:
                    changed.add(name)
                    text, last = new, name if not last else "several"
            # White space alone never makes work for another rule.
            if last == "whitespace" or text == before or self.is_clean(text):
                break
        return text

    def alone(self, rule: str, text: str) -> str:
        """What one rule makes of a text."""
        return dict(self._steps)[rule](text)


def text_rules(clean: CleanSection) -> tuple[str, ...]:
    """The rules that change texts and are on, in their order."""
    return tuple(name for name in clean.rules if name in TEXT_RULES)
