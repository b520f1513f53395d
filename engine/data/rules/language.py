"""Rule ``language``: completions in another language than those that are wanted."""

from typing import Any

from engine.data.rows import Row
from engine.data.rules.row import Verdict
from engine.errors import UserError
from engine.sections.data import LanguageRule

__all__ = ["Language"]

_ENOUGH = 2000
"""Characters looked at: 0.6 ms, and a language is plain after a few hundred."""


class Language:
    """Asks py3langid, whose model of 97 languages is part of its package: nothing is fetched.

    Raises:
        UserError: the package is missing, or has no such language.
    """

    name = "language"
    reasons = ("wrong_language",)

    def __init__(self, rule: LanguageRule) -> None:
        self._identify = _identifier()
        known = set(self._identify.labels)
        if unknown := [code for code in rule.languages if code not in known]:
            raise UserError(
                f"clean.language.languages: no language {unknown[0]!r}; "
                f"there are: {' '.join(sorted(known))}"
            )
        self._wanted = frozenset(rule.languages)
        self._min_probability = rule.min_probability
        self._min_characters = rule.min_characters

    def __call__(self, row: Row) -> Row | Verdict:
        text = row.completion
        if len(text) < self._min_characters:
            return row
        code, probability = self._identify.classify(text[:_ENOUGH])
        if code in self._wanted or probability < self._min_probability:
            return row
        return Verdict("wrong_language", f"{code} ({probability:.2f})")


def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError(
            "rule 'language' needs py3langid, which is not installed: "
            "pip install 'tunebench[language]'"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
