"""``runs show RUN --card``: a run's model card, printed or written."""

import argparse
from pathlib import Path

from engine.commands.opened import opened
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history import queries
from engine.history.row import RunRow
from engine.history.store import Store
from engine.words import bytes_words, counted

__all__ = ["add_card", "card"]

README = "README.md"


def card(args: argparse.Namespace, out: Output) -> int:
    """Print the card; with ``--to`` write it, with its charts beside it."""
    from engine.export.card import card_of
    from engine.export.figures import curve_of
    from engine.export.gathered import gather
    from engine.export.report_files import write_markdown

    _, store = opened(args, out)
    if queries.get_sweep(store, args.ref):
        raise UsageError(f"runs show {args.ref} --card: is a sweep; a card is of one run")
    row = queries.get_run(store, args.ref)
    made = card_of(gather(store, row), curve_of(store, row))
    if args.to is None or args.to == "-":
        out.line(made.text.rstrip("\n"))
        out.document({"run": row.id, "metadata": made.metadata, "card": made.text})
        return 0
    path = Path(args.to).expanduser().absolute()
    paths = write_markdown(path, made.head, made.blocks, args.force)
    beside = f" and {counted(len(paths) - 1, 'chart')} beside it" if len(paths) > 1 else ""
    size = sum(file.stat().st_size for file in paths)
    out.line(f"{path}{beside}: the card of {row.name}, {bytes_words(size)}")
    files = [str(file) for file in paths]
    out.document({"run": row.id, "file": str(path), "files": files, "bytes": size})
    return 0


def add_card(store: Store, row: RunRow, folder: Path, *, merged: bool) -> str:
    """Write the card into the folder of a result that was just exported; returns what to tell.

    A README.md that is there (the user's own, from the run's folder) stays as it is.
    """
    from engine.export.card import card_of
    from engine.export.figures import curve_of
    from engine.export.gathered import gather
    from engine.export.report_files import write_markdown

    path = folder / README
    if path.exists():
        return f"{path}: kept as it was; 'tunebench runs show {row.name} --card' makes another"
    made = card_of(gather(store, row), curve_of(store, row), merged=merged)
    try:
        write_markdown(path, made.head, made.blocks, force=False)
    except UserError as error:
        return f"no model card: {error}"
    return f"{path}: the model card; read it before you publish it"
