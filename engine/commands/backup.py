"""``runs backup``: the history in one file, and back."""

import argparse
from pathlib import Path

from engine.commands.opened import opened
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history.ingest import ingest_all
from engine.home import writable_name
from engine.words import bytes_words, counted

__all__ = ["backup"]

ONLY_INDEX = (
    "for reading only: the journals are what a history is rebuilt from; --with-journals copies them"
)
ARCHIVES = (
    ".tar",
    ".gz",
    ".tgz",
    ".zst",
    ".tzst",
    ".xz",
    ".txz",
    ".bz2",
    ".tbz2",
    ".lz4",
    ".7z",
    ".zip",
)
"""Names that promise more than an index."""
NOT_IN_IT = "not in it: checkpoints, results, logs, datasets and the trash"


def backup(args: argparse.Namespace, out: Output) -> int:
    """Copy the index, or all journals, to a file; ``--restore``: bring back what a copy holds."""
    if args.restore and (args.with_journals or args.force):
        raise UsageError("runs backup --restore: takes neither --with-journals nor --force")
    path = Path(writable_name(args.file)).expanduser()
    if args.restore:
        return _restore(args, path, out)
    if not args.with_journals and path.name.lower().endswith(ARCHIVES):
        raise UsageError(
            f"{args.file}: the index alone is an SQLite file, from which nothing can be restored; "
            "add --with-journals for an archive of the journals, or let the name end in .db"
        )
    from engine.history.backup import back_up_index, back_up_journals

    _, store = opened(args, out)
    if args.with_journals:
        size, runs = back_up_journals(store, path, args.force, out.progress)
        out.progress_done()
        out.line(f"{path}: the journals of {counted(runs, 'run')}, {bytes_words(size)}")
        out.line(NOT_IN_IT)
        out.line(f"back: tunebench runs backup {path} --restore [--home DIR]")
    else:
        [(runs,)] = store.query("SELECT count(*) FROM runs")
        size = back_up_index(store, path, args.force)
        out.line(f"{path}: the index of {counted(runs, 'run')}, {bytes_words(size)}")
        out.line(ONLY_INDEX)
    document = {"file": str(path), "bytes": size, "runs": runs}
    out.document({**document, "journals": args.with_journals})
    return 0


def _restore(args: argparse.Namespace, path: Path, out: Output) -> int:
    from engine.history.restoring import refuse_index, restore_backup

    if not path.exists():
        raise UserError(f"{path}: no such file")
    refuse_index(path)
    home, store = opened(args, out, make_home=True)
    found = restore_backup(home, path, out.progress)
    out.progress_done()
    ingest_all(home, store)
    for words in found.refused:
        out.error(words)
    out.line(f"{counted(len(found.runs), 'run')} brought back into {home.path}")
    if found.there:
        out.line(f"{counted(len(found.there), 'run')} were there already, and stay as they are")
    if found.events:
        out.line(f"{counted(found.events, 'event')} of the home's journal (notes, tags, votes) too")
    document = {"file": str(path), "runs": found.runs, "there": found.there}
    out.document({**document, "refused": found.refused, "events": found.events})
    return 1 if found.refused else 0
