"""The verb ``clean``."""

import argparse
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.commands.output import Output
from engine.data.report import CleanReport, funnel
from engine.errors import UsageError
from engine.home import open_home
from engine.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from engine.data.prepare import Progress

__all__ = ["clean", "funnel_lines", "progress_printer"]

_NOT_IN_JSON = ("file_repairs", "warnings")


def clean(args: argparse.Namespace, out: Output) -> int:
    """``tunebench clean SOURCE``: clean, split, write, and print the funnel."""
    from engine.data.prepare import prepare

    if args.name is not None and not re.fullmatch(r"\w[\w.-]*", args.name):
        raise UsageError(f"--name {args.name!r}: a name has letters, digits, '.', '_' and '-' only")
    base = load_recipe(args.recipe) if args.recipe else Recipe(name="clean")
    data = base.data.model_copy(
        update={
            "source": args.source,
            # The name of a recipe's dataset belongs to the recipe's own source.
            "name": args.name or (base.data.name if args.source == base.data.source else ""),
        }
    )
    recipe = Recipe.model_validate({**base.model_dump(), "data": data.model_dump()})
    recipe = recipe.with_settings(args.settings)
    began = time.time()
    dataset = prepare(open_home(args.home), recipe, progress=progress_printer(out))
    out.progress_done()
    report = dataset.report
    document = {"name": dataset.name} | report.as_json()
    for key in _NOT_IN_JSON:
        del document[key]
    out.document(document)
    for line in funnel_lines(report):
        out.line(line)
    for kind, count in report.file_repairs.items():
        out.line(f"file: {kind.replace('_', ' ')} x {count}")
    reused = dataset.manifest["created"] < began
    out.line(
        f"dataset {dataset.name} ({report.fingerprint}), "
        + ("reused as it was" if reused else f"prepared in {report.seconds:.1f} s")
        + f": {dataset.path}"
    )
    for warning in report.warnings:
        out.note(f"tunebench: warning: {warning}")
    return 0


def funnel_lines(report: CleanReport) -> list[str]:
    """The funnel as an aligned table; rules that met nothing are left out."""
    rows = [
        (name, f"{count:,}", words)
        for name, count, words in funnel(report)
        if count or "." not in name
    ]
    wide = max(len(name) for name, _, _ in rows)
    digits = max(len(count) for _, count, _ in rows)
    return [f"{name:<{wide}}  {count:>{digits}}  {words}" for name, count, words in rows]


def progress_printer(out: Output) -> "Callable[[Progress], None]":
    """Shows a preparation's progress on the terminal."""

    def show(progress: "Progress") -> None:
        text = progress.phase
        if progress.rows:
            text += f"  {progress.rows:,} rows  {progress.rows_per_second:,.0f}/s"
        if progress.fraction:
            text += f"  {progress.fraction:.0%}"
        out.progress(text)

    return show
