"""The home's ``cache/tokens``: entries of numbered Arrow files, each there whole or not at all.

A file's name ends with a checksum of its content, and it gets that name when it is on the disk. So
whatever kills its maker leaves nothing that is taken for whole, the files made before are good for
the next one, and what a disk damaged is not found. Nothing else needs to be written.

It lies in the cache and not in the dataset's folder: that one is published whole and exchanged
whole, may lie elsewhere or be read-only, while this may be thrown away at any time.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from engine.home import Home
from engine.jobs.lock import locked
from engine.whole import sync

__all__ = ["Entry", "Part", "store"]

MOST_BYTES = 8 << 30
"""All entries together; some 10 million rows of 100 tokens."""
MOST_OF_FREE = 0.25
"""But of the space that is free without them at most so much."""
RESERVE_BYTES = 1 << 30
"""Left free for checkpoints: with less, nothing is kept."""
_FACTS = b"facts"
_READ_BYTES = 1 << 20
_NAME = re.compile(r"(\d{5})-([0-9a-f]{16})\.arrow")

Part = tuple[pa.Table, dict[str, Any], Path | None]
"""Rows, what was told of them, and the file that they are mapped from (None: in memory only)."""


def store(home: Home) -> Path:
    """The folder of all entries."""
    return home.path / "cache" / "tokens"


class Entry:
    """One entry, in use: until :meth:`close` it is not removed, by no process.

    (Were it removed all the same, by hand say, what is mapped would stay as it is: Linux frees a
    file's space when nobody maps it any more.)
    """

    _used = -1

    def __init__(self, root: Path, key: str) -> None:
        """Made if need be. Raises OSError."""
        self._root = root
        self.folder = root / key
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(root / ".lock"):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            used = self.folder / "used"
            self._used = os.open(used, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._used, fcntl.LOCK_SH)  # only a remover could hold it, and none is here
            os.utime(used)

    def beside(self, key: str) -> "Entry":
        """Another entry of the same store."""
        return Entry(self._root, key)

    def close(self) -> None:
        if self._used >= 0:
            os.close(self._used)
        self._used = -1

    def __del__(self) -> None:
        self.close()

    @contextlib.contextmanager
    def making(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only one that writes; ``waiting`` is called while another does."""
        with locked(self.folder / "lock", waiting):
            for left in self.folder.glob("*.tmp"):
                left.unlink(missing_ok=True)
            yield

    def whole(self) -> int:
        """Files that are there, unchecked: how far another maker is."""
        return sum(1 for _ in self.folder.glob("*.arrow"))

    def read(self, schema: pa.Schema) -> dict[int, Part]:
        """The files of these columns that are as they were written, by number; mapped."""
        found: dict[int, Part] = {}
        for path in sorted(self.folder.iterdir()):
            if (match := _NAME.fullmatch(path.name)) is None:
                continue
            number, digest = int(match[1]), match[2]
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                if _digest(path) == digest:
                    with pa.memory_map(str(path)) as source:
                        table = pa.ipc.open_stream(source).read_all()
                    facts = json.loads(table.schema.metadata[_FACTS])
                    if table.schema.equals(schema):
                        found[number] = table.replace_schema_metadata(None), facts, path
        return found

    def write(self, number: int, table: pa.Table, facts: dict[str, Any]) -> Part:
        """Write a file and map it. Raises OSError, and leaves nothing then."""
        if shutil.disk_usage(self.folder).free < RESERVE_BYTES + 2 * table.nbytes:
            raise OSError(f"less than {RESERVE_BYTES / 1e9:.1f} GB are free")
        temporary = self.folder / f"{number:05}.tmp"
        told = table.replace_schema_metadata({_FACTS: json.dumps(facts).encode()})
        try:
            with (
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_stream(sink, told.schema) as writer,
            ):
                writer.write_table(told.combine_chunks())
            sync(temporary)
            for old in self.folder.glob(f"{number:05}-*.arrow"):
                old.unlink()
            path = self.folder / f"{number:05}-{_digest(temporary)}.arrow"
            temporary.rename(path)
            sync(self.folder)
            with pa.memory_map(str(path)) as source:
                mapped = pa.ipc.open_stream(source).read_all()
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return mapped.replace_schema_metadata(None), facts, path

    def trim(self) -> None:
        """Remove what was not used for longest, until all together take no more than they may."""
        with contextlib.suppress(OSError):
            with locked(self._root / ".lock"):
                _trim(self._root)
            for removed in self._root.glob(".old-*"):
                shutil.rmtree(removed, ignore_errors=True)


def _trim(root: Path) -> None:
    """Put aside what goes, under the lock of the whole store; entries in use stay."""
    entries = []
    for folder in root.iterdir():
        if (folder / "used").is_file() and not folder.name.startswith("."):
            size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
            entries.append(((folder / "used").stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in entries)
    most = min(MOST_BYTES, MOST_OF_FREE * (shutil.disk_usage(root).free + total))
    for _, size, folder in sorted(entries):
        if total <= most:
            break
        fd = os.open(folder / "used", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)
        folder.rename(root / f".old-{folder.name}-{os.getpid()}")
        total -= size


def _digest(path: Path) -> str:
    """Read, not mapped: the pages do not count as this process's memory. 16 GB a second."""
    state = xxhash.xxh3_64()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()
