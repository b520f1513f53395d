"""``runs import``: history that began before tunebench."""

import argparse
from pathlib import Path
from typing import Any

from engine.commands.output import Output
from engine.errors import UserError
from engine.home import open_home
from engine.imports.runs import Taken, import_runs
from engine.text import clip

__all__ = ["import_"]


def import_(args: argparse.Namespace, out: Output) -> int:
    """Import what lies at each PATH. With ``--json`` one run as ``{"run": ID, ...}``, several as
    ``{"runs": [...]}``; ``errors`` names what could not be imported beside others.
    """
    home = open_home(args.home)
    recipe = Path(args.recipe) if args.recipe else None
    found: list[dict[str, Any]] = []
    errors: list[str] = []
    alone = len(args.paths) == 1
    for path in args.paths:
        out.progress(f"{path}: reading")
        try:
            for taken in import_runs(home, path, args.kind or "", args.name, recipe, args.again):
                out.progress_done()
                _tell(taken, out)
                found.append(_document(taken))
        except UserError as error:
            if alone and not found:
                raise
            errors.append(str(error))
            out.error(str(error))
    if errors:
        out.document({"runs": found, "errors": errors})
        return 1
    out.document(found[0] if len(found) == 1 else {"runs": found})
    return 0


def _tell(taken: Taken, out: Output) -> None:
    past = taken.past
    who = f"{clip(taken.name, 64)} ({taken.run})"
    if taken.already:
        words = "; it holds more now: --again imports it as another run" if taken.changed else ""
        out.line(f"{past.path}: was imported already, as {who}{words}")
        return
    end = past.end
    out.line(f"{who}: from {past.tool}, {end.state}{f': {end.reason}' if end.reason else ''}")
    out.line(f"  times: {past.times}")
    if past.weights:
        out.line(f"  weights: stay in {past.weights}")
    for note in past.notes:
        out.line(f"  {note}")


def _document(taken: Taken) -> dict[str, Any]:
    past = taken.past
    return {
        "run": taken.run,
        "name": taken.name,
        "already": taken.already,
        "changed": taken.changed,
        "from": past.source,
        "tool": past.tool,
        "path": str(past.path),
        "state": past.end.state,
        "reason": past.end.reason or None,
        "times": past.times,
        "weights": past.weights or None,
        "settings": dict(past.settings),
        "notes": list(past.notes),
    }
