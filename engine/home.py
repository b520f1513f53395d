"""Where things live: one home folder with ``runs.db``, ``runs/``, ``datasets/`` and ``queue/``."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError

__all__ = [
    "Home",
    "existing_home",
    "home_at",
    "open_home",
    "private_folder",
    "private_umask",
    "runtime_folder",
    "writable_name",
]


def private_umask() -> None:
    """Files 0600 and folders 0700 from here on: a home holds training data."""
    os.umask(0o077)


@dataclass(frozen=True)
class Home:
    """A home folder. The properties are paths; nothing is created by naming them."""

    path: Path

    @property
    def database(self) -> Path:
        """``runs.db``: the index over all journals. May be deleted; ``reindex`` rebuilds it."""
        return self.path / "runs.db"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def datasets(self) -> Path:
        return self.path / "datasets"

    @property
    def queue(self) -> Path:
        return self.path / "queue"

    @property
    def trash(self) -> Path:
        """Folders of deleted runs, until the trash is emptied."""
        return self.path / "trash"

    @property
    def journal(self) -> Path:
        """``journal.jsonl``: notes, tags, benches, votes and prompts, one event a line."""
        return self.path / "journal.jsonl"


def home_at(path: str | os.PathLike[str] | None = None) -> Home:
    """The home at ``path``, else ``$TUNEBENCH_HOME``, else the current folder; nothing is made."""
    return Home(Path(path or os.environ.get("TUNEBENCH_HOME") or ".").expanduser().resolve())


def open_home(path: str | os.PathLike[str] | None = None) -> Home:
    """:func:`home_at` with its folders made.

    Raises :class:`UserError` when it cannot be written to.
    """
    home = home_at(path)
    chosen = home.path
    writable_name(str(chosen))
    try:
        chosen.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (home.runs, home.datasets, home.queue):
            folder.mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{chosen}: not a folder; name another one with --home DIR") from None
    except OSError as error:
        raise UserError(
            f"{chosen}: cannot be used as home ({error.strerror}); name another one with --home DIR"
        ) from None
    return home


def existing_home(path: str | os.PathLike[str] | None = None) -> Home:
    """:func:`open_home` for what only reads or changes a history: a mistyped name makes nothing.

    Raises :class:`UserError` where no folder is there, saying who named it.
    """
    try:
        home_at(path).path.stat()
    except FileNotFoundError:
        told = "" if path else "$TUNEBENCH_HOME: "
        raise UserError(
            f"{told}{home_at(path).path}: no such folder, so no home; name another one with "
            "--home DIR ('tunebench demo --home DIR' makes one)"
        ) from None
    except OSError:
        pass  # what is wrong with it, opening it says
    return open_home(path)


def writable_name(path: str) -> str:
    """``path`` as it is, when it is UTF-8 text: recipes, journals and documents hold nothing else.

    Raises :class:`UserError` for a name of other bytes.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path}: the name is not UTF-8 text; rename it, or set a UTF-8 locale"
        ) from None
    return path


def runtime_folder() -> Path:
    """The folder for sockets: ``$XDG_RUNTIME_DIR/tunebench``, else one of ours under /tmp, 0700.

    Raises :class:`UserError` when it is not ours alone, or cannot be made.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "tunebench" if base else Path(f"/tmp/tunebench-{os.getuid()}")
    return private_folder(folder, "set XDG_RUNTIME_DIR to a folder of yours")


def private_folder(folder: Path, advice: str) -> Path:
    """``folder``, made with mode 0700 where it is not there.

    Raises :class:`UserError` when it is not ours alone (under /tmp somebody else may have put a
    link in its place), or cannot be made: ``advice`` says what to do then.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); {advice}") from None
    if stat.S_ISLNK(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise UserError(f"{folder}: belongs to somebody else or is open to others; remove it")
    return folder
