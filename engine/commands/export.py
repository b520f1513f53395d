"""``export``: a run's result as files that other programs load."""

import argparse
from pathlib import Path

from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.home import open_home
from engine.jobs.launch import find_run

__all__ = ["export"]


def export(args: argparse.Namespace, out: Output) -> int:
    """Copy the adapter, or merge it into its base as a 16-bit model."""
    from engine.export.adapter import copy_adapter
    from engine.generate.errand import run_errand

    folder = find_run(open_home(args.home), args.ref)
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
    out.line(f"{result['folder']}: {result['bytes']:,} bytes")
    out.document({"run": folder.id, "to": args.to, **result})
    return 0
