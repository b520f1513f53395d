"""What one line of a log shows: its last state, its beginning where it is long, no colours."""

import re
from dataclasses import dataclass

from engine.jobs.loglevels import Level
from engine.text import unstyled

__all__ = ["SHOWN", "Line", "last_state", "shown_text"]

SHOWN = 4_000
"""Characters of a line that are shown."""

_NOTHING = re.compile(rb"(?:\s|\x1b\[[0-?]*[ -/]*[@-~])*")


@dataclass(frozen=True, slots=True)
class Line:
    """One line; ``text`` is from outside and not yet safe."""

    start: int
    end: int
    """Where the next line begins."""
    text: str
    """At most :data:`SHOWN` characters, colours taken out."""
    cut: int = 0
    """Bytes that ``text`` leaves out."""
    level: Level = Level.NONE
    goes_on: bool = False
    """Belongs to the line before: the rest of a traceback."""


def last_state(raw: bytes) -> bytes:
    """What is left of a line after its carriage returns: the last thing written that is not blank,
    as progress bars blank themselves in the end."""
    raw = raw.rstrip(b"\r\n")
    if b"\r" not in raw:
        return raw
    end = len(raw)
    while end > 0:
        start = raw.rfind(b"\r", 0, end) + 1
        if not _NOTHING.fullmatch(raw, start, end):
            return raw[start:end]
        end = start - 1
    return b""


def shown_text(raw: bytes) -> str:
    return unstyled(raw[: SHOWN * 8].decode("utf-8", "replace"))
