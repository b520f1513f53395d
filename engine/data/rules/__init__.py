"""The cleaning rules: what each changes or drops, and under which name it counts."""

from engine.data.rules.text import (
    CHANGES,
    DROPS,
    REPAIRS,
    RULES_VERSION,
    Normaliser,
    drop_rules,
    title_key,
)

__all__ = ["CHANGES", "DROPS", "REPAIRS", "RULES_VERSION", "Normaliser", "drop_rules", "title_key"]
