"""What the token ids of a split depend on, in one name."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from engine.data.dataset import Dataset
from engine.data.tokenizer_files import tokenizer_digests, tokenizer_state
from engine.data.tokens import Formatter, FormatterSource
from engine.errors import UserError

__all__ = ["VERSION", "check_current", "check_unchanged", "derived_key", "replaced", "rows_key"]

VERSION = 1
"""Raise it when the same row of the same recipe gives other ids, labels or counts than before, or
is put into another file. A test holds the ids of some rows to it."""


def rows_key(
    dataset: Dataset, split: str, rows: int, formatter: Formatter, completion_only_loss: bool
) -> str | None:
    """24 hex digits; None for a formatter that was not loaded from files.

    Content counts, not places: a model's folder may move, a chat template be written elsewhere.
    Raises :class:`UserError` when the tokenizer's files changed since the formatter was loaded.
    """
    source = formatter.source
    if source is None:
        return None
    check_unchanged(source)
    section = source.section.model_dump(exclude={"chat_template", "date"})
    return _name(
        {
            "version": VERSION,
            "dataset": dataset.fingerprint,
            "shape": dataset.shape,
            "split": split,
            "rows": rows,
            "tokenizer": tokenizer_digests(source.state),
            "add_tokens": source.add_tokens,
            "format": section,
            "template": source.template,
            "date": source.section.date if "strftime_now" in source.template else "",
            "max_length": source.max_length,
            "completion_only_loss": completion_only_loss,
            "libraries": {name: version(name) for name in ("tokenizers", "jinja2")},
        }
    )


def derived_key(key: str, **options: int) -> str:
    """Of what is made of the rows of another key and nothing else."""
    return _name({"of": key, **options})


def check_unchanged(source: FormatterSource) -> None:
    """Raise :class:`UserError` when the tokenizer is another one than when it was loaded."""
    if tokenizer_state(source.model_name_or_path, source.revision) != source.state:
        raise UserError(
            f"{source.model_name_or_path}: the tokenizer's files changed while they were used; "
            "try again"
        )


def check_current(dataset: Dataset) -> None:
    """Raise :class:`UserError` when another dataset has taken the place of this one.

    To be asked when its files are open: another run may clean the same name by other rules.
    """
    try:
        manifest = json.loads(dataset.file("manifest").read_text(encoding="utf-8"))
        current = manifest["fingerprint"] == dataset.fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        current = False
    if not current:
        raise replaced(dataset.path)


def replaced(folder: Path) -> UserError:
    return UserError(
        f"{folder}: was made anew by another run meanwhile; try again, or give this one a name of "
        "its own with data.name"
    )


def _name(described: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]
