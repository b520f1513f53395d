"""dev stub"""

from typing import NamedTuple

from engine.data.rules.text import *


class Verdict(NamedTuple):
    reason: str
    evidence: str


class Empty:
    name = "empty"
    reasons = ("empty_prompt", "empty_completion")

    def __call__(self, row):
        if not row.prompt or row.prompt.isspace():
            return Verdict("empty_prompt", "")
        if not row.completion or row.completion.isspace():
            return Verdict("empty_completion", "")
        return row


def make_row_rules(clean, model):
    return [Empty()] if clean.has("empty") else []
