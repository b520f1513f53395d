"""The cleaning rules of a recipe while they are edited: which are on, in which order, how."""

import typing
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from engine.sections.data import ROW_RULES, SET_RULES, TEXT_RULES, CleanSection

__all__ = ["READING", "STAGES", "RuleSheet", "rule_of"]

READING = "reading"
"""What stands for reading itself in a list of rules: it cannot be switched off."""
STAGES = (
    ("change texts", TEXT_RULES),
    ("look at one row", ROW_RULES),
    ("compare rows", SET_RULES),
)
WORDS = {
    READING: "rows that cannot be read, or have no text where one is needed",
    "html": "entities become characters, tags go",
    "unicode": "one spelling for what looks the same",
    "control": "control and zero-width characters go",
    "whitespace": "one space between words, none around",
    "lowercase": "everything in lower case",
    "empty": "rows without prompt or completion",
    "length": "rows that are too short or too long",
    "echo": "the completion only repeats the prompt",
    "placeholder": "one phrase again and again, or says nothing",
    "language": "the completion is in another language",
    "personal_data": "e-mail addresses, phone and card numbers",
    "python": "a function of your own",
    "duplicates": "exactly the same again; the first one stays",
    "near_duplicates": "nearly the same again; the first one stays",
}
_RULES = {
    "malformed": READING,
    "missing_field": READING,
    "not_text": READING,
    "empty_prompt": "empty",
    "empty_completion": "empty",
    "too_short": "length",
    "too_long": "length",
    "wrong_language": "language",
    "near_duplicate": "near_duplicates",
}


def rule_of(reason: str) -> str:
    """The rule that drops rows for a reason."""
    return "duplicates" if reason.startswith("duplicate_") else _RULES.get(reason, reason)


class RuleSheet:
    """Every rule there is, in the order in which they run. Options are texts until checked."""

    def __init__(self, clean: CleanSection) -> None:
        self.on = set(clean.rules)
        self._stages = [
            [name for name in clean.rules if name in names]
            + [name for name in names if name not in clean.rules]
            for _, names in STAGES
        ]
        self._values = {
            (rule, key): _text(getattr(getattr(clean, rule), key))
            for stage in self._stages
            for rule in stage
            for key in self.options(rule)
        }

    @property
    def stages(self) -> list[tuple[str, list[str]]]:
        """(what a stage's rules do, its rules in order)."""
        titles = [title for title, _ in STAGES]
        return list(zip(titles, self._stages, strict=True))

    def toggle(self, rule: str) -> None:
        if rule in self.on:
            self.on.discard(rule)
        elif rule != READING:
            self.on.add(rule)

    def move(self, rule: str, by: int) -> bool:
        """One place earlier (``by`` < 0) or later within its stage; False: it cannot."""
        for stage in self._stages:
            if rule in stage:
                at = stage.index(rule)
                to = at + (1 if by > 0 else -1)
                if not 0 <= to < len(stage):
                    return False
                stage[at], stage[to] = stage[to], stage[at]
                return True
        return False

    # --- options

    @staticmethod
    def options(rule: str) -> dict[str, Any]:
        """Key -> pydantic's field of every option of a rule."""
        field = CleanSection.model_fields.get(rule)
        fields = getattr(field.annotation, "model_fields", None) if field else None
        return dict(fields) if fields else {}

    @classmethod
    def choices(cls, rule: str, key: str) -> tuple[str, ...]:
        """The only values that an option can have; none: it is free."""
        kind = cls.options(rule)[key].annotation
        return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()

    @classmethod
    def hint(cls, rule: str, key: str) -> str:
        """What an option means and how it is written."""
        field = cls.options(rule)[key]
        words = str(field.description or "")
        if get_origin(field.annotation) is list:
            inner = get_args(field.annotation)[0]
            of = f" of {', '.join(get_args(inner))}" if get_origin(inner) is Literal else ""
            words += f" (separated by {_separator(key)}{of})"
        return words

    def value(self, rule: str, key: str) -> str:
        return self._values[rule, key]

    def put(self, rule: str, key: str, text: str) -> bool:
        """Set an option as it was typed; False: it was that already."""
        if self._values[rule, key] == text:
            return False
        self._values[rule, key] = text
        return True

    # --- what comes of it

    def checked(self) -> tuple[CleanSection | None, dict[tuple[str, str], str]]:
        """The section, or what is wrong: (rule, option; "" for the rule as a whole) -> words."""
        tree: dict[str, Any] = {
            "rules": [rule for stage in self._stages for rule in stage if rule in self.on]
        }
        for (rule, key), text in self._values.items():
            tree.setdefault(rule, {})[key] = self._parsed(rule, key, text)
        try:
            return CleanSection.model_validate(tree), {}
        except ValidationError as failure:
            wrong: dict[tuple[str, str], str] = {}
            for error in failure.errors():
                place = [str(part) for part in error["loc"]]
                words = error["msg"].removeprefix("Value error, ")
                if not place or place[0] == "rules":
                    # What belongs to the whole section names its rule in quotes.
                    rule = next((name for name in self.on if repr(name) in words), "")
                    key = "file" if rule == "python" else ""
                else:
                    rule, key = place[0], place[1] if len(place) > 1 else ""
                wrong.setdefault((rule, key), words)
            return None, wrong

    def _parsed(self, rule: str, key: str, text: str) -> Any:
        kind = self.options(rule)[key].annotation
        if get_origin(kind) is list:
            return [part.strip() for part in text.split(_separator(key)) if part.strip()]
        return text if kind is str or typing.get_origin(kind) is Literal else text.strip()


def _separator(key: str) -> str:
    return "|" if key == "phrases" else ","


def _text(value: Any) -> str:
    if isinstance(value, list):
        return (
            ", ".join(map(str, value))
            if not any("," in each for each in value)
            else (" | ".join(map(str, value)))
        )
    return f"{value:g}" if isinstance(value, float) else str(value)
