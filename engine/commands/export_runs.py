"""``runs export``: the history as tables for other programs, and reports for people."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.commands.opened import opened
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history import queries
from engine.history.backup import refuse_part_of_home
from engine.history.row import RunRow
from engine.history.store import Store
from engine.text import safe, safe_json
from engine.words import bytes_words, counted

__all__ = ["export"]

ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".md": "md",
    ".markdown": "md",
}
REPORTS = ("html", "md")


def export(args: argparse.Namespace, out: Output) -> int:
    """Write a table or a report; ``--to -`` prints it."""
    format = _format(args)
    if args.to == "-" and out.as_json:
        raise UsageError("runs export --to -: prints the export itself; leave --json out")
    _, store = opened(args, out)
    runs = _runs(store, args.refs)
    if format in REPORTS:
        return _report(args, out, store, runs, format)
    return _table(args, out, store, runs, format)


def _format(args: argparse.Namespace) -> str:
    ending = Path(args.to).suffix.lower()
    format = args.format or ENDINGS.get(ending)
    if format is None:
        known = "csv, json, parquet, html or md"
        raise UsageError(
            f"--to {args.to}: the format is not known by the name; let it end in .{known}, or "
            f"say --format"
        )
    if format in REPORTS and args.what:
        raise UsageError(f"--what {args.what}: a report ({format}) has no rows; leave it out")
    return str(format)


def _runs(store: Store, refs: Sequence[str]) -> list[RunRow]:
    """The runs named, a sweep standing for its own; without any, all. Each once."""
    if not refs:
        return queries.list_runs(store)
    found: dict[str, RunRow] = {}
    for ref in refs:
        sweep = queries.get_sweep(store, ref)
        rows = sweep.runs if sweep else (queries.get_run(store, ref),)
        found |= {row.id: row for row in rows}
    return list(found.values())


def _table(
    args: argparse.Namespace, out: Output, store: Store, runs: Sequence[RunRow], format: str
) -> int:
    from engine.export.table_files import WRITERS
    from engine.export.tables import table_of

    what = args.what or "runs"
    write = WRITERS[format]
    if args.to == "-":
        shown = sys.stdout.isatty()
        if format == "parquet" and shown:
            raise UsageError("--to -: Parquet is nothing for a terminal; name a file")
        clean = {"csv": safe, "json": safe_json}.get(format, str) if shown else str
        write(table_of(what, store, runs), sys.stdout.buffer, clean)
        sys.stdout.buffer.flush()
        return 0
    from engine.export.written import free_name, written

    path = Path(args.to).expanduser().absolute()
    free_name(path, args.force)
    refuse_part_of_home(store, path)
    with written(path, args.force) as file:
        rows = write(table_of(what, store, runs), file, str)
    _tell(out, [path], f"{counted(rows, 'row')} of {counted(len(runs), 'run')}")
    out.document(_document([path], format, what, runs) | {"rows": rows})
    return 0


def _report(
    args: argparse.Namespace, out: Output, store: Store, runs: Sequence[RunRow], format: str
) -> int:
    from engine.export.report import MOST_RUNS, report_of, title_of
    from engine.export.report_files import printed, write_report

    if not args.refs:
        raise UsageError(f"runs export: name the runs that the report ({format}) is about")
    if len(runs) > MOST_RUNS:
        raise UserError(
            f"{len(runs)} runs: a report has at most {MOST_RUNS}; name fewer, or export a table "
            "(--to FILE.csv)"
        )
    blocks, title = report_of(store, runs, time.time()), title_of(runs)
    if args.to == "-":
        _print(printed(title, blocks, format))
        return 0
    path = Path(args.to).expanduser().absolute()
    refuse_part_of_home(store, path)
    paths = write_report(path, title, blocks, format, args.force)
    _tell(out, paths, f"a report of {counted(len(runs), 'run')}")
    out.document(_document(paths, format, "report", runs))
    return 0


def _print(text: str) -> None:
    """Outside text in it has been made safe already."""
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _tell(out: Output, paths: Sequence[Path], words: str) -> None:
    size = sum(path.stat().st_size for path in paths)
    beside = f" and {counted(len(paths) - 1, 'chart')} beside it" if len(paths) > 1 else ""
    out.line(f"{paths[0]}{beside}: {words}, {bytes_words(size)}")


def _document(
    paths: Sequence[Path], format: str, what: str, runs: Sequence[RunRow]
) -> dict[str, Any]:
    return {
        "file": str(paths[0]),
        "files": [str(path) for path in paths],
        "format": format,
        "what": what,
        "runs": [row.id for row in runs],
        "bytes": sum(path.stat().st_size for path in paths),
    }
