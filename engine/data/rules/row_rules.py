"""The rules that look at one row, as a recipe switches them on."""

import hashlib
from importlib.metadata import PackageNotFoundError, version

from engine.data.rules.echo import Echo
from engine.data.rules.length import Empty, Length
from engine.data.rules.personal_data import PersonalData
from engine.data.rules.placeholder import Placeholder
from engine.data.rules.python import Python, file_digest
from engine.data.rules.row import RowRule
from engine.sections.data import ROW_RULES, CleanSection

__all__ = ["make_row_rules", "rule_versions"]


def make_row_rules(
    clean: CleanSection, model_name_or_path: str, shape: str = "pair"
) -> list[RowRule]:
    """The row rules of a recipe in its order.

    Args:
        clean: the recipe's section.
        model_name_or_path: whose tokenizer counts tokens, where the length is one in tokens.
        shape: of the dataset, one of :data:`engine.data.rows.SHAPES`: "text" has no prompts.

    Raises:
        UserError: a rule cannot work here (a package, a file, a tokenizer is missing).
    """
    return [
        _make(name, clean, model_name_or_path, shape) for name in clean.rules if name in ROW_RULES
    ]


def _make(name: str, clean: CleanSection, model_name_or_path: str, shape: str) -> RowRule:
    if name == "empty":
        return Empty(shape)
    if name == "length":
        return Length(clean.length, model_name_or_path, shape)
    if name == "echo":
        return Echo()
    if name == "placeholder":
        return Placeholder(clean.placeholder)
    if name == "language":
        from engine.data.rules.language import Language

        return Language(clean.language)
    if name == "personal_data":
        return PersonalData(clean.personal_data)
    assert name == "python", name
    return Python(clean.python, shape)


def rule_versions(clean: CleanSection, model_name_or_path: str) -> dict[str, str]:
    """What decides about rows beside the recipe and our own code: rule -> version or digest.

    Only of rules that are on. Raises :class:`UserError` like :func:`make_row_rules`.
    """
    versions = {}
    if clean.has("length") and clean.length.unit == "tokens":
        from engine.data.tokenizer_files import load_tokenizer_files

        tokenizer = load_tokenizer_files(model_name_or_path).tokenizer
        versions["length"] = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    if clean.has("language"):
        versions["language"] = _package("py3langid")
    if clean.has("python"):
        versions["python"] = file_digest(clean.python)
    if clean.has("near_duplicates"):
        versions["near_duplicates"] = _package("rensa")
    return versions


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} is missing"
