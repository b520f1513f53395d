"""What screens and commands ask of ``runs.db``."""

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.history.row import RunRow
from engine.history.store import Store
from engine.history.tables import METRICS, SELECT_RUN, row_of

if TYPE_CHECKING:
    import numpy

__all__ = [
    "SweepRow",
    "archived",
    "checkpoints",
    "evaluations",
    "events",
    "get_run",
    "get_sweep",
    "list_runs",
    "list_sweeps",
    "memory",
    "names",
    "noted",
    "notes",
    "runs_of",
    "samples",
    "series",
    "settings_of",
    "starred",
    "sweep_values",
    "sweeps_of",
    "tags",
    "tags_of_runs",
]


def list_runs(store: Store) -> list[RunRow]:
    """Every run, newest first."""
    return [row_of(row) for row in store.query(f"{SELECT_RUN} ORDER BY created DESC, id DESC")]


def runs_of(store: Store, ids: Collection[str]) -> list[RunRow]:
    """The runs with these ids, as far as there are such, in no order."""
    marks = ", ".join("?" * len(ids))
    return [row_of(row) for row in store.query(f"{SELECT_RUN} WHERE id IN ({marks})", [*ids])]


def get_run(store: Store, ref: str) -> RunRow:
    """The run with this id, name or unique beginning of either; UserError when none or several."""
    if found := store.query(f"{SELECT_RUN} WHERE id = ? OR name = ?", (ref, ref)):
        return row_of(found[0])
    if not ref:  # every name begins with it: an unset variable of a script is no run
        raise UserError("'' names no run; 'tunebench runs' lists them")
    begins = f"{SELECT_RUN} WHERE substr(id, 1, ?) = ? OR substr(name, 1, ?) = ?"
    found = store.query(begins, (len(ref), ref, len(ref), ref))
    if len(found) == 1:
        return row_of(found[0])
    if found:
        names = ", ".join(sorted(f"{row[1]} ({row[0]})" for row in found)[:5])
        raise UserError(f"{ref!r} could be any of {names}; write more of it")
    raise UserError(f"no run {ref!r} in {store.home.runs}; 'tunebench runs' lists them")


@dataclass(frozen=True)
class SweepRow:
    """A group of runs that were made together."""

    id: str
    """Its name."""
    runs: tuple[RunRow, ...]
    """By their best validation loss, the lowest first; those without one last."""

    @property
    def states(self) -> dict[str, int]:
        """How many runs are in each state, the most first."""
        return dict(Counter(row.state for row in self.runs).most_common())

    @property
    def best(self) -> RunRow | None:
        """The run with the lowest validation loss; None while there is none."""
        first = self.runs[0]
        return first if _rank(first)[0] < math.inf else None

    @property
    def keys(self) -> tuple[str, ...]:
        """The recipe's keys that the sweep is about."""
        return tuple(dict.fromkeys(key for row in self.runs for key in sweep_values(row)))


def _rank(row: RunRow) -> tuple[float, float]:
    loss = row.best_eval_loss
    return math.inf if loss is None or loss != loss else loss, row.created or 0.0


def sweep_values(row: RunRow) -> dict[str, Any]:
    """Key -> value of the run's sweep; empty for a run of its own."""
    found = json.loads(row.sweep_values) if row.sweep_values else {}
    return found if isinstance(found, dict) else {}  # run.json may have been written by hand


def list_sweeps(store: Store) -> list[SweepRow]:
    """Every sweep of which there are runs, the newest first."""
    return sweeps_of(list_runs(store))


def sweeps_of(rows: Sequence[RunRow]) -> list[SweepRow]:
    """The sweeps of runs that were listed already, in the order of their first runs there."""
    groups: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.sweep:
            groups.setdefault(row.sweep, []).append(row)
    return [SweepRow(id, tuple(sorted(rows, key=_rank))) for id, rows in groups.items()]


def get_sweep(store: Store, ref: str) -> SweepRow | None:
    """The sweep of this name; None when there is none."""
    return next((sweep for sweep in list_sweeps(store) if sweep.id == ref), None)


def series(
    store: Store, run: str, names: Sequence[str]
) -> "dict[str, tuple[numpy.ndarray, numpy.ndarray]]":
    """Each named metric as (steps, values), float64, in order of steps.

    ``names`` are columns of the table ``metrics`` (``loss``, ``learning_rate``, ...), or
    ``eval_loss`` for the validation loss. Steps without a value are left out; a value that is no
    finite number is NaN.
    """
    import numpy

    found = {}
    for name in names:
        if name == "eval_loss":
            sql = (
                "SELECT step, loss FROM evaluations WHERE run = ? AND split = 'validation' "
                "AND loss IS NOT NULL ORDER BY step, t"
            )
        elif name in METRICS:
            sql = (
                f"SELECT step, {name} FROM metrics WHERE run = ? AND {name} IS NOT NULL "
                "ORDER BY step"
            )
        else:
            raise ValueError(f"{name!r} is no metric; there are {', '.join(METRICS)}, eval_loss")
        rows = store.query(sql, (run,))
        steps = numpy.fromiter((row[0] for row in rows), numpy.float64, len(rows))
        values = (row[1] if isinstance(row[1], int | float) else numpy.nan for row in rows)
        found[name] = (steps, numpy.fromiter(values, numpy.float64, len(rows)))
    return found


def _dicts(store: Store, table: str, columns: str, run: str, tail: str) -> list[dict[str, Any]]:
    rows = store.query(f"SELECT {columns} FROM {table} WHERE run = ? {tail}", (run,))
    names = columns.split(", ")
    return [dict(zip(names, row, strict=True)) for row in rows]


def evaluations(store: Store, run: str) -> list[dict[str, Any]]:
    """Evaluations in order, as dicts of the table's columns."""
    columns = "step, split, which, attempt, t, loss, rows, tokens, seconds, mean_token_accuracy"
    return _dicts(store, "evaluations", columns, run, "ORDER BY t, step")


def samples(store: Store, run: str) -> list[dict[str, Any]]:
    """What the model wrote while it trained: step, attempt, t, prompt, text, reference."""
    columns = "step, attempt, t, prompt, text, reference"
    return _dicts(store, "samples", columns, run, "ORDER BY step, t")


def checkpoints(store: Store, run: str) -> list[dict[str, Any]]:
    """Checkpoints ever written: step, attempt, t, path, bytes, seconds, best (0 or 1)."""
    columns = "step, attempt, t, path, bytes, seconds, best"
    return _dicts(store, "checkpoints", columns, run, "ORDER BY t")


def memory(store: Store, run: str, limit: int = 1000) -> list[dict[str, Any]]:
    """The last memory readings, oldest first, as dicts of the table's columns."""
    columns = "t, device, used_bytes, total_bytes, peak_bytes, utilisation"
    return _dicts(store, "memory", columns, run, f"ORDER BY line DESC LIMIT {int(limit)}")[::-1]


def events(store: Store, run: str, limit: int = 200) -> list[dict[str, Any]]:
    """The last states, warnings, ..., oldest first: t, attempt, type, text, event (a dict)."""
    columns = "t, attempt, type, text, event"
    found = _dicts(store, "events", columns, run, f"ORDER BY line DESC LIMIT {int(limit)}")[::-1]
    return [{**event, "event": json.loads(event["event"])} for event in found]


def notes(store: Store, run: str) -> list[dict[str, Any]]:
    """Notes on a run, oldest first: id, t, text."""
    return _dicts(store, "notes", "id, t, text", run, "ORDER BY t")


def tags(store: Store, run: str) -> list[str]:
    """A run's tags, sorted."""
    return [
        tag for (tag,) in store.query("SELECT tag FROM tags WHERE run = ? ORDER BY tag", (run,))
    ]


def starred(store: Store) -> frozenset[str]:
    """The ids of starred runs, those in the trash too."""
    return frozenset(run for (run,) in store.query("SELECT run FROM stars"))


def archived(store: Store) -> frozenset[str]:
    """The ids of runs that were put away."""
    return frozenset(run for (run,) in store.query("SELECT run FROM archived"))


def names(store: Store) -> dict[str, str]:
    """Id -> name of the runs that were renamed."""
    return dict(store.query("SELECT run, name FROM names"))


def noted(store: Store) -> frozenset[str]:
    """The ids of runs with a note."""
    return frozenset(run for (run,) in store.query("SELECT DISTINCT run FROM notes"))


def settings_of(store: Store, ids: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """Run's id -> its recipe's values by ``section.key``; ``ids`` None: of all runs.

    Runs whose recipe could not be read are left out. A recipe takes 50 µs.
    """
    sql, wanted = "SELECT run, settings FROM recipes", tuple[str, ...]()
    if ids is not None:
        sql, wanted = f"{sql} WHERE run IN ({', '.join('?' * len(ids))})", tuple(ids)
    return {run: json.loads(settings) for run, settings in store.query(sql, wanted)}


def tags_of_runs(store: Store) -> dict[str, tuple[str, ...]]:
    """Run's id -> its tags, sorted; runs without any are left out."""
    found: dict[str, list[str]] = {}
    for run, tag in store.query("SELECT run, tag FROM tags ORDER BY run, tag"):
        found.setdefault(run, []).append(tag)
    return {run: tuple(tags) for run, tags in found.items()}
