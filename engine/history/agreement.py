"""Does the index say what the journals say? It is read anew beside it, and compared row by row."""

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.history.ingest import ingest_all
from engine.history.place import Place
from engine.history.row import ENDS
from engine.history.store import Store
from engine.history.tables import HOME_TABLES, RUN_TABLES
from engine.home import Home

__all__ = ["Difference", "disagreements", "read_anew", "tables_of"]

OWN = frozenset({"journals", "datasets", "_sqlite_migrations"})
"""Not the journals' content: how far they were read, what lies in other folders, the schema. Of the
line of a dataset, what several runs say of it is kept of the first that was read."""

Rows = Sequence[tuple[object, ...]]


@dataclass(frozen=True)
class Difference:
    """Of one run (or "": of the home's journal), what a table has and what the journals tell."""

    table: str
    run: str
    stored: int
    """Rows in the index."""
    told: int
    """Rows that the journals tell; where it is the same number, some of them say other things."""

    @property
    def words(self) -> str:
        where = f"{self.table} of {self.run or 'the home'}"
        if self.stored == self.told:
            return f"{where}: {self.told} rows, with other content"
        return f"{where}: {self.stored} rows instead of {self.told}"


@contextmanager
def read_anew(home: Home) -> Iterator[Store]:
    """A store filled from the journals' first lines, in a temporary file.

    Nothing of the home is changed, and no run is found lost. Raises OSError.
    """
    with tempfile.TemporaryDirectory(prefix="tunebench-") as folder:
        store = Store(home, place=Place(Path(folder) / "runs.db"))
        try:
            store.connection.execute("PRAGMA synchronous = OFF")
            ingest_all(home, store, live=False)
            yield store
        finally:
            store.close()


def disagreements(index: sqlite3.Connection, anew: sqlite3.Connection) -> list[Difference]:
    """Where the index says other things than one read anew from the same journals.

    Runs whose journals grew in between are left out, and what the journals do not hold: the
    verdict that a run is lost, and the ends of logs that can be searched.
    """
    same = _read_alike(index, anew)
    found = []
    for table, columns in tables_of(anew).items():
        names = ", ".join(f'"{name}"' for name in columns if (table, name) != ("texts", "id"))
        if "run" in columns or table == "runs":
            key = "id" if table == "runs" else "run"
            runs = {run for (run,) in index.execute(f"SELECT DISTINCT {key} FROM {table}")}
            runs |= {run for (run,) in anew.execute(f"SELECT DISTINCT {key} FROM {table}")}
            for run in sorted(runs, key=str):
                if (table in _OF_RUN or "" in same) and (table in _OF_HOME or run in same):
                    sql = f'SELECT {names} FROM {table} WHERE "{key}" IS ?'
                    found += _compare(table, str(run), index, anew, sql, (run,))
        elif "" in same:
            found += _compare(table, "", index, anew, f"SELECT {names} FROM {table}", ())
    return found


_OF_HOME = frozenset(HOME_TABLES)
"""Some have a run's id, and come from the home's journal all the same."""
_OF_RUN = frozenset(RUN_TABLES) | {"recipes"}
"""From a run's journal alone; ``runs`` and ``texts`` have something of both."""


def tables_of(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Tables with content of their own, and the names of their columns."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = [name for (name,) in connection.execute(f"{sql} ORDER BY name")]
    full_text = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'"
        )
    ]
    shadows = tuple(f"{name}_" for name in full_text)
    return {
        name: [column[1] for column in connection.execute(f'PRAGMA table_info("{name}")')]
        for name in names
        if name not in OWN and name not in full_text and not (shadows and name.startswith(shadows))
    }


def _read_alike(index: sqlite3.Connection, anew: sqlite3.Connection) -> set[str]:
    """Journals of which both have read the same lines, and those that only one of them has."""
    sql = "SELECT run, inode, offset, head FROM journals"
    one, other = ({run: rest for run, *rest in c.execute(sql)} for c in (index, anew))
    same = {run for run, read in other.items() if one.get(run, read) == read}
    if "" not in one.keys() | other.keys():
        same.add("")
    return same | (one.keys() - other.keys())


def _compare(
    table: str,
    run: str,
    index: sqlite3.Connection,
    anew: sqlite3.Connection,
    sql: str,
    values: tuple[object, ...],
) -> list[Difference]:
    stored, told = (_known(table, c.execute(sql, values)) for c in (index, anew))
    if stored == told or (table == "runs" and _only_lost(stored, told, index)):
        return []
    return [Difference(table, run, len(stored), len(told))]


def _known(table: str, cursor: sqlite3.Cursor) -> Rows:
    columns = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    if table == "texts":
        at = columns.index("kind")
        rows = [row for row in rows if row[at] != "log"]
    return sorted(rows, key=repr)


def _only_lost(stored: Rows, told: Rows, index: sqlite3.Connection) -> bool:
    """The same row, but that a viewer found that the run had no end and nobody held it."""
    if len(stored) != 1 or len(told) != 1:
        return False
    columns = [column[1] for column in index.execute("PRAGMA table_info(runs)")]
    one, other = (dict(zip(columns, rows[0], strict=True)) for rows in (stored, told))
    verdict = {"state", "ended", "reason"}
    rest = all(one[name] == other[name] for name in columns if name not in verdict)
    return rest and one["state"] == "lost" and other["state"] not in ENDS
