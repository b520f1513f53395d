"""What the tests of ``runs import`` share: a home, the command, and folders to import."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy
import pytest

from engine.cli import main
from engine.history import queries
from engine.history.ingest import ingest_all, reindex
from engine.history.row import RunRow
from engine.history.store import Store, open_store
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all

__all__ = ["MADE", "Imports", "Place"]

MADE = Path(__file__).parent / "fixtures" / "past"
"""Folders that other programs made; how is said in ``MADE.md`` there."""
WRITTEN = 1_790_000_000.0


class Place:
    """A writable copy of a made folder, its files' times set: git keeps none."""

    def __init__(self, tmp_path: Path, name: str, to: str = "") -> None:
        self.path = tmp_path / "theirs" / (to or name)
        shutil.copytree(MADE / name, self.path)
        self.dated()

    def dated(self, **moments: float) -> None:
        """All files at one time; those below a name (``checkpoint_20``) so many seconds earlier."""
        for path in self.path.rglob("*"):
            top = path.relative_to(self.path).parts[0].replace("-", "_")
            moment = WRITTEN - moments.get(top, 0.0)
            os.utime(path, (moment, moment))

    def state(self, name: str = "trainer_state.json") -> Any:
        return json.loads((self.path / name).read_text())


class Imports:
    """``tunebench runs import`` in a home of its own."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home: Home = open_home(tmp_path / "home")
        self.capsys = capsys
        self.err = ""

    def __call__(self, *words: Any, status: int = 0) -> Any:
        got = main(["runs", "import", *map(str, words), "--json", "--home", str(self.home.path)])
        out, self.err = self.capsys.readouterr()
        assert got == status, self.err
        return json.loads(out) if out else None

    def store(self) -> Store:
        store = open_store(self.home)
        ingest_all(self.home, store)
        return store

    def row(self, document: Any) -> RunRow:
        return queries.get_run(self.store(), document["run"])

    def folder(self, document: Any) -> RunFolder:
        return RunFolder(self.home.runs / document["run"])

    def events(self, document: Any, type: str = "") -> list[dict[str, Any]]:
        found = list(read_all(self.folder(document).journal))
        return [event for event in found if type in ("", event["type"])]

    def curve(self, document: Any, name: str) -> dict[int, float]:
        """Step -> value, by the database and, the same, by one that is built anew."""
        store = self.store()
        steps, values = queries.series(store, document["run"], [name])[name]
        reindex(self.home, store)
        again = queries.series(store, document["run"], [name])[name]
        assert numpy.array_equal(steps, again[0])
        assert numpy.array_equal(values, again[1], equal_nan=True)
        return dict(zip(map(int, steps.tolist()), values.tolist(), strict=True))

    def runs(self) -> list[str]:
        """Names of everything in ``runs/``, hidden files too, but its lock."""
        return sorted(name for name in os.listdir(self.home.runs) if name != ".lock")
