"""``export``: a run's result as files that other programs load."""

import argparse
from pathlib import Path

from engine.commands.card import add_card
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history import queries
from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import existing_home
from engine.jobs.launch import find_run

__all__ = ["export"]


def export(args: argparse.Namespace, out: Output) -> int:
    """Copy the adapter, or merge it into its base as a 16-bit model; with its model card."""
    from engine.export.adapter import copy_adapter
    from engine.generate.errand import run_errand

    home = existing_home(args.home)
    folder = find_run(home, args.ref)
    target = Path(args.out).expanduser().absolute()
    if target.exists():
        raise UsageError(f"--out {args.out}: exists already; name a folder that does not")
    try:
        if args.to == "adapter":
            result = copy_adapter(folder, target)
        else:
            arguments = [str(folder.path), str(target)]
            result = run_errand("engine.export.merge", arguments, out.progress)
            out.progress_done()
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from None
    store = open_store(home)
    ingest_all(home, store)
    row = queries.get_run(store, folder.id)
    said = add_card(store, row, target, merged=args.to == "merged")
    result["bytes"] = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    out.line(f"{result['folder']}: {result['bytes']:,} bytes")
    out.note(said)
    out.document({"run": folder.id, "to": args.to, **result})
    return 0
