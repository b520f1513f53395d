"""What a cleaning found, as numbers and as the funnel that people read."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["CleanReport", "funnel"]

_DROP_WORDS = {
    "malformed": "not one JSON object",
    "missing_field": "prompt or completion missing",
    "not_text": "prompt or completion not text",
    "empty_prompt": "empty prompt",
    "empty_completion": "empty completion",
    "duplicate_completion": "completion seen before",
    "duplicate_prompt": "prompt seen before",
    "duplicate_both": "prompt and completion seen before",
    "near_duplicate": "nearly a completion seen before",
    "too_short": "too short",
    "too_long": "too long",
    "echo": "completion only repeats the prompt",
    "placeholder": "one phrase again and again, or says nothing",
    "wrong_language": "another language",
    "personal_data": "personal data",
    "python": "the user's own rule",
}
_REPAIR_WORDS = {
    "invalid_utf8": "not UTF-8, read as Windows-1252",
    "lone_surrogate": "half a surrogate pair",
    "nan": "NaN or Infinity",
    "number_overflow": "whole number over 64 bits",
    "duplicate_key": "column twice, last one taken",
    "number_as_text": "number taken as text",
}
_CHANGE_WORDS = {
    "html": "entities and tags",
    "unicode": "Unicode normal form",
    "control": "control and zero-width characters",
    "whitespace": "white space",
    "lowercase": "lower case",
    "personal_data": "masked",
    "python": "the user's own rule",
}


@dataclass
class CleanReport:
    """The counts of one cleaning. Every row read is kept or under one name of ``dropped``."""

    layout: str = "columns"
    """How the source's rows are laid out, one of ``data.layout``."""
    shape: str = "pair"
    """What the rows have, one of :data:`engine.data.rows.SHAPES`."""
    mapping: str = ""
    """Which column was taken for what, in words."""
    rows_read: int = 0
    """Lines that are not blank."""
    rows_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Rule -> rows, in rule order, zeros included."""
    repaired: int = 0
    """Rows that reading had to repair: the sum of ``repairs``."""
    repairs: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    """Rule -> rows of which it changed a text; kept or not."""
    flagged: dict[str, int] = field(default_factory=dict)
    """Kind of personal data -> rows in which it was found."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    """The first changes of every rule: rule, line, before, after."""
    train: int = 0
    validation: int = 0
    test: int = 0
    leakage_before: int = 0
    """Rows of test whose title would occur in train had lines been dealt out at random."""
    leakage_after: int = 0
    """Rows of validation and test whose title or description occurs in train, as written."""
    near_leakage: int = 0
    """Rows of validation and test whose completion is nearly one of train, when asked for."""
    seconds: float = 0.0
    peak_rss_bytes: int = 0
    """Of all processes together, each at its own peak."""
    fingerprint: str = ""
    paths: dict[str, str] = field(default_factory=dict)
    file_repairs: dict[str, int] = field(default_factory=dict)
    """What was wrong with the file as a whole: bom, truncated_gzip, trailing_garbage, ..."""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "CleanReport":
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


def funnel(report: CleanReport) -> list[tuple[str, int, str]]:
    """The report as rows of (name, count, words), from what was read to what is written.

    Names are ``rows_read``, ``dropped.RULE``, ``repaired.KIND``, ``changed.RULE``, ``rows_kept``,
    ``train``, ``validation``, ``test``, ``leakage_before`` and ``leakage_after``.
    """
    rows = [("rows_read", report.rows_read, "lines that are not blank")]
    rows += [
        (f"repaired.{kind}", count, _REPAIR_WORDS.get(kind, ""))
        for kind, count in report.repairs.items()
    ]
    rows += [
        (f"changed.{rule}", count, _CHANGE_WORDS.get(rule, ""))
        for rule, count in report.changed.items()
    ]
    rows += [
        (f"flagged.{kind}", count, "looks like personal data")
        for kind, count in report.flagged.items()
    ]
    rows += [
        (f"dropped.{rule}", count, _DROP_WORDS.get(rule, ""))
        for rule, count in report.dropped.items()
    ]
    rows += [
        ("rows_kept", report.rows_kept, "clean rows"),
        ("train", report.train, "rows"),
        ("validation", report.validation, "rows"),
        ("test", report.test, "rows"),
        (
            "leakage_before",
            report.leakage_before,
            "test titles that a split by line shows in train",
        ),
        *(
            [
                (
                    "near_leakage",
                    report.near_leakage,
                    "validation and test rows nearly the same as one in train",
                )
            ]
            if report.near_leakage
            else []
        ),
        ("leakage_after", report.leakage_after, "validation and test rows seen in train"),
    ]
    return rows
