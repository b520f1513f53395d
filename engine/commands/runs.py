"""``runs ...`` and ``reindex``: the history, told, annotated, rebuilt."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.commands import sweeps
from engine.commands.endings import ending_lines, standing_checkpoints
from engine.commands.opened import opened
from engine.commands.output import Output
from engine.errors import UsageError
from engine.history import queries
from engine.history.ingest import ingest_all
from engine.history.ingest import reindex as reindex_store
from engine.history.notes import add_note, add_tag, remove_tag
from engine.history.row import RunRow, scalar
from engine.history.store import Store, open_store
from engine.home import Home, existing_home
from engine.jobs.folder import RunFolder
from engine.jobs.lock import is_alive

__all__ = [
    "note",
    "number",
    "reindex",
    "rows_of",
    "show",
    "summary",
    "tag",
    "value_words",
]


def _folder(home: Home, row: RunRow) -> RunFolder:
    return RunFolder(home.runs / row.id)


def summary(row: RunRow, tags: Sequence[str], starred: bool) -> dict[str, Any]:
    """A run as documents have it: every column, with what is JSON in them as values."""
    columns = {key: scalar(value) for key, value in asdict(row).items() if key != "id"}
    document = {"run": row.id, **columns, "tags": [*tags]}
    document["starred"] = starred
    document["versions"] = json.loads(row.versions) if row.versions else {}
    document["error"] = json.loads(row.error) if row.error else None
    document["imported"] = json.loads(row.imported) if row.imported else None
    return document


def show(args: argparse.Namespace, out: Output) -> int:
    """One run: its state, numbers, result, events, notes and the end of its log; or a sweep."""
    if args.card:
        from engine.commands.card import card

        return card(args, out)
    if args.to is not None:
        raise UsageError("runs show --to: writes a model card; say --card too")
    home, store = opened(args, out)
    if sweep := queries.get_sweep(store, args.ref):
        sweeps.table(sweep, out)
        stars = queries.starred(store)
        runs = [summary(r, queries.tags(store, r.id), r.id in stars) for r in sweep.runs]
        out.document({"sweep": sweep.id, "states": sweep.states, "runs": runs})
        return 0
    row = queries.get_run(store, args.ref)
    folder = _folder(home, row)
    standing_checkpoints(row, folder)
    log = folder.log_tail(20)
    tags, notes = queries.tags(store, row.id), queries.notes(store, row.id)
    evaluations = queries.evaluations(store, row.id)
    checkpoints = [
        c for c in queries.checkpoints(store, row.id) if (folder.path / c["path"]).exists()
    ]
    for key, value in asdict(row).items():
        if value not in (None, "") and key not in ("versions", "error", "imported"):
            out.line(f"{key.replace('_', ' '):<21} {value_words(key, value)}")
    if (imported := folder.imported()) is not None:
        out.line(f"{'imported':<21} from {imported.get('tool')}: {imported.get('path')}")
        out.line(f"{'weights':<21} {imported.get('weights') or 'not known where'}")
    for label, words in ending_lines(row, folder):
        out.line(f"  {label:<19} {words}")
    if tags:
        out.line(f"{'tags':<21} {' '.join(tags)}")
    for each in evaluations:
        out.line(
            f"  step {each['step']}: {each['split']} {each['which']} loss {number(each['loss'])}"
        )
    for event in queries.events(store, row.id, 12):
        stamp = time.strftime("%H:%M:%S", time.localtime(event["t"] or 0))
        out.line(f"  {stamp} {event['type']}: {event['text']}")
    for each in notes:
        out.line(f"  note: {each['text']}")
    for text in log[-8:]:
        out.line(f"  | {text}")
    out.document(
        {
            **summary(row, tags, row.id in queries.starred(store)),
            "folder": str(folder.path),
            "alive": is_alive(folder),
            "checkpoints": checkpoints,
            "evaluations": evaluations,
            "samples": queries.samples(store, row.id),
            "events": [event["event"] for event in queries.events(store, row.id)],
            "notes": notes,
            "log_tail": log,
        }
    )
    return 0


def rows_of(store: Store, refs: Sequence[str]) -> list[RunRow]:
    """The runs named, each once; a sweep stands for its runs, the best first."""
    rows: dict[str, RunRow] = {}
    for ref in refs:
        sweep = queries.get_sweep(store, ref)
        for row in sweep.runs if sweep else [queries.get_run(store, ref)]:
            rows.setdefault(row.id, row)
    return list(rows.values())


def note(args: argparse.Namespace, out: Output) -> int:
    """Write a note on a run."""
    home, store = opened(args, out)
    row = queries.get_run(store, args.ref)
    text = " ".join(args.text)
    if not text.strip():
        raise UsageError("runs note: say something; the note is empty")
    id = add_note(home, row.id, text)
    out.line(f"noted on {row.name}")
    out.document({"run": row.id, "note": id})
    return 0


def tag(args: argparse.Namespace, out: Output) -> int:
    """Add tags to a run; ``TAG-`` takes one away."""
    home, store = opened(args, out)
    row = queries.get_run(store, args.ref)
    for each in args.tags:
        if each.endswith("-"):
            remove_tag(home, row.id, each[:-1])
        else:
            add_tag(home, row.id, each)
    ingest_all(home, store)
    tags = queries.tags(store, row.id)
    out.line(f"{row.name}: {' '.join(tags) or 'no tags'}")
    out.document({"run": row.id, "tags": [*tags]})
    return 0


def reindex(args: argparse.Namespace, out: Output) -> int:
    """Rebuild runs.db from the journals."""
    home = existing_home(args.home)
    store = open_store(home)
    began = time.perf_counter()
    runs = reindex_store(home, store)
    seconds = time.perf_counter() - began
    for warning in store.warnings:
        out.note(f"tunebench: {warning}")
    out.line(f"{home.database}: {runs} runs read from their journals in {seconds:.1f} s")
    out.document({"runs": runs, "seconds": seconds})
    return 0


def number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)


def value_words(key: str, value: Any) -> str:
    if key in ("created", "started", "ended", "last_event") and isinstance(value, float):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if key.endswith("memory_bytes") and isinstance(value, int):
        return f"{value / 2**30:.2f} GiB"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
