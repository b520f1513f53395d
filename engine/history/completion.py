"""How a half-written question may go on: fields, recipe keys, and the values that there are."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.history.fields import FIELDS, OTHERS, Facts, names_of_keys
from engine.history.question import _HAS, _IS, STATES
from engine.history.row import RunRow

__all__ = ["Completion", "complete"]

MOST = 40
_LAST = re.compile(r"""(?:^|[\s(])(?:([A-Za-z_][\w.]*)(<=|>=|!=|<|>|=|~|:))?("[^"]*|[^\s()"]*)$""")
_KEYWORDS = ("and", "or", "not")


@dataclass(frozen=True)
class Completion:
    """One way to go on."""

    text: str
    """The whole question with it."""
    word: str
    """What would be put in, for a list."""
    help: str = ""


def complete(text: str, rows: Sequence[RunRow], facts: Facts) -> list[Completion]:
    """Ways to go on from the end of ``text``, the likeliest first; at most 40."""
    match = _LAST.search(text)
    if match is None:
        return []
    field, op, begun = match[1], match[2], match[3]
    head = text[: match.start(3)]
    if op:
        wanted = begun.lstrip('"').lower()
        words = [(word, "") for word in _values(field.lower(), rows, facts)]
    else:
        wanted = begun.lower()
        words = _names(facts) if begun else []
        if head.strip() and not head.rstrip().endswith("(") and not begun:
            words = [(word, "") for word in _KEYWORDS[:2]]
    starts = [(word, help) for word, help in words if word.lower().startswith(wanted)]
    inside = [(word, help) for word, help in words if wanted in word.lower()]
    found = dict([*reversed(inside), *reversed(starts)])
    ordered = [*dict.fromkeys(word for word, _ in (*starts, *inside))]
    return [
        Completion(head + (_quoted(word) if op else word), word, found[word])
        for word in ordered[:MOST]
        if word.lower() != wanted
    ]


def _quoted(word: str) -> str:
    return f'"{word}"' if re.search(r"[\s()]", word) else word


def _names(facts: Facts) -> list[tuple[str, str]]:
    fields = [(one.name, one.words) for one in FIELDS]
    others = [
        ("is:", "starred, archived, live, ended, a state"),
        ("has:", "note, tag, parent, sweep, error, adapter"),
        ("text:", "in names, notes, prompts, errors and the ends of bad logs"),
        *((f"{name}:", "the full-text search, only there") for name in OTHERS[4:]),
    ]
    keys = [(short, key) for short, key in sorted(names_of_keys(facts.settings.keys).items())]
    return [*fields, *others, *keys, *((word, "") for word in _KEYWORDS)]


def _values(field: str, rows: Sequence[RunRow], facts: Facts) -> Iterable[str]:
    """What there is of a field, the most frequent first."""
    if field == "is":
        return [*_IS, *STATES]
    if field == "has":
        return [*_HAS]
    if field == "state":
        return STATES
    counts: dict[str, int] = {}
    if field in ("tag", "tags"):
        for tags in facts.tags.values():
            for tag in tags:
                counts[tag] = counts.get(tag, 0) + 1
    else:
        try:
            from engine.errors import UsageError
            from engine.history.fields import field_named

            value = field_named(field, facts.settings.keys).value
        except UsageError:
            return []
        for row in rows:
            found = value(row, facts)
            if isinstance(found, str | int | float) and found == found:
                word = f"{found:g}" if isinstance(found, float) else str(found)
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))
