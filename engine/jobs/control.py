"""Requests to a running worker: ``control/<n>.json``, acknowledged in the journal.

Whoever wants something of a run writes a file here; the supervisor turns ``stop`` and ``kill`` into
signals, the worker takes the rest once a step.
"""

import json
import os
from typing import Any

from engine.errors import UserError
from engine.jobs.folder import RunFolder
from engine.jobs.lock import locked

__all__ = ["ACTIONS", "clear", "pending", "read", "request"]

ACTIONS = ("stop", "kill", "save", "evaluate", "sample", "note")


def request(folder: RunFolder, action: str, **fields: Any) -> int:
    """Ask the run for ``action``; returns the request's number within the attempt.

    Raises UserError when the request cannot be written.
    """
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is not one of {ACTIONS}")
    body = json.dumps({"action": action, "fields": fields}, ensure_ascii=False)
    try:
        return _write(folder, body)
    except OSError:
        folder.reserve.unlink(missing_ok=True)  # the disk may be full
    try:
        return _write(folder, body)
    except OSError as error:
        raise UserError(
            f"{folder.control}: the request cannot be written ({error.strerror}); "
            "end the worker's process with 'kill' instead"
        ) from None


def _write(folder: RunFolder, body: str) -> int:
    folder.control.mkdir(mode=0o700, exist_ok=True)
    with locked(folder.control / ".lock"):
        number = max(_numbers(folder), default=0) + 1
        temporary = folder.control / f".{number}"
        temporary.write_text(body, encoding="utf-8")
        os.rename(temporary, folder.control / f"{number}.json")
    return number


def pending(folder: RunFolder, seen: set[int]) -> list[int]:
    """Numbers of requests that are not in ``seen``, oldest first."""
    return sorted(number for number in _numbers(folder) if number not in seen)


def read(folder: RunFolder, number: int) -> tuple[str, dict[str, Any]]:
    """The action and its fields; an unreadable request is the action ``""``."""
    try:
        body = json.loads((folder.control / f"{number}.json").read_text(encoding="utf-8"))
        return str(body["action"]), dict(body.get("fields") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def clear(folder: RunFolder) -> None:
    """Forget every request: they were meant for an attempt that is over."""
    for number in _numbers(folder):
        (folder.control / f"{number}.json").unlink(missing_ok=True)


def _numbers(folder: RunFolder) -> list[int]:
    try:
        names = os.listdir(folder.control)
    except FileNotFoundError:
        return []
    return [int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()]
