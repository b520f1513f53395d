"""A text in the user's own editor: ``$VISUAL``, ``$EDITOR``, else nano or vi."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from engine.errors import UserError

__all__ = ["edit", "editor"]


def editor() -> list[str]:
    """The editor's command line. Raises :class:`UserError` where there is none."""
    for name in ("VISUAL", "EDITOR"):
        if wanted := os.environ.get(name):
            try:
                return shlex.split(wanted)
            except ValueError as error:
                raise UserError(f"${name} {wanted!r}: {error}") from None
    for name in ("nano", "vi"):
        if found := shutil.which(name):
            return [found]
    raise UserError("no editor: set $EDITOR to the one you use")


def edit(text: str, name: str) -> Path:
    """The file of this ``name`` with the text as it was left in the editor.

    The caller removes the file's folder once the text is of use, so that nothing is lost when it
    is not. Raises :class:`UserError`: no editor, one that failed, or no place for the file.
    """
    command = editor()
    try:
        file = Path(tempfile.mkdtemp(prefix="tunebench-")) / name
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{tempfile.gettempdir()}: no room for the text ({error})") from None
    try:
        status = subprocess.run([*command, str(file)], check=False).returncode
    except OSError as error:
        shutil.rmtree(file.parent, ignore_errors=True)
        raise UserError(f"{command[0]}: cannot be started ({error.strerror})") from None
    if status:
        raise UserError(f"{command[0]} ended with exit status {status}; its text is in {file}")
    return file
