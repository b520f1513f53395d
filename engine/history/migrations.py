"""The schema of ``runs.db``, step by step; imported only when a step has to be applied.

Importing sqlite-utils takes 0.1 s, and with pandas, where that is installed, 0.7 s and 40 MB more:
``engine.history.store`` compares names with plain SQL first and comes here only when they differ.

What the tables and columns mean is said in ``engine.history.described``: a migration that adds one
adds its words there, and ``tunebench runs schema`` prints both (kept as ``SCHEMA.md`` beside this).
"""

import sys
from collections.abc import Sequence

# sqlite-utils imports pandas where it is installed, only to know its types: not wanted here.
_pandas = "pandas" in sys.modules
if not _pandas:
    sys.modules["pandas"] = None  # type: ignore[assignment]
try:
    from sqlite_utils import Database, Migrations
finally:
    if not _pandas:
        del sys.modules["pandas"]

__all__ = ["Database", "migrations"]

migrations = Migrations("tunebench")

METRICS = {
    "run": str,
    "step": int,
    "attempt": int,
    "t": float,
    "epoch": float,
    "loss": float,
    "learning_rate": float,
    "grad_norm": float,
    "step_seconds": float,
    "tokens": int,
    "tokens_per_second": float,
    "mean_token_accuracy": float,
    "memory_bytes": int,
    "peak_memory_bytes": int,
    "extra": str,
}

RUNS = {
    "id": str,
    "name": str,
    "parent": str,
    "recipe": str,
    "created": float,
    "state": str,
    "phase": str,
    "started": float,
    "ended": float,
    "attempt": int,
    "step": int,
    "max_steps": int,
    "resume_step": int,
    "epoch": float,
    "loss": float,
    "learning_rate": float,
    "grad_norm": float,
    "tokens_per_second": float,
    "step_seconds": float,
    "train_loss": float,
    "eval_loss": float,
    "best_eval_loss": float,
    "best_step": int,
    "test_loss_before": float,
    "test_loss": float,
    "memory_bytes": int,
    "peak_memory_bytes": int,
    "total_parameters": int,
    "trainable_parameters": int,
    "train_rows": int,
    "validation_rows": int,
    "test_rows": int,
    "model": str,
    "dataset": str,
    "fingerprint": str,
    "backend": str,
    "device": str,
    "gpu": str,
    "dtype": str,
    "optim": str,
    "git_commit": str,
    "versions": str,
    "exit_code": int,
    "signal": int,
    "signal_name": str,
    "checkpoint": str,
    "best_checkpoint": str,
    "adapter": str,
    "reason": str,
    "error_kind": str,
    "last_event": float,
}


VIEWS = {
    "run_summary": """
SELECT runs.id, runs.name, runs.state, stars.run IS NOT NULL AS starred,
  archived.run IS NOT NULL AS archived, datetime(runs.created, 'unixepoch') AS created_utc,
  runs.model, runs.dataset, runs.sweep, runs.parent, runs.repeats, runs.step, runs.max_steps,
  runs.train_loss, runs.best_eval_loss, runs.best_step, runs.test_loss_before, runs.test_loss,
  round(runs.tokens_per_second, 1) AS tokens_per_second,
  round(runs.peak_memory_bytes / 1073741824.0, 2) AS peak_gib,
  CASE WHEN runs.imported IS NULL OR runs.ended > runs.started THEN
    round((coalesce(runs.earlier_seconds, 0) + coalesce(runs.ended, runs.last_event) - runs.started)
    / 3600, 3) END AS hours,
  (SELECT group_concat(tag, ' ') FROM tags WHERE tags.run = runs.id) AS tags,
  (SELECT count(*) FROM notes WHERE notes.run = runs.id) AS notes, runs.reason
FROM runs LEFT JOIN stars ON stars.run = runs.id LEFT JOIN archived ON archived.run = runs.id
ORDER BY runs.created DESC""",
    "run_settings": """
SELECT recipes.run, runs.name, each.key, each.value
FROM recipes JOIN runs ON runs.id = recipes.run, json_each(recipes.settings) AS each""",
    "sweep_summary": """
SELECT sweep, count(*) AS runs, sum(state = 'finished') AS finished,
  min(best_eval_loss) AS best_eval_loss, datetime(min(created), 'unixepoch') AS created_utc
FROM runs WHERE sweep IS NOT NULL GROUP BY sweep ORDER BY created_utc DESC""",
}


@migrations()
def m001_first(db: Database) -> None:
    _create(db, "runs", RUNS, "id")
    _create(db, "metrics", METRICS, ("run", "step"))
    loss = {"loss": float, "rows": int, "tokens": int, "seconds": float}
    evaluations = {"run": str, "step": int, "split": str, "which": str, "attempt": int, "t": float}
    evaluations |= {**loss, "mean_token_accuracy": float}
    _create(db, "evaluations", evaluations, ("run", "step", "split", "which"))
    samples = {"run": str, "step": int, "prompt": str, "attempt": int, "t": float, "text": str}
    _create(db, "samples", {**samples, "reference": str}, ("run", "step", "prompt"))
    checkpoints = {"run": str, "path": str, "step": int, "attempt": int, "t": float, "bytes": int}
    _create(db, "checkpoints", {**checkpoints, "seconds": float, "best": int}, ("run", "path"))
    memory = {"run": str, "line": int, "attempt": int, "t": float, "device": str}
    memory |= {"used_bytes": int, "total_bytes": int, "peak_bytes": int, "utilisation": float}
    _create(db, "memory", memory, ("run", "line"))
    events = {"run": str, "line": int, "attempt": int, "t": float, "type": str}
    _create(db, "events", {**events, "text": str, "event": str}, ("run", "line"))
    journals = {"run": str, "device": int, "inode": int, "size": int, "mtime_ns": int}
    journals |= {"head": str, "offset": int, "lines": int, "unreadable": int}
    _create(db, "journals", journals, "run")
    _create(db, "notes", {"id": str, "run": str, "t": float, "text": str}, "id")
    _create(db, "tags", {"run": str, "tag": str, "t": float}, ("run", "tag"))
    datasets = {"fingerprint": str, "name": str, "train_rows": int, "validation_rows": int}
    datasets |= {"test_rows": int, "first_used": float}
    _create(db, "datasets", datasets, "fingerprint")


@migrations()
def m002_seconds_of_all_attempts(db: Database) -> None:
    db.table("runs").add_column("earlier_seconds", float)
    db.execute("DELETE FROM journals")  # so that all are read again: ``started`` means another time


@migrations()
def m003_datasets_as_things(db: Database) -> None:
    columns = {"path": str, "created": float, "source": str, "layout": str, "shape": str}
    columns |= {"rows_read": int, "rows_kept": int, "seconds": float, "clean": str, "manifest": str}
    for name, kind in columns.items():
        db.table("datasets").add_column(name, kind)


@migrations()
def m004_sweeps_and_errors(db: Database) -> None:
    columns = {"sweep": str, "sweep_values": str, "num_processes": int, "error": str}
    for name, kind in columns.items():
        db.table("runs").add_column(name, kind)


@migrations()
def m005_benches(db: Database) -> None:
    benches = {"id": str, "t": float, "host": str, "gpu": str, "recipe": str, "state": str}
    _create(db, "benches", {**benches, "document": str}, "id")
    # An older program may have passed over such lines of the home's journal.
    db.execute("DELETE FROM journals WHERE run = ''")


@migrations()
def m006_estimated_memory(db: Database) -> None:
    db.table("runs").add_column("estimated_peak_bytes", int)


@migrations()
def m007_votes_and_prompts(db: Database) -> None:
    votes = {"id": str, "t": float, "prompt_set": str, "a": str, "b": str, "a_label": str}
    votes |= {"b_label": str, "choice": str, "note": str, "document": str}
    _create(db, "votes", votes, "id")
    # Counting reads this index only, never the answers' texts.
    columns = ("a", "b", "choice", "prompt_set", "t", "a_label", "b_label")
    db.table("votes").create_index(columns, "votes_counted")
    db.table("votes").create_index(("t",), "votes_in_time")
    prompts = {"key": str, "id": str, "t": float, "source": str, "times": int}
    _create(db, "prompts", {**prompts, "prompt": str, "words": str}, "key")
    db.table("prompts").create_index(("t",), "prompts_in_time")
    _create(db, "prompt_sets", {"name": str, "id": str, "t": float, "count": int}, "name")
    rows = {"set_id": str, "place": int, "prompt": str, "reference": str}
    _create(db, "set_prompts", rows, ("set_id", "place"))
    db.execute("DELETE FROM journals WHERE run = ''")  # as in m005


@migrations()
def m008_evaluations_of_answers(db: Database) -> None:
    evaluated = {"id": str, "run": str, "t": float, "on": str, "rows": int, "document": str}
    _create(db, "evaluated", evaluated, "id")
    db.table("evaluated").create_index(("run", "t"), "evaluated_of_run")
    rows = {"evaluation": str, "number": int, "score": float, "change": float, "scores": str}
    _create(db, "evaluated_rows", rows, ("evaluation", "number"))
    db.table("evaluated_rows").create_index(("evaluation", "score"), "evaluated_rows_by_score")
    db.execute("DELETE FROM journals WHERE run = ''")  # as in m005


@migrations()
def m009_marks_and_search(db: Database) -> None:
    for name in ("repeats", "imported"):
        db.table("runs").add_column(name, str)
    _create(db, "recipes", {"run": str, "settings": str}, "run")
    _create(db, "names", {"run": str, "t": float, "name": str}, "run")
    _create(db, "stars", {"run": str, "t": float}, "run")
    _create(db, "archived", {"run": str, "t": float}, "run")
    texts = {"id": int, "run": str, "kind": str, "part": str, "t": float, "text": str}
    _create(db, "texts", texts, "id")
    db.table("texts").create_index(("run", "kind", "part"), "texts_of_run", unique=True)
    tokenize = "unicode61 remove_diacritics 2"
    db.table("texts").enable_fts(["text"], "FTS5", create_triggers=True, tokenize=tokenize)
    for name, sql in VIEWS.items():
        db.create_view(name, sql)
    db.execute("DELETE FROM journals")  # so that all are read again, for the recipes and texts


@migrations()
def m010_no_hours_where_no_times_are_told(db: Database) -> None:
    db.create_view("run_summary", VIEWS["run_summary"], replace=True)


def _create(db: Database, name: str, columns: dict[str, type], key: str | Sequence[str]) -> None:
    db.table(name).create(columns, pk=key if isinstance(key, str) else tuple(key))
