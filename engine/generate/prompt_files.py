"""Prompts from a text file, JSON Lines, a split of a dataset, or a set that was saved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import UsageError, UserError
from engine.generate.wire import Messages
from engine.home import Home

__all__ = ["SAVED", "read_prompt_rows", "read_prompts", "with_system"]

JSON_LINES = {".jsonl", ".ndjson"}
SPLITS = ("train", "validation", "test")
SAVED = "set:"

PromptRow = dict[str, Any]
"""``prompt`` (a text, or messages with role and content) and ``reference`` (text or None)."""


def read_prompts(home: Home, name: str, column: str = "prompt") -> list[str]:
    """The prompts that ``--prompts NAME`` stands for, in order.

    ``NAME`` is a text file (a prompt a line, blank lines left out), a file of JSON Lines (each a
    text, or an object whose ``column`` is one), ``DATASET:SPLIT`` (its rows' ``column``), or
    ``set:NAME`` (a saved set). Raises :class:`UserError` naming file and line, or the columns that
    there are.
    """
    label = f"--prompts {name}"
    rows = read_prompt_rows(home, name, column, label=label)
    for number, row in enumerate(rows, 1):
        if not isinstance(row["prompt"], str):
            raise UserError(f"{label}: prompt {number:,} is a conversation; only texts count here")
    return [row["prompt"] for row in rows]


def read_prompt_rows(
    home: Home,
    name: str,
    column: str = "prompt",
    reference_column: str | None = None,
    *,
    label: str | None = None,
) -> list[PromptRow]:
    """What ``name`` stands for, as :func:`read_prompts`, with what should be answered.

    A ``column`` of messages is a conversation; its last answer is the reference where no
    ``reference_column`` is named. The reference of a dataset's prompt is its completion. Errors
    begin with ``label`` (default: ``name``).
    """
    label = name if label is None else label
    path = Path(name).expanduser()
    dataset, _, split = name.rpartition(":")
    if name.startswith(SAVED) and not path.exists():
        return _of_set(home, name.removeprefix(SAVED))
    if split in SPLITS and dataset and not path.exists():
        return _of_dataset(home, label, dataset, split, column, reference_column)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(
            f"{label}: cannot be read ({reason}); it names a text file, a file of JSON Lines "
            f"(.jsonl), DATASET:SPLIT, or {SAVED}NAME for saved prompts"
        ) from None
    # Only "\n" ends a line: a prompt may hold U+2028 and others that splitlines() takes for ends.
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix.lower() in JSON_LINES:
        return [_of_line(label, n, line, column, reference_column) for n, line in lines]
    if reference_column is not None:
        raise UsageError(f"{label}: a text file has no column {reference_column!r}; use .jsonl")
    return [{"prompt": line, "reference": None} for _, line in lines]


def with_system(prompt: str, system: str) -> str | Messages:
    """The prompt after a system message; as it is where that is empty."""
    if not system:
        return prompt
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def _of_set(home: Home, name: str) -> list[PromptRow]:
    from engine.history.ingest import ingest_all
    from engine.history.prompts import prompt_set
    from engine.history.store import open_store

    store = open_store(home)
    try:
        ingest_all(home, store, live=False)
        return prompt_set(store, name)
    finally:
        store.close()


def _of_line(
    label: str, number: int, line: str, column: str, reference_column: str | None
) -> PromptRow:
    where = f"{label}: line {number:,}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {error}") from None
    found = value.get(column) if isinstance(value, dict) else value
    row = _row(found)
    if row is None:
        if isinstance(value, dict):
            _check_has(where, value, column, "--column")
        raise UserError(f"{where}: {column!r} is no text")
    if reference_column is not None:
        fields = value if isinstance(value, dict) else {}
        _check_has(where, fields, reference_column, "--reference-column")
        row["reference"] = _reference(where, reference_column, fields[reference_column])
    return row


def _check_has(where: str, value: Mapping[str, Any], column: str, option: str) -> None:
    if column not in value:
        there = ", ".join(map(repr, value)) or "nothing"
        raise UserError(f"{where} has no {column!r}; it has {there}: name one with {option}")


def _reference(where: str, column: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UserError(f"{where}: {column!r} is no text")


def _row(value: Any) -> PromptRow | None:
    """A text, or messages whose last answer is the reference; None: neither."""
    from engine.history.judged import checked_prompt

    try:
        prompt = checked_prompt(value)
    except (ValueError, KeyError, TypeError):
        return None
    reference = None
    if isinstance(prompt, list) and len(prompt) > 1 and prompt[-1]["role"] == "assistant":
        reference = prompt.pop()["content"]
    return {"prompt": prompt, "reference": reference}


def _of_dataset(
    home: Home, label: str, name: str, split: str, column: str, reference_column: str | None
) -> list[PromptRow]:
    from engine.data.dataset import open_dataset

    table = open_dataset(home, name).split(split)

    def values(named: str, option: str, *types: str) -> list[Any]:
        there = table.schema.names
        if named not in there or not str(table.schema.field(named).type).startswith(types):
            raise UserError(
                f"{label}: its rows have no text {named!r}; they have {', '.join(there)}: "
                f"name one with {option}"
            )
        found: list[Any] = table.column(named).to_pylist()
        return found

    rows = [_row(value) for value in values(column, "--column", *_TEXTS, "list<")]
    if None in rows:
        raise UserError(f"{label}: row {rows.index(None) + 1:,}: {column!r} is no text")
    if reference_column is None and column == "prompt":
        reference_column = "completion"
    if reference_column is not None:
        references = values(reference_column, "--reference-column", *_TEXTS)
        for row, reference in zip(rows, references, strict=True):
            assert row is not None
            row["reference"] = reference
    return [row for row in rows if row is not None]


_TEXTS = ("string", "large_string")
