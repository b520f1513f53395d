"""What client and server of the playground share: where the socket is, and JSON lines on it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import NeedsConsent, UserError
from engine.home import Home, runtime_folder

__all__ = [
    "IDLE_SECONDS",
    "LINE_LIMIT",
    "Chunk",
    "Messages",
    "decode",
    "encode",
    "lock_path",
    "log_path",
    "socket_path",
]

Messages = Sequence[Mapping[str, str]]
"""Turns of a conversation: each has its "role" (system, user, assistant) and its "content"."""

IDLE_SECONDS = 600.0
"""The worker gives the models' memory back after so long without a request."""

LINE_LIMIT = 64 << 20
"""Longest message in bytes."""

_SOCKET_PATH_LIMIT = 104
"""Longest path of a Unix socket in bytes (108 on Linux, less elsewhere)."""


@dataclass(frozen=True)
class Chunk:
    """A piece of one answer."""

    column: str
    """The column's id."""
    prompt: int
    """The prompt's number: counted from 0, or its index."""
    text_delta: str
    """Text that comes after what came before; from outside: show it through ``engine.text``."""
    done: bool
    stop_reason: str | None
    """At the end: "eos", "length", "stop" (one of the stop strings), "cancelled" or "error"."""
    tokens: int | None
    """At the end: tokens of the answer."""
    seconds: float | None
    """At the end: seconds from the batch's start to this answer's end."""
    first_seconds: float | None = None
    """At the end: seconds from the batch's start to this answer's first token."""
    error: str | None = None
    """What went wrong, in words, with the stop reason "error"; from outside."""
    needs_consent: bool = False
    """The error is :class:`engine.errors.NeedsConsent`: the user may allow it."""
    pieces: list[tuple[str, float]] | None = None
    """Where probabilities were asked for: text of each token of this chunk, and how likely the
    model found it before any setting. Their texts make up ``text_delta``."""

    @classmethod
    def failed(cls, column: str, prompt: int, error: Exception) -> "Chunk":
        """The end of an answer that went wrong."""
        words = str(error) or type(error).__name__
        consent = isinstance(error, NeedsConsent)
        return cls(column, prompt, "", True, "error", 0, None, None, words, consent)


def _path(home: Home, suffix: str) -> Path:
    name = hashlib.blake2b(str(home.path).encode(), digest_size=6).hexdigest()
    return runtime_folder() / f"generate-{name}{suffix}"


def socket_path(home: Home) -> Path:
    """The socket of this home's generation worker, in a folder of ours only (0700)."""
    path = _path(home, ".sock")
    if len(str(path).encode()) > _SOCKET_PATH_LIMIT:
        raise UserError(f"{path}: too long for a socket; set XDG_RUNTIME_DIR to a shorter folder")
    return path


def lock_path(home: Home) -> Path:
    return _path(home, ".lock")


def log_path(home: Home) -> Path:
    """Whatever the generation worker and its libraries print."""
    return _path(home, ".log")


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    return json.loads(line.decode("utf-8", "surrogatepass"))
