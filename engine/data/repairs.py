"""What reading puts right in a row, by name."""

__all__ = ["REPAIRS"]

REPAIRS = (
    "invalid_utf8",
    "lone_surrogate",
    "nan",
    "number_overflow",
    "duplicate_key",
    "number_as_text",
)
"""A row counts under the first that applies, dropped later or not."""
