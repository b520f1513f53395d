"""Prompts from a text file, JSON Lines, or a split of a dataset."""

import json
from pathlib import Path

from engine.errors import UsageError, UserError
from engine.generate.wire import Messages
from engine.home import Home

__all__ = ["read_prompts", "with_system"]

JSON_LINES = {".jsonl", ".ndjson"}
SPLITS = ("train", "validation", "test")


def read_prompts(home: Home, name: str, column: str = "prompt") -> list[str]:
    """The prompts that ``--prompts NAME`` stands for, in order.

    ``NAME`` is a text file (a prompt a line, blank lines left out), a file of JSON Lines (each a
    text, or an object whose ``column`` is one), or ``DATASET:SPLIT`` (its rows' ``column``). Raises
    :class:`UserError` naming file and line, or the columns that there are.
    """
    path = Path(name).expanduser()
    dataset, _, split = name.rpartition(":")
    if split in SPLITS and dataset and not path.exists():
        return _of_dataset(home, dataset, split, column)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(
            f"--prompts {name}: cannot be read ({reason}); it names a text file, a file of JSON "
            "Lines (.jsonl), or DATASET:SPLIT"
        ) from None
    # Only "\n" ends a line: a prompt may hold U+2028 and others that splitlines() takes for ends.
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix.lower() in JSON_LINES:
        return [_of_line(name, number, line, column) for number, line in lines]
    return [line for _, line in lines]


def with_system(prompt: str, system: str) -> str | Messages:
    """The prompt after a system message; as it is where that is empty."""
    if not system:
        return prompt
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def _of_line(name: str, number: int, line: str, column: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--prompts {name}: line {number:,} is no JSON: {error}") from None
    found = value.get(column) if isinstance(value, dict) else value
    if isinstance(found, str):
        return found
    if isinstance(value, dict) and column not in value:
        raise UserError(
            f"--prompts {name}: line {number:,} has no {column!r}; it has "
            f"{', '.join(map(repr, value)) or 'nothing'}: name one with --column"
        )
    raise UserError(f"--prompts {name}: line {number:,}: {column!r} is no text")


def _of_dataset(home: Home, name: str, split: str, column: str) -> list[str]:
    from engine.data.dataset import open_dataset

    table = open_dataset(home, name).split(split)
    if column not in table.schema.names or str(table.schema.field(column).type) not in (
        "string",
        "large_string",
    ):
        raise UserError(
            f"--prompts {name}:{split}: its rows have no text {column!r}; they have "
            f"{', '.join(table.schema.names)}: name one with --column"
        )
    texts: list[str] = table.column(column).to_pylist()
    return texts
