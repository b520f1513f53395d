"""Notes and tags on runs: events of the home's own journal, ingested like any other line."""

import contextlib
import secrets
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs.journal import Journal
from engine.jobs.lock import locked

__all__ = ["add_note", "add_tag", "append_event", "remove_tag"]


def add_note(home: Home, run: str, text: str) -> str:
    """Write a note on the run with this id; returns the note's own id."""
    return append_event(home, "note", run=run, text=text)


def add_tag(home: Home, run: str, tag: str) -> str:
    return append_event(home, "tag", run=run, tag=_checked(tag))


def remove_tag(home: Home, run: str, tag: str) -> str:
    return append_event(home, "untag", run=run, tag=_checked(tag))


def _checked(tag: str) -> str:
    if not tag or len(tag) > 64 or not tag.isprintable() or any(c.isspace() for c in tag):
        raise UserError(f"{tag!r} cannot be a tag: use at most 64 printable characters, no spaces")
    return tag


def append_event(home: Home, type: str, id: str | None = None, **fields: Any) -> str:
    """Add an event to the home's own journal; returns its id, a new one where none is given.

    Raises :class:`UserError` when it cannot be written.
    """
    id = id or secrets.token_hex(8)
    try:
        with locked(home.journal), contextlib.closing(Journal(home.journal)) as journal:
            journal.append(type, id=id, **fields)
    except OSError as error:
        raise UserError(f"{home.journal}: cannot be written ({error.strerror})") from None
    return id
