"""All that a report or a model card says about one run, read once."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.builtin import UNKNOWN
from engine.data.dataset import Dataset, open_dataset
from engine.errors import UserError
from engine.export.fitting import fitted
from engine.history import queries
from engine.history.evaluated import evaluations_of
from engine.history.row import RunRow
from engine.history.store import Store
from engine.history.votes import WinRate, columns_of, win_rates
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe

__all__ = ["Gathered", "answers_of", "changed_settings", "gather"]


@dataclass(frozen=True)
class Gathered:
    """One run, whole. Texts are as they came: from outside."""

    row: RunRow
    recipe: Recipe | None
    """None: ``recipe.toml`` is gone or damaged."""
    settings: Mapping[str, Any]
    """``section.key`` -> value, in the order of the recipe; of an imported run only what is known,
    where ``recipe`` has the defaults."""
    dataset: Dataset | None
    """What it was trained on; None: it is no longer there as it was."""
    dataset_row: dict[str, Any]
    """The line of the table ``datasets``, also of one that is gone; may be empty."""
    evaluations: Sequence[dict[str, Any]]
    """Losses while it trained."""
    answers: Sequence[dict[str, Any]]
    """Evaluations of its answers, see :func:`answers_of`."""
    samples: Sequence[dict[str, Any]]
    notes: Sequence[dict[str, Any]]
    tags: Sequence[str]
    votes: Sequence[WinRate]
    versions: dict[str, str] = field(default_factory=dict)
    sweep_values: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """The event of the first step: counts of rows and tokens."""


def gather(store: Store, row: RunRow) -> Gathered:
    """Read all that is known of a run; what is gone is left out, never an error."""
    row = fitted(row)
    folder = RunFolder(store.home.runs / row.id)
    recipe, settings = None, {}
    with contextlib.suppress(UserError):
        recipe, settings = folder.read_recipe(), folder.settings()
    dataset_row = _dataset_row(store, row)
    columns = set(columns_of(store, row.id)) | set(columns_of(store, row.name))
    events = queries.events(store, row.id, 10_000)
    facts = [e["event"] for e in events if e["type"] == "state" and "max_steps" in e["event"]]
    return Gathered(
        row=row,
        recipe=recipe,
        settings={k: v for k, v in settings.items() if "." in k and v != UNKNOWN},
        dataset=_dataset(store, dataset_row),
        dataset_row=dataset_row,
        evaluations=queries.evaluations(store, row.id),
        answers=answers_of(store, row.id),
        samples=queries.samples(store, row.id),
        notes=queries.notes(store, row.id),
        tags=queries.tags(store, row.id),
        votes=[rate for rate in win_rates(store) if columns & {rate.a, rate.b}],
        versions={k: str(v) for k, v in _object(row.versions).items()},
        sweep_values=_object(row.sweep_values),
        facts=facts[-1] if facts else {},
    )


def answers_of(store: Store, run: str) -> list[dict[str, Any]]:
    """The evaluations of a run's answers, newest first, of their metrics those that are whole.

    What a stranger wrote into the journal and is no evaluation is left out.
    """
    return [made for one in evaluations_of(store, run) if (made := _whole(one)) is not None]


def _whole(document: dict[str, Any]) -> dict[str, Any] | None:
    try:
        columns = [
            {"id": str(column["id"]), "label": str(column["label"])}
            for column in document["columns"]
        ]
        ids = {column["id"] for column in columns}
        metrics = {
            str(id): {name: value for name in its for value in [_measured(its, name)] if value}
            for id, its in document["metrics"].items()
            if id in ids
        }
        differences = {
            str(id): {
                str(name): {"difference": float(one["difference"]), "p": float(one["p"])}
                for name, one in its.items()
            }
            for id, its in document["differences"].items()
            if id in ids
        }
        failed = document.get("failed") or {}
        return {
            "t": document["t"], "on": str(document["on"]), "rows": int(document["rows"]),
            "columns": columns, "run": columns[-1]["id"], "base": document["base"],
            "metrics": metrics, "differences": differences,
            "failed": {"rows": int(failed.get("rows", 0)), "first": str(failed.get("first", ""))},
            "pairs": str(document["pairs"]).rpartition("/")[2],
        }  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _measured(its: dict[str, Any], name: str) -> tuple[float, float, float] | None:
    """A metric's value and the ends of its interval; None: it is none."""
    if f"{name}_ci" not in its:
        return None
    low, high = its[f"{name}_ci"]
    return float(its[name]), float(low), float(high)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_DATASET = (
    "fingerprint", "name", "path", "source", "layout", "shape", "rows_read", "rows_kept",
    "train_rows", "validation_rows", "test_rows",
)  # fmt: skip


def _dataset_row(store: Store, row: RunRow) -> dict[str, Any]:
    sql = f"SELECT {', '.join(_DATASET)} FROM datasets WHERE fingerprint = ?"
    found = store.query(sql, (row.fingerprint,)) if row.fingerprint else []
    return dict(zip(_DATASET, found[0], strict=True)) if found else {}


def _dataset(store: Store, row: dict[str, Any]) -> Dataset | None:
    if not row.get("path"):
        return None
    try:
        dataset = open_dataset(store.home, row["path"])
    except UserError:
        return None
    return dataset if dataset.fingerprint == row["fingerprint"] else None


def changed_settings(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> (value, default) of what differs from the defaults, in the order of the recipe."""
    usual = Recipe(name="usual").flat()
    return {
        key: (value, usual.get(key)) for key, value in settings.items() if value != usual.get(key)
    }
