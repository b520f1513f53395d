"""Prompts that were asked, and sets of prompts with a name: events of the home's own journal."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import UserError
from engine.history.judged import checked_prompt, prompt_text
from engine.history.notes import append_event, append_events
from engine.history.store import Store
from engine.home import Home

__all__ = [
    "PromptRow",
    "PromptSet",
    "add_prompt",
    "drop_prompt_set",
    "find_prompts",
    "prompt_set",
    "prompt_sets",
    "prompt_text",
    "save_prompt_set",
]

Prompt = str | list[dict[str, str]]
"""A text, or messages with ``role`` and ``content``."""

PIECE_CHARACTERS = 200_000
"""Of one journal line of a set: a line of any length would have to be read at once."""


MOST_WORDS = 100
"""Of a search; SQLite takes no thousand conditions."""


@dataclass(frozen=True)
class PromptRow:
    """One prompt of the history."""

    id: str
    """Of the last time it was asked."""
    t: float
    """Unix seconds of that; 0: not known."""
    prompt: Prompt
    source: str
    """Where it came from: typed, the name of a set or file, ..."""
    times: int

    @property
    def text(self) -> str:
        """All that it says; from outside: show it through ``engine.text``."""
        return prompt_text(self.prompt)


@dataclass(frozen=True)
class PromptSet:
    """A saved set, without its prompts."""

    name: str
    id: str
    t: float
    count: int


def add_prompt(
    home: Home, prompt: str | Sequence[Mapping[str, str]], *, source: str = "typed"
) -> str:
    """Remember that a prompt was asked; returns the event's id ("": a blank one is not kept).

    Raises :class:`UserError` when it cannot be written, ValueError when it is no prompt.
    """
    checked = checked_prompt(prompt)
    if not prompt_text(checked).strip():
        return ""
    return append_event(home, "prompt", prompt=checked, source=source)


def find_prompts(store: Store, words: str = "", limit: int = 200) -> list[PromptRow]:
    """The history, newest first, each prompt once: those in which every one of ``words`` occurs.

    Upper and lower case are the same, parts of words count.
    """
    parts = words.casefold().split()[:MOST_WORDS]
    where = " AND ".join(["instr(words, ?)"] * len(parts)) or "1"
    rows = store.query(
        f"SELECT id, t, prompt, source, times FROM prompts WHERE {where} "
        "ORDER BY t DESC, rowid DESC LIMIT ?",
        [*parts, limit],
    )
    return [
        PromptRow(id, t or 0.0, json.loads(p), source, times) for id, t, p, source, times in rows
    ]


def save_prompt_set(home: Home, name: str, prompts: Sequence[Mapping[str, Any]]) -> str:
    """Save prompts (``{"prompt": text or messages, "reference": text or None}``) under a name.

    An older set of that name is replaced. Returns the set's id. Raises :class:`UserError` for a
    name that cannot be one, for no prompts, and when it cannot be written: the old set then stays.
    """
    if not name or len(name) > 64 or not name.isprintable() or name != name.strip():
        raise UserError(f"{name!r} cannot name a set: use at most 64 printable characters")
    if not prompts:
        raise UserError(f"{name}: a set without prompts; give at least one")
    rows = []
    for number, row in enumerate(prompts, 1):
        try:
            rows.append(
                {"prompt": checked_prompt(row["prompt"]), "reference": row.get("reference")}
            )
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{name}: prompt {number:,} is neither a text nor messages") from None
    id = secrets.token_hex(8)
    append_events(home, _events(id, name, rows))
    return id


def _events(id: str, name: str, rows: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pieces first: only the last line makes them a set."""
    piece: list[dict[str, Any]] = []
    first = size = 0
    for place, row in enumerate(rows):
        piece.append(row)
        size += len(prompt_text(row["prompt"])) + len(row["reference"] or "")
        if size >= PIECE_CHARACTERS or place + 1 == len(rows):
            yield "set_prompts", {"set": id, "first": first, "prompts": piece}
            piece, first, size = [], place + 1, 0
    yield "prompt_set", {"id": id, "name": name, "count": len(rows)}


def prompt_sets(store: Store) -> list[PromptSet]:
    """The saved sets by name."""
    rows = store.query("SELECT name, id, t, count FROM prompt_sets ORDER BY name")
    return [PromptSet(name, id, t or 0.0, count) for name, id, t, count in rows]


def prompt_set(store: Store, name: str) -> list[dict[str, Any]]:
    """The prompts of a saved set in order: ``{"prompt": ..., "reference": text or None}``.

    Raises :class:`UserError` naming those that there are.
    """
    found = store.query("SELECT id FROM prompt_sets WHERE name = ?", (name,))
    if not found:
        names = ", ".join(each.name for each in prompt_sets(store)[:20])
        raise UserError(
            f"no saved prompts {name!r}; there are {names}"
            if names
            else f"no saved prompts {name!r}; save some with tunebench prompts add NAME FILE"
        )
    sql = "SELECT prompt, reference FROM set_prompts WHERE set_id = ? ORDER BY place"
    rows = store.query(sql, found[0])
    return [{"prompt": json.loads(prompt), "reference": reference} for prompt, reference in rows]


def drop_prompt_set(home: Home, name: str) -> None:
    """Forget a set; nothing happens where there is none of that name."""
    append_event(home, "prompt_unset", name=name)
