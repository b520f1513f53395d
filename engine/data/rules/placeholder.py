"""Rule ``placeholder``: completions that stand for a text that nobody wrote."""

from engine.data.rows import Row
from engine.data.rules.fold import fold
from engine.data.rules.row import Verdict, cut
from engine.sections.data import PlaceholderRule

__all__ = ["NOTHING_SAID", "Placeholder"]

NOTHING_SAID = (
    "n/a", "not applicable", "not available", "none", "none given", "none provided", "null", "nil",
    "nan", "undefined", "no content", "no text", "no data", "no info", "no information",
    "no information available", "no details", "no details available", "no description",
    "no description available", "no description provided", "no description given",
    "no product description", "no product description available", "description not available",
    "product description not available", "description unavailable", "there is no description",
    "there is no description for this product", "this product has no description",
    "description", "product description", "item description", "enter description here",
    "insert description here", "add description here", "description here", "description goes here",
    "product description here", "your text here", "text here",
    "tbd", "tba", "tbc", "to be determined", "to be announced", "to be confirmed", "to be added",
    "to be updated", "to come", "todo", "to do", "fixme", "work in progress",
    "under construction", "coming soon", "description coming soon", "details coming soon",
    "more information coming soon", "more info coming soon", "more details to follow",
    "see title", "see the title", "same as title", "as title", "as in title", "per title",
    "title says it all", "see above", "see below", "see description", "see product description",
    "see details", "see picture", "see pictures", "see photo", "see photos", "see image",
    "see images", "as described", "as shown", "as pictured", "see store for details",
    "test", "testing", "test test", "testing testing", "just a test", "this is a test",
    "test test test", "testing 123", "test item", "test product", "test description", "test text",
    "test item not to bid", "test item do not bid", "test listing", "do not bid", "do not buy",
    "sample text", "sample description", "example text", "dummy", "dummy text", "dummy description",
    "placeholder", "placeholder text", "this is a placeholder", "lorem ipsum",
    "asdf", "qwerty", "foo", "foo bar", "xxx", "deleted", "removed",
)  # fmt: skip
"""Compared as a whole, case, white space and punctuation apart."""
_LOREM = "loremipsumdolorsit"
_RULES = frozenset(".,;:-–—_*?!…/\\|#~=•· \t\r\n\u00a0")
"""Punctuation that people draw lines with. Other symbols may be an answer: "👍", "+"."""
_SHORTEST_NUMBER = 12
"""Digits. A shorter number of one digit, e.g. 1111, may be an answer."""


class Placeholder:
    """One phrase over and over, a known text that says nothing, or dots and dashes only."""

    name = "placeholder"
    reasons = ("placeholder",)

    def __init__(self, rule: PlaceholderRule) -> None:
        self._repeats = rule.repeats
        phrases = (*NOTHING_SAID, *rule.phrases)
        self._known = {folded for phrase in phrases if (folded := fold(phrase))}
        self._longest = max(map(len, self._known))
        # Of a phrase like "???" nothing is left to compare: these as they are.
        self._marks = {"".join(phrase.split()) for phrase in rule.phrases if not fold(phrase)}

    def __call__(self, row: Row) -> Row | Verdict:
        evidence = self._evidence(row.completion)
        return row if evidence is None else Verdict("placeholder", evidence)

    def _evidence(self, text: str) -> str | None:
        folded = fold(text)
        if not folded:
            if not (marks := "".join(text.split())):
                return None  # that is the rule "empty"'s
            return cut(text) if marks in self._marks or _RULES.issuperset(marks) else None
        if len(folded) <= self._longest and folded in self._known:
            return cut(text)
        if folded.startswith(_LOREM):
            return "lorem ipsum"
        if length := _phrase(folded, self._repeats):
            if folded.isdigit() and len(folded) < _SHORTEST_NUMBER:
                return None
            return f'"{cut(_beginning(text, length))}" {len(folded) // length} times'
        return None


def _phrase(folded: str, repeats: int) -> int:
    """The length of the phrase that the text repeats, the last time perhaps cut off; 0: none.

    Linear: if a phrase of at most n/repeats letters fills the text, the text without that many
    letters at its end occurs once more, at the phrase's length. The first place where it does is
    the only one to try, as two phrases that short would have to be made of one shorter still.
    """
    size = len(folded)
    longest = size // repeats
    probe = folded[: size - longest]
    if not longest or folded.find(probe[:8], 1, longest + 8) < 0:
        return 0
    length = folded.find(probe, 1)
    if length < 0 or folded[length:] != folded[:-length]:
        return 0
    return length


def _beginning(text: str, letters: int) -> str:
    """As much of the text as has so many letters and digits, up to 200 characters."""
    count = 0
    for end, character in enumerate(text[:200], 1):
        count += len(fold(character))
        if count >= letters:
            return text[:end]
    return text[:200]
