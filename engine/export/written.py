"""New files outside the home: written under a temporary name, then given their own, or not at all.

What is there already is never written over without a word.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import UsageError, UserError
from engine.whole import sync

__all__ = ["free_name", "written"]


def free_name(path: Path, force: bool) -> None:
    """Raise :class:`UserError` when ``path`` cannot become a file: before any work is done.

    With ``force`` an ordinary file may be there, but no folder, link or device.
    """
    if not path.name or path.name in (".", ".."):
        raise UsageError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    try:
        there = os.path.lexists(path)
    except ValueError:  # a NUL byte
        raise UsageError(f"{str(path)!r}: not a file name") from None
    if not there:
        return
    if not force:
        raise UserError(f"{path}: is there already; name another file, or add --force")
    if path.is_symlink() or not path.is_file():
        raise UserError(f"{path}: is no ordinary file, and is not written over")


@contextlib.contextmanager
def written(path: Path, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write to that becomes ``path`` when the block ends well.

    Raises :class:`UserError` when the name is taken (see :func:`free_name`), also by somebody who
    came first meanwhile, or the file cannot be written.
    """
    free_name(path, force)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
        sync(temporary)
        if force:
            temporary.replace(path)
        else:
            _link(temporary, path)
        sync(path.parent)
    except FileExistsError:
        free_name(path, force=False)
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Under both names, so that what came first stays; renamed where there are no hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        free_name(path, force=False)
        temporary.rename(path)
