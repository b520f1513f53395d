"""Notes and tags on runs: events of the home's own journal, ingested like any other line."""

import contextlib
import json
import secrets
from collections.abc import Iterable
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs.journal import MAX_LINE_BYTES, Journal
from engine.jobs.lock import locked

__all__ = ["add_note", "add_tag", "append_event", "append_events", "remove_tag"]


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

    Raises :class:`UserError` when it cannot be written, or is longer than a line that is read.
    """
    id = id or secrets.token_hex(8)
    append_events(home, [(type, {"id": id, **fields})])
    return id


def append_events(home: Home, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Add several events (type, fields), one after the other without another's between them.

    Raises :class:`UserError` as :func:`append_event`; those before are then written.
    """
    try:
        with locked(home.journal), contextlib.closing(Journal(home.journal)) as journal:
            for type, fields in events:
                _check_length(type, fields)
                journal.append(type, **fields)
    except OSError as error:
        raise UserError(f"{home.journal}: cannot be written ({error.strerror})") from None


def _check_length(type: str, fields: dict[str, Any]) -> None:
    """A longer line would be written and never read again."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=str)
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_LINE_BYTES - 1024:
        raise UserError(
            f"a {type} of {size / 2**20:.0f} MiB cannot be kept: at most "
            f"{MAX_LINE_BYTES // 2**20} MiB; make it shorter"
        )
