"""``runs rename|star|archive|rm|restore|trash``: what a history of 500 runs needs now and then."""

import argparse
import sys
import time
from collections.abc import Sequence

from engine.commands.opened import opened
from engine.commands.output import Output
from engine.commands.runs import rows_of
from engine.errors import UsageError, UserError
from engine.history import marks, queries
from engine.history.ingest import ingest_all
from engine.history.row import RunRow
from engine.history.store import Store
from engine.home import Home, existing_home
from engine.jobs import trash as jobs_trash
from engine.jobs.folder import RunFolder
from engine.jobs.launch import refuse_alive
from engine.text import clip
from engine.words import bytes_words, counted, moment

__all__ = ["archive", "remove", "rename", "restore", "star", "trash"]

DAY = 86_400.0


def rename(args: argparse.Namespace, out: Output) -> int:
    """Give a run another name."""
    home, store = opened(args, out)
    row = queries.get_run(store, args.ref)
    marks.rename_run(home, row.id, args.name)
    out.line(f"{row.name} is {args.name} now")
    out.document({"run": row.id, "name": args.name, "before": row.name})
    return 0


def star(args: argparse.Namespace, out: Output) -> int:
    """Star runs, or no longer."""
    return _mark(args, out, "starred")


def archive(args: argparse.Namespace, out: Output) -> int:
    """Put runs away, or bring them back into the usual list."""
    return _mark(args, out, "archived")


def _mark(args: argparse.Namespace, out: Output, what: str) -> int:
    home, store = opened(args, out)
    rows = rows_of(store, args.refs)
    for row in rows:
        (marks.star if what == "starred" else marks.archive)(home, row.id, not args.off)
    ingest_all(home, store)
    out.line(f"{_names(rows)}: {'not ' * args.off}{what}")
    out.document({"runs": [row.id for row in rows], what: not args.off})
    return 0


def _names(rows: Sequence[RunRow]) -> str:
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(row.name for row in rows[:3]) + more


def remove(args: argparse.Namespace, out: Output) -> int:
    """Move a run's folder, journal and checkpoints with it, to the trash; or all of a sweep."""
    home, store = opened(args, out)
    sweep = queries.get_sweep(store, args.ref)
    rows = sweep.runs if sweep else (queries.get_run(store, args.ref),)
    folders = [RunFolder(home.runs / row.id) for row in rows]
    for folder in folders:
        refuse_alive(folder)  # before anything is asked
    [row, *_] = rows
    what = f"{len(rows)} runs of {sweep.id}" if sweep else f"{row.name} ({row.id})"
    size = bytes_words(sum(jobs_trash.folder_bytes(folder.path) for folder in folders))
    how = f"Delete {what} for good" if args.purge else f"Move {what} to the trash"
    _agreed(args, out, "rm", f"{how}, with checkpoints and result: {size}?", what)
    for folder in folders:
        (jobs_trash.delete_run if args.purge else jobs_trash.move_to_trash)(home, folder)
    ingest_all(home, store)
    if args.purge:
        out.line(f"deleted {what}: {size} are free again")
    else:
        out.line(f"moved {what} to the trash: {size}")
        out.line("'tunebench runs restore' brings it back, 'runs trash --empty' frees the room")
    ids = {"sweep": sweep.id, "runs": [row.id for row in rows]} if sweep else {"run": row.id}
    out.document({**ids, "deleted": True, "purged": args.purge})
    return 0


def _agreed(args: argparse.Namespace, out: Output, verb: str, question: str, what: str) -> None:
    """Raises UserError when there is nobody to ask, or the answer is no."""
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"runs {verb}: nobody to ask; add --yes to delete {what}")
    if not out.ask(question):
        raise UserError("nothing was deleted")


def restore(args: argparse.Namespace, out: Output) -> int:
    """Bring a run, or what is there of a sweep, back from the trash."""
    home, store = opened(args, out)
    if jobs_trash.trashed_of(home, args.ref):
        return _restore_all(home, store, args.ref, out)
    folder = jobs_trash.restore(home, args.ref)
    ingest_all(home, store)
    out.line(f"{folder.name} ({folder.id}) is back")
    out.document({"run": folder.id, "restored": True})
    return 0


def _restore_all(home: Home, store: Store, sweep: str, out: Output) -> int:
    folders, errors = jobs_trash.restore_sweep(home, sweep)
    back = [folder.id for folder in folders]
    for words in errors:
        out.error(words)
    ingest_all(home, store)
    out.line(f"{counted(len(back), 'run')} of {sweep}: back")
    document = {"sweep": sweep, "runs": back, "restored": not errors}
    out.document(document | ({"errors": errors} if errors else {}))
    return 1 if errors else 0


def trash(args: argparse.Namespace, out: Output) -> int:
    """What is in the trash; ``--empty`` deletes it for good."""
    if args.days is not None and not args.days >= 0:
        raise UsageError(f"--days {args.days:g}: cannot be less than 0")
    home = existing_home(args.home)
    limit = None if args.days is None else time.time() - args.days * DAY
    found = [run for run in jobs_trash.trashed(home) if limit is None or run.t <= limit]
    sizes = [run.bytes for run in found]
    total = f"{counted(len(found), 'run')}, {bytes_words(sum(sizes))}"
    for run, size in zip(found, sizes, strict=True):
        out.line(f"{run.id:<21} {clip(run.name, 24):<24} {bytes_words(size):>9}  {moment(run.t)}")
    if args.empty and found:
        question = f"Delete {total} for good?"
        _agreed(args, out, "trash --empty", question, "what is listed above")
        jobs_trash.empty(home, {run.id for run in found})
        out.line(f"deleted for good: {total}")
    else:
        out.line(f"in the trash: {total}" if found else "nothing in the trash")
    runs = [
        {"run": run.id, "name": run.name, "deleted": run.t, "bytes": size}
        for run, size in zip(found, sizes, strict=True)
    ]
    out.document({"runs": runs, "bytes": sum(sizes), "emptied": bool(args.empty and found)})
    return 0
