"""The cleaning rules: what each changes or drops, and under which name it counts.

``text``: rules that change one text; ``row_rules``: rules that look at one row; ``near``: what
nearly repeats another. Exact repetition is decided in ``engine.data.repeats``.
"""

from engine.data.rules.row import RowRule, Verdict
from engine.data.rules.row_rules import make_row_rules, rule_versions
from engine.data.rules.text import Normaliser, text_rules, title_key
from engine.sections.data import CleanSection

__all__ = [
    "Normaliser",
    "RowRule",
    "Verdict",
    "changing_rules",
    "drop_reasons",
    "make_row_rules",
    "rule_versions",
    "text_rules",
    "title_key",
]


def changing_rules(clean: CleanSection) -> tuple[str, ...]:
    """The rules that are on and change rows, in their order."""
    masks = clean.personal_data.action == "mask"
    return (
        *text_rules(clean),
        *(name for name in clean.rules if name == "python" or (name == "personal_data" and masks)),
    )


def drop_reasons(clean: CleanSection, row_rules: list[RowRule]) -> tuple[str, ...]:
    """The names under which rows are dropped, in the order of the questions."""
    reasons = ["malformed", "missing_field", "not_text"]
    for rule in row_rules:
        reasons += rule.reasons
    if clean.has("duplicates"):
        reasons.append(f"duplicate_{clean.duplicates.by}")
    if clean.has("near_duplicates") and clean.near_duplicates.action == "drop":
        reasons.append("near_duplicate")
    return tuple(reasons)
