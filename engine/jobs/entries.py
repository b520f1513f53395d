"""The queue as files: ``queue/<run-id>.json``, one an entry, and ``queue/.state.json``.

Whatever changes the queue holds ``queue/.lock``; every file is written whole or not at all.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs.journal import whole
from engine.jobs.lock import locked

__all__ = [
    "Entry",
    "State",
    "Unreadable",
    "after",
    "hold",
    "names",
    "put",
    "read_entries",
    "read_state",
    "remove",
    "renumber",
    "write_state",
]

VERSION = 1


@dataclass(frozen=True)
class Entry:
    """A run that waits. Its place in the queue is told by ``order``, the lowest first."""

    run: str
    name: str
    attempt: int = 1
    gpus: int = 0
    """0: the CPU."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES where it was added: the run gets none but these."""
    order: float = 0.0
    added: float = 0.0


@dataclass(frozen=True)
class Unreadable:
    """An entry that cannot be read: passed over and kept."""

    path: Path
    reason: str


@dataclass
class State:
    """What the queue remembers besides its entries."""

    paused: str = ""
    """Why nothing is started; empty: the queue goes on."""
    started: dict[str, int] = field(default_factory=dict)
    """Runs that it started, with the attempt, until their end was seen."""
    failed: list[str] = field(default_factory=list)
    """Names of the last runs that failed at once, in a row."""


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Hold the queue's lock. Raises UserError: not writable, or no file locks there."""
    try:
        home.queue.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = locked(home.queue / ".lock")
        held.__enter__()
    except OSError as error:
        raise UserError(f"{home.queue}: cannot be used ({error.strerror})") from None
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def names(folder: Path) -> list[str]:
    """Names of the entries' files, in no order."""
    try:
        found = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in found if name.endswith(".json") and not name.startswith(".")]


def read_entries(home: Home) -> tuple[list[Entry], list[Unreadable]]:
    """The entries in their order, and those that cannot be read."""
    entries, unreadable = [], []
    for name in sorted(names(home.queue)):
        path = home.queue / name
        try:
            entries.append(_entry(path))
        except FileNotFoundError:
            continue  # taken off just now
        except OSError as error:
            unreadable.append(Unreadable(path, error.strerror or str(error)))
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(Unreadable(path, "damaged"))
    entries.sort(key=lambda entry: (entry.order, entry.added, entry.run))
    return entries, unreadable


def _entry(path: Path) -> Entry:
    found = whole(path.read_bytes())
    visible = found.get("visible")
    entry = Entry(
        run=str(found["run"]),
        name=str(found["name"]),
        attempt=int(found["attempt"]),
        gpus=int(found["gpus"]),
        visible=None if visible is None else str(visible),
        order=float(found["order"]),
        added=float(found["added"]),
    )
    if path.name != f"{entry.run}.json" or entry.order != entry.order:
        raise ValueError(path.name)
    return entry


def put(folder: Path, entry: Entry) -> None:
    """Write an entry's file into ``folder``, whole or not at all. Raises OSError."""
    _write(folder / f"{entry.run}.json", {"v": VERSION, **asdict(entry)})


def after(home: Home, entry: Entry, places: int = 1) -> Entry:
    """The entry, ``places`` behind the queue's last one."""
    last = max((each.order for each in read_entries(home)[0]), default=0.0)
    return replace(entry, order=last + places, added=entry.added or time.time())


def remove(home: Home, run: str) -> bool:
    """Take an entry away; False when there was none."""
    try:
        (home.queue / f"{run}.json").unlink()
    except FileNotFoundError:
        return False
    return True


def renumber(home: Home) -> list[Entry]:
    """The entries numbered anew, in the same order, however far this comes.

    Written from the last one on, each above all old numbers: the order holds at every moment.
    """
    entries, _ = read_entries(home)
    above = max((entry.order for entry in entries), default=0.0)
    found = [replace(entry, order=above + place) for place, entry in enumerate(entries, 1)]
    for entry in reversed(found):
        put(home.queue, entry)
    return found


def read_state(home: Home) -> State:
    """What the queue remembers; a damaged file remembers nothing."""
    try:
        found = whole((home.queue / ".state.json").read_bytes())
        started = {str(run): int(attempt) for run, attempt in found["started"].items()}
        return State(str(found["paused"]), started, [str(name) for name in found["failed"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def write_state(home: Home, state: State) -> None:
    """Raises OSError."""
    _write(home.queue / ".state.json", {"v": VERSION, **asdict(state)})


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name.strip('.')}.new")  # one writer: the lock's holder
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
