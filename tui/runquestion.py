"""The question that the Runs screen's filter asks: parsed while it is written, answered at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.history.completion import complete
from engine.history.fields import FIELDS, names_of_keys
from engine.history.question import Question, parse

if TYPE_CHECKING:
    from engine.history.row import RunRow
    from tui.feed import Snapshot

__all__ = ["Asked"]

NOTHING = parse("")
_BEGUN = re.compile(r"[<>=~:].*\s(\w+)$")


@dataclass
class Asked:
    """What was written so far, and the last question that it was."""

    text: str = ""
    question: Question = NOTHING
    error: str = ""
    """Why ``text`` is no question yet, or none at all; the one before goes on counting."""
    looked_up: bool = True
    """False while its full-text searches are under way."""

    def write(self, text: str, snapshot: "Snapshot") -> None:
        """Take what is written now."""
        self.text = text
        if _begins_a_field(text, snapshot):
            return  # the one before counts until it is written
        try:
            question = parse(text, snapshot.facts.settings.keys)
        except UserError as error:
            self.error = str(error)
            return
        self.error = ""
        if question.text != self.question.text:
            self.question = question
            self.looked_up = not question.searches

    def select(self, snapshot: "Snapshot") -> "Sequence[RunRow]":
        """The runs that it asks for, newest first."""
        if self.question is NOTHING and not snapshot.archived:
            return snapshot.rows
        return self.question.select(snapshot.rows, snapshot.facts)

    def ways_on(self, snapshot: "Snapshot") -> list[tuple[str, str, str]]:
        """How it may go on: (the whole question so, the word, what it is)."""
        found = complete(self.text, snapshot.rows, snapshot.facts)
        return [(way.text, way.word, way.help) for way in found]


def _begins_a_field(text: str, snapshot: "Snapshot") -> bool:
    """Behind a comparison stands the beginning of ``and``, a field or key, and no more yet."""
    match = _BEGUN.search(text)
    if match is None:
        return False
    names = (
        "and",
        "or",
        "not",
        *(one.name for one in FIELDS),
        *names_of_keys(snapshot.facts.settings.keys),
    )
    return any(name.startswith(match[1].lower()) for name in names)
