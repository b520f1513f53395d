"""Data: where rows come from, how they are cleaned, split and put into words for the model."""

import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.builtin import BUILTIN_CATALOGUE
from engine.sections import Section

__all__ = [
    "DEFAULT_RULES",
    "ROW_RULES",
    "SET_RULES",
    "TEXT_RULES",
    "CleanSection",
    "DataSection",
    "DuplicatesRule",
    "FormatSection",
    "LanguageRule",
    "LengthRule",
    "NearDuplicatesRule",
    "PersonalDataRule",
    "PlaceholderRule",
    "PythonRule",
    "SplitSection",
    "UnicodeRule",
]

LAYOUTS = ("columns", "alpaca", "sharegpt", "messages", "prompt-completion", "text")


class DataSection(Section):
    """Where the rows come from and how they make an example."""

    source: str = Field(
        BUILTIN_CATALOGUE,
        description="a file, a folder of files, a hub dataset id, - for standard input, or "
        f"{BUILTIN_CATALOGUE!r}",
    )
    name: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        description="name of the cleaned dataset; default: the source's file name",
    )
    layout: Literal[
        "auto", "columns", "alpaca", "sharegpt", "messages", "prompt-completion", "text"
    ] = Field("auto", description="how a row makes an example; auto: recognised by its columns")
    prompt_column: str = Field("", description="column that the model is given; empty: recognised")
    completion_column: str = Field(
        "", description="column that the model shall write; empty: recognised"
    )
    encoding: str = Field("auto", description="of text files; auto: by the bytes themselves")
    delimiter: str = Field("auto", description="between the fields of a CSV file; auto: recognised")
    revision: str = Field("", description="of a hub dataset; default: the main branch")
    subset: str = Field("", description="configuration of a hub dataset; default: its only one")
    hub_split: str = Field("train", description="split of a hub dataset that is read")
    catalogue_rows: int = Field(
        20_000, ge=1, le=100_000_000, description="lines the built-in catalogue is made with"
    )
    catalogue_seed: int = Field(0, ge=0, description="seed of the built-in catalogue")


TEXT_RULES = ("html", "unicode", "control", "whitespace", "lowercase")
"""Rules that change texts; they are repeated until nothing changes any more."""
ROW_RULES = ("empty", "length", "echo", "placeholder", "language", "personal_data", "python")
"""Rules that look at one row: they drop it, or (personal_data, python) change it."""
SET_RULES = ("duplicates", "near_duplicates")
"""Rules that compare a row with those before it."""
DEFAULT_RULES = ("html", "unicode", "control", "whitespace", "empty", "duplicates")
_STAGE = {name: stage for stage, names in enumerate((TEXT_RULES, ROW_RULES, SET_RULES))
          for name in names}  # fmt: skip
_STAGES = ("changes texts", "looks at one row", "compares rows")


class UnicodeRule(Section):
    """Rule ``unicode``: one spelling for what looks the same."""

    form: Literal["NFC", "NFKC"] = Field("NFC", description="Unicode normal form")


class LengthRule(Section):
    """Rule ``length``: rows that are too short or too long."""

    of: Literal["completion", "prompt", "both"] = Field(
        "completion", description="which text; prompt: all that is given, with a row's instruction"
    )
    unit: Literal["characters", "tokens"] = Field(
        "characters", description="tokens: of model.model_name_or_path's tokenizer"
    )
    min: int = Field(1, ge=0, description="shorter ones are dropped")
    max: int = Field(0, ge=0, description="longer ones are dropped; 0: no limit")

    @model_validator(mode="after")
    def _some_room(self) -> Self:
        if self.max and self.max < self.min:
            raise ValueError(f"max ({self.max}) is below min ({self.min})")
        return self


class PlaceholderRule(Section):
    """Rule ``placeholder``: completions that repeat one phrase, or are known to say nothing."""

    repeats: int = Field(
        4, ge=2, description="a completion that is one phrase this many times over is dropped"
    )
    phrases: list[str] = Field(
        [],
        description="further completions that say nothing; case, white space and punctuation "
        "do not count",
    )


class LanguageRule(Section):
    """Rule ``language``: rows whose completion is in another language."""

    languages: list[str] = Field(
        ["en"], min_length=1, description="two-letter codes (ISO 639-1) of those that are kept"
    )
    min_probability: float = Field(
        0.9, ge=0, le=1, description="how sure of another language one must be to drop a row"
    )
    min_characters: int = Field(
        40, ge=1, description="shorter texts are kept: nobody can tell their language"
    )


class PersonalDataRule(Section):
    """Rule ``personal_data``: patterns of e-mail addresses, phone and card numbers."""

    kinds: list[Literal["email", "phone", "card"]] = Field(
        ["email", "phone", "card"], min_length=1, description="what is looked for"
    )
    action: Literal["flag", "mask", "drop"] = Field(
        "flag", description="flag: count only; mask: put [EMAIL], [PHONE], [CARD] there; drop"
    )


class PythonRule(Section):
    """Rule ``python``: a function of the user's own."""

    file: str = Field("", description="Python file; it is run on this machine, as you")
    function: str = Field(
        "rule",
        pattern=r"^[A-Za-z_]\w*$",
        description="function(prompt, completion): None or True keeps the row, False or a reason "
        "(text) drops it, a pair of texts replaces it",
    )


class DuplicatesRule(Section):
    """Rule ``duplicates``: exactly the same again; the first one stays."""

    by: Literal["completion", "prompt", "both"] = Field(
        "completion", description="what makes two rows duplicates"
    )


class NearDuplicatesRule(Section):
    """Rule ``near_duplicates``: nearly the same completion again; the first one stays."""

    threshold: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="from which similarity on two are near: the share of their words and pairs of "
        "neighbouring words that both have (Jaccard)",
    )
    action: Literal["drop", "count"] = Field(
        "drop", description="count: only say how many lie on both sides of the split"
    )


class CleanSection(Section):
    """Which rules run, in which order; each counts what it changed and dropped.

    First rules that change texts, then rules that look at one row, then rules that compare rows:
    only so does cleaning what was cleaned change nothing.
    """

    rules: list[str] = Field(list(DEFAULT_RULES), description="names of rules, in their order")
    unicode: UnicodeRule = UnicodeRule()
    length: LengthRule = LengthRule()
    placeholder: PlaceholderRule = PlaceholderRule()
    language: LanguageRule = LanguageRule()
    personal_data: PersonalDataRule = PersonalDataRule()
    python: PythonRule = PythonRule()
    duplicates: DuplicatesRule = DuplicatesRule()
    near_duplicates: NearDuplicatesRule = NearDuplicatesRule()

    def has(self, rule: str) -> bool:
        return rule in self.rules

    @field_validator("rules")
    @classmethod
    def _known_and_in_order(cls, rules: list[str]) -> list[str]:
        last = ""
        for name in rules:
            if name not in _STAGE:
                raise ValueError(f"no rule {name!r}; there are: {', '.join(_STAGE)}")
            if rules.count(name) > 1:
                raise ValueError(f"{name!r} is there twice")
            if last and _STAGE[name] < _STAGE[last]:
                raise ValueError(
                    f"{name!r} {_STAGES[_STAGE[name]]} and must come before {last!r}, which "
                    f"{_STAGES[_STAGE[last]]}"
                )
            last = name
        return rules

    @model_validator(mode="after")
    def _python_has_a_file(self) -> Self:
        if self.has("python") and not self.python.file:
            raise ValueError("rule 'python' needs a file: set clean.python.file")
        return self


class SplitSection(Section):
    """Sizes of the three splits: all three shares (below 1) or all three counts; none is 0."""

    train: float = Field(0.9, gt=0, description="rows (a whole number) or share of the clean rows")
    validation: float = Field(0.05, gt=0, description="rows or share; early stopping uses it")
    test: float = Field(0.05, gt=0, description="rows or share; only ever reported")
    seed: int = Field(3407, ge=0, description="seed of the hash that decides a title's side")

    @property
    def by_count(self) -> bool:
        return self.train >= 1

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        if len({size >= 1 for size in sizes.values()}) > 1:
            raise ValueError(f"give all three as counts or all three as shares, not {sizes}")
        if self.by_count:
            if broken := [name for name, size in sizes.items() if size != int(size)]:
                raise ValueError(f"{broken[0]} is a count and must be a whole number")
        elif sum(sizes.values()) > 1.000001:
            raise ValueError(f"the shares add up to {sum(sizes.values()):g}, more than 1")
        return self


class FormatSection(Section):
    """How a row becomes the text that the model sees."""

    template: Literal["alpaca", "chat", "plain"] = Field(
        "alpaca",
        description="alpaca: the instruction-following layout; chat: the tokenizer's own chat "
        "template; plain: instruction, prompt and completion on lines of their own",
    )
    instruction: str = Field(
        "Write a product description for this title.",
        description="the instruction that goes before every prompt; may be empty",
    )
    system: str = Field("", description="system message (chat template only); may be empty")
    chat_template: str = Field(
        "",
        description="a chat template instead of the tokenizer's own: Jinja text, a .jinja file, or "
        "a tokenizer's folder (chat template only); kept with the run and saved with the tokenizer",
    )
    date: str = Field(
        "",
        description="today for chat templates that write the date, as 2026-01-31; empty: the day "
        "on which the run is made",
    )

    @field_validator("date")
    @classmethod
    def _an_iso_date(cls, date: str) -> str:
        try:
            return datetime.date.fromisoformat(date).isoformat() if date else ""
        except ValueError:
            raise ValueError("write it as year-month-day, e.g. 2026-01-31") from None

    @model_validator(mode="after")
    def _system_is_used(self) -> Self:
        if self.system and self.template != "chat":
            raise ValueError(f'system is for template = "chat" only, not {self.template!r}')
        if self.chat_template and self.template != "chat":
            raise ValueError(f'chat_template is for template = "chat", not {self.template!r}')
        return self
