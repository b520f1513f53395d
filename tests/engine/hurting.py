"""What may happen to ``runs.db``: each harm does one thing to the file of a home at rest."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.home import Home

__all__ = ["HARMS", "Harm", "locked_by_another"]

PAGE = 4096


@dataclass(frozen=True)
class Harm:
    """``rebuilt``: the file is found broken and moved aside; else it is taken as it is."""

    name: str
    act: Callable[[Path], None]
    rebuilt: bool = True


def _part(path: Path, suffix: str) -> Path:
    return Path(f"{path}{suffix}")


def delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _part(path, suffix).unlink(missing_ok=True)


def delete_but_its_log(path: Path) -> None:
    """As somebody does who deletes ``runs.db`` by its name."""
    with_log(path)
    path.unlink()


def with_log(path: Path) -> None:
    """Leave changes in the log that are not in the file yet, as a killed viewer does."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE runs SET reason = reason")
    connection.execute("UPDATE metrics SET loss = loss")
    connection.commit()
    keep = [
        (part, part.read_bytes()) for s in ("-wal", "-shm") if (part := _part(path, s)).exists()
    ]
    file = path.read_bytes()
    connection.close()  # would bring it into the file, and remove it
    path.write_bytes(file)
    for part, data in keep:
        part.write_bytes(data)


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def cut_last_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - PAGE)


def overwrite(first: float, last: float, data: bytes) -> Callable[[Path], None]:
    """Fill whole pages between two places (0 to 1) with ``data`` over and over."""

    def act(path: Path) -> None:
        size = path.stat().st_size // PAGE
        begin, end = (int(size * share) * PAGE for share in (first, last))
        with path.open("r+b") as file:
            file.seek(begin)
            file.write((data * (end - begin))[: end - begin])

    return act


def other_file(path: Path) -> None:
    delete(path)
    path.write_bytes(b"this is no database\n" * 500)


def half_a_log(path: Path) -> None:
    with_log(path)
    log = _part(path, "-wal")
    os.truncate(log, log.stat().st_size // 2 + 100)


def log_of_noise(path: Path) -> None:
    with_log(path)
    log = _part(path, "-wal")
    log.write_bytes(b"\xa5" * log.stat().st_size)
    _part(path, "-shm").write_bytes(b"\x5a" * 32768)


def emptied_table(path: Path) -> None:
    """Whole as a file, and short of a table that nobody but us would miss."""
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE notes")
    connection.close()


HARMS = (
    Harm("deleted", delete, rebuilt=False),
    Harm("deleted, its -wal left behind", delete_but_its_log, rebuilt=False),
    Harm("truncated to nothing", cut(0), rebuilt=False),
    Harm("truncated to half", cut(0.5)),
    Harm("truncated in its first page", cut(0.0005)),
    Harm("truncated by its last page", cut_last_page),
    Harm("half written: the second half zeros", overwrite(0.5, 1, b"\0")),
    Harm("half written: noise in the middle", overwrite(0.3, 0.6, b"\xa5\x5a")),
    Harm("half written: its first page lost", overwrite(0, 0.02, b"\xff")),
    Harm("half written: half a -wal", half_a_log, rebuilt=False),
    Harm("half written: noise as -wal and -shm", log_of_noise, rebuilt=False),
    Harm("another file in its place", other_file),
    Harm("a table dropped", emptied_table),
)


@contextmanager
def locked_by_another(home: Home, how: str) -> Iterator[None]:
    """``writing``: as a program in the middle of a transaction; ``wholly``: nobody else may even
    read."""
    connection = sqlite3.connect(home.database, isolation_level=None)
    try:
        if how == "wholly":
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE runs SET reason = reason")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()
