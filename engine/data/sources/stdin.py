"""Standard input as a source: written to a file, so that it can be read again and paged through."""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from engine.errors import UserError
from engine.home import Home
from engine.whole import sync

__all__ = ["check_standard_input", "spool"]

_BLOCK = 1 << 20
_spooled: dict[Path, Path] = {}
"""Home -> file: standard input can be read only once in a process."""


def check_standard_input() -> None:
    """Raises :class:`UserError` when nobody sends anything."""
    try:
        terminal = sys.stdin is None or sys.stdin.closed or os.isatty(sys.stdin.fileno())
    except (OSError, ValueError):
        terminal = False  # replaced by something without a number
    if terminal:
        raise UserError("-: standard input is a terminal; send the rows in with a pipe or <FILE")


def spool(home: Home) -> Path:
    """The file that holds what came in on standard input, named by its content."""
    if home.path in _spooled and _spooled[home.path].exists():
        return _spooled[home.path]
    check_standard_input()
    folder = home.datasets / ".sources"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    number, name = tempfile.mkstemp(prefix=".stdin-", suffix=".part", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            while block := sys.stdin.buffer.read(_BLOCK):
                digest.update(block)
                size += len(block)
                file.write(block)
        if not size:
            raise UserError("-: standard input is empty")
        path = folder / f"stdin-{digest.hexdigest()[:16]}"
        sync(Path(name))
        os.replace(name, path)
        sync(folder)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _spooled[home.path] = path
    return path
