"""Whole or not at all: files brought to the disk, a folder put in the place of another at once."""

import ctypes
import os
import shutil
from pathlib import Path

__all__ = ["put_in_place", "sync"]

AT_FDCWD, RENAME_EXCHANGE = -100, 2


def sync(path: Path) -> None:
    """Bring a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(temporary: Path, final: Path) -> None:
    """Make the folder ``temporary`` the one at ``final``; both lie in the same folder.

    An older ``final`` goes: the two change places in one go, so that whenever this process dies,
    one of them is there.
    """
    if not final.exists():
        os.rename(temporary, final)
    elif _exchange(temporary, final):
        sync(final.parent)
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        old = final.with_name(f".old-{final.name}")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
        os.rename(temporary, final)
        shutil.rmtree(old, ignore_errors=True)
    sync(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names atomically; False where kernel or file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    status: int = rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    return status == 0
