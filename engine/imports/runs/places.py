"""Opens what lies in a folder from outside: regular files only, and none that a link leads out to.

A FIFO would block whoever opens it, a device may be without end, and a link can name any file of
this machine: its text would then stand in a run's record, and in what is exported of it.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from engine.errors import UserError

__all__ = ["Place", "fingerprint", "open_file", "utf8"]

SMALL_BYTES = 1_000_000
MOST_ENTRIES = 20_000


def utf8(path: str | os.PathLike[str]) -> str:
    """A path as a text that JSON and UTF-8 can hold; other bytes are shown as U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def open_file(path: Path) -> BinaryIO:
    """A regular file, to read. Raises :class:`UserError` for anything else, and never waits."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or folder") from None
    except ValueError:  # a NUL byte
        raise UserError(f"{str(path)!r}: not a file name") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: is no regular file")
    return os.fdopen(descriptor, "rb")


def fingerprint(path: Path) -> str:
    """Digest of a file's content."""
    with open_file(path) as file:
        digest = hashlib.blake2b(digest_size=16)
        while data := file.read(1 << 20):
            digest.update(data)
        return digest.hexdigest()


class Place:
    """A folder from outside. Names are taken as they are there; what they lead to is looked at."""

    def __init__(self, path: Path) -> None:
        """``path``: absolute, links resolved."""
        self.path = path
        self.passed_over: list[str] = []
        """Names of links that lead out of the folder."""

    def names(self, below: str = "") -> list[str]:
        """What is in the folder, sorted. Raises :class:`UserError` when that cannot be read."""
        try:
            with os.scandir(self.path / below.lstrip("/")) as entries:
                found = []
                for entry in entries:
                    found.append(entry.name)
                    if len(found) > MOST_ENTRIES:
                        raise UserError(
                            f"{self.path / below}: has more than {MOST_ENTRIES:,} entries; name a "
                            "folder inside it"
                        )
                return sorted(found)
        except OSError as error:
            raise UserError(f"{self.path / below}: cannot be read ({error.strerror})") from None

    def find(self, name: str) -> Path | None:
        """What ``name`` leads to, links resolved; None: nothing, or out of the folder.

        ``name`` may begin with a slash: it is below this folder all the same.
        """
        name = name.lstrip("/")
        try:
            found = Path(os.path.realpath(self.path / name, strict=True))
        except (OSError, ValueError):
            return None
        if not found.is_relative_to(self.path):
            if name not in self.passed_over:
                self.passed_over.append(name)
            return None
        return found

    def file(self, name: str) -> Path | None:
        """The regular file of this name."""
        found = self.find(name)
        return found if found is not None and found.is_file() else None

    def folder(self, name: str) -> Path | None:
        found = self.find(name)
        return found if found is not None and found.is_dir() else None

    def text(self, name: str, limit: int = SMALL_BYTES) -> str | None:
        """The text of a small file; None when it is not there or longer than ``limit`` bytes."""
        path = self.file(name)
        if path is None:
            return None
        try:
            with open_file(path) as file:
                data = file.read(limit + 1)
        except (UserError, OSError):
            return None
        return data.decode("utf-8", "replace") if len(data) <= limit else None

    def notes(self) -> list[str]:
        return [f"{name}: a link out of the folder, passed over" for name in self.passed_over[:20]]
