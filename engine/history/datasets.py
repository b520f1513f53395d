"""The cleaned datasets as lines of ``runs.db``, taken over from their manifests."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from engine.history.store import Store
from engine.home import Home

__all__ = ["ingest_datasets"]

_COLUMNS = (
    "fingerprint", "name", "path", "created", "source", "layout", "shape", "rows_read", "rows_kept",
    "train_rows", "validation_rows", "test_rows", "seconds", "clean", "manifest",
)  # fmt: skip
_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
    sqlite3.InterfaceError, sqlite3.ProgrammingError,
)  # fmt: skip
_COUNTS = ("rows_read", "rows_kept", "train", "validation", "test")
_VALUES = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "fingerprint")
_PUT = (
    f"INSERT INTO datasets ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (fingerprint) DO UPDATE SET {_VALUES}"
)


def ingest_datasets(home: Home, store: Store) -> bool:
    """Take over manifests that are new or changed; True when something was.

    Costs one directory listing and a stat a dataset when nothing changed. A dataset that is gone
    keeps its line, without a path: runs were trained on it. Of several with one fingerprint the
    line is that of the last by name.
    """
    there = _manifests(home)
    known = dict(
        store.connection.execute("SELECT path, manifest FROM datasets WHERE path IS NOT NULL")
    )
    gone = [path for path in known if path not in there]
    if gone:
        store.datasets.clear()  # another one may have the same fingerprint
    changed = {
        path: stamp
        for path, stamp in sorted(there.items())
        if stamp not in (known.get(path), store.datasets.get(path))
    }
    if not changed and not gone:
        return False
    with store.transaction() as connection:
        for path in (*gone, *changed):
            connection.execute("UPDATE datasets SET path = NULL WHERE path = ?", (path,))
        for path, stamp in changed.items():
            _take_over(connection, path, stamp)
    store.datasets.update(changed)
    return True


def _manifests(home: Home) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with os.scandir(home.datasets) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    info = os.stat(f"{entry.path}/dataset.json")
                except OSError:
                    continue
                found[entry.path] = f"{info.st_size}:{info.st_mtime_ns}:{info.st_ino}"
    except OSError:
        return {}
    return found


def _take_over(connection: sqlite3.Connection, path: str, stamp: str) -> None:
    try:
        manifest: dict[str, Any] = json.loads(
            Path(path, "dataset.json").read_text(encoding="utf-8")
        )
        report = manifest["report"]
        if not isinstance(manifest["fingerprint"], str):
            raise TypeError
        values = (
            manifest["fingerprint"], manifest["name"], path, float(manifest["created"]),
            str(manifest["source"].get("path", "")), report.get("layout"), report.get("shape"),
            *(int(report[name]) for name in _COUNTS),
            float(report["seconds"]), json.dumps(manifest["clean"]), stamp,
        )  # fmt: skip
        connection.execute(_PUT, values)
    except _DAMAGED:
        return  # half a dataset, or a damaged one: it is none
