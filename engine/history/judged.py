"""How votes, prompts and sets of prompts in the home's journal become rows of ``runs.db``.

What a newer program adds to an event stays in the journal; what an older one left out is empty. An
event that lacks what makes it one raises ``ValueError`` or the like, and is counted.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from typing import Any

__all__ = ["TABLES", "VERDICTS", "WRITERS", "checked_prompt", "prompt_text"]

TABLES = ("votes", "prompts", "prompt_sets", "set_prompts")
VERDICTS = ("left", "right", "tie", "both bad")

YEAR_9999 = 253_370_764_800
LABEL_CHARACTERS = 200
"""Of the copy that is counted by; the vote has the whole."""

_json = json.JSONEncoder(ensure_ascii=False).encode

Event = dict[str, Any]
Prompt = str | list[dict[str, str]]


def checked_prompt(value: Any) -> Prompt:
    """A text, or the messages of a conversation with role and content only.

    Raises ValueError for anything else.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("a prompt is a text, or a list of messages")
    messages = []
    for message in value:
        if not all(isinstance(message[key], str) for key in ("role", "content")):
            raise ValueError("a message of a prompt has a role and a content, both texts")
        messages.append({"role": message["role"], "content": message["content"]})
    return messages


def prompt_text(prompt: Prompt) -> str:
    """All that a prompt says, for searching and for one line of a list."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt)


def _time(value: Any) -> float | None:
    """Unix seconds that a calendar knows; None: anything else."""
    return float(value) if isinstance(value, int | float) and 0 < value < YEAR_9999 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _write_vote(connection: sqlite3.Connection, event: Event) -> None:
    left, right, verdict = event["left"], event["right"], event["verdict"]
    if verdict not in VERDICTS or not all(_text(side["column"]) for side in (left, right)):
        raise ValueError("no vote between two columns")
    if left["column"] == right["column"]:
        raise ValueError("a column beside itself")
    document = {
        "prompt": checked_prompt(event["prompt"]),
        "reference": event.get("reference") if _text(event.get("reference")) else None,
        "left": _side(left),
        "right": _side(right),
        "verdict": verdict,
        "blind": event.get("blind") is not False,
        "index": _whole(event.get("index")) or 0,
    }
    sides = [
        (side["column"], (_text(side.get("label")) or side["column"])[:LABEL_CHARACTERS])
        for side in (left, right)
    ]
    names = ["a", "b"]
    if sides[0] > sides[1]:
        sides.reverse()
        names.reverse()
    choice = {"left": names[0], "right": names[1]}.get(str(verdict), verdict)
    (a, a_label), (b, b_label) = sides
    connection.execute(
        "INSERT OR IGNORE INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            _id(event["id"]),
            _time(event.get("t")),
            _text(event.get("prompt_set")),
            *(a, b, a_label, b_label),
            choice,
            _text(event.get("note")),
            _json(document),
        ),
    )


def _side(found: Event) -> dict[str, Any]:
    """One side as :class:`engine.history.votes.Side` has it."""
    sampling = found.get("sampling")
    return {
        "column": found["column"],
        "label": _text(found.get("label")) or found["column"],
        "text": _text(found.get("text")),
        "sampling": {
            name: value
            for name, value in (sampling.items() if isinstance(sampling, dict) else ())
            if all(map(_is_plain, value if isinstance(value, list) else [value]))
        },
        "stop_reason": _text(found.get("stop_reason")) or None,
        "tokens": _whole(found.get("tokens")),
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _id(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("an event without an id")
    return value


def _write_vote_note(connection: sqlite3.Connection, event: Event) -> None:
    values = (_text(event["text"]), event["vote"])
    connection.execute("UPDATE votes SET note = ? WHERE id = ?", values)


def _write_unvote(connection: sqlite3.Connection, event: Event) -> None:
    connection.execute("DELETE FROM votes WHERE id = ?", (event["vote"],))


def _write_prompt(connection: sqlite3.Connection, event: Event) -> None:
    prompt = checked_prompt(event["prompt"])
    text = _json(prompt)
    connection.execute(
        "INSERT INTO prompts (key, id, t, source, times, prompt, words) "
        "VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "id = excluded.id, t = excluded.t, source = excluded.source, times = times + 1",
        (
            hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest(),
            _id(event["id"]),
            _time(event.get("t")),
            _text(event.get("source")),
            text,
            prompt_text(prompt).casefold(),
        ),
    )


def _write_set_prompts(connection: sqlite3.Connection, event: Event) -> None:
    """A piece of a set: no set as long as the event that names it has not come."""
    first, id = event["first"], _id(event["set"])
    if type(first) is not int or not 0 <= first < 2**62:
        raise ValueError("no place in a set")
    rows = []
    for place, row in enumerate(event["prompts"], first):
        reference = row.get("reference")
        reference = reference if isinstance(reference, str) else None
        rows.append((id, place, _json(checked_prompt(row["prompt"])), reference))
    connection.executemany("INSERT OR REPLACE INTO set_prompts VALUES (?, ?, ?, ?)", rows)


def _write_prompt_set(connection: sqlite3.Connection, event: Event) -> None:
    name, id = event["name"], _id(event["id"])
    if not isinstance(name, str) or not name:
        raise ValueError("a set without a name")
    [(count,)] = connection.execute("SELECT count(*) FROM set_prompts WHERE set_id = ?", (id,))
    _drop(connection, name, but=id)
    connection.execute(
        "INSERT OR REPLACE INTO prompt_sets (name, id, t, count) VALUES (?, ?, ?, ?)",
        (name, id, _time(event.get("t")), count),
    )


def _write_unset(connection: sqlite3.Connection, event: Event) -> None:
    _drop(connection, event["name"])


def _drop(connection: sqlite3.Connection, name: str, but: str = "") -> None:
    sql = "SELECT id FROM prompt_sets WHERE name = ? AND id != ?"
    for (old,) in connection.execute(sql, (name, but)).fetchall():
        connection.execute("DELETE FROM set_prompts WHERE set_id = ?", (old,))
        connection.execute("DELETE FROM prompt_sets WHERE name = ?", (name,))


WRITERS: dict[str, Callable[[sqlite3.Connection, Event], None]] = {
    "vote": _write_vote,
    "vote_note": _write_vote_note,
    "unvote": _write_unvote,
    "prompt": _write_prompt,
    "set_prompts": _write_set_prompts,
    "prompt_set": _write_prompt_set,
    "prompt_unset": _write_unset,
}
"""What is to do for the events of these types."""
