"""The verb ``clean``."""

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.commands.output import Output
from engine.data.report import CleanReport, funnel
from engine.errors import UsageError
from engine.home import Home, open_home
from engine.recipe import Recipe, load_recipe
from engine.text import clip
from engine.words import duration

if TYPE_CHECKING:
    from engine.data.prepare import Progress

__all__ = ["clean", "ended_by_signals", "funnel_lines", "progress_printer"]

SHOWN_ROWS = 20


def clean(args: argparse.Namespace, out: Output) -> int:
    """``tunebench clean SOURCE``: clean, split, write, and print the funnel.

    With ``--dry-run`` only what the source is and how its rows will be read.
    """
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
    home = open_home(args.home)
    if args.dry_run:
        return _show_look(home, recipe, out)
    began = time.time()
    with ended_by_signals() as go_on:
        dataset = prepare(home, recipe, progress=progress_printer(out, go_on))
    out.progress_done()
    report = dataset.report
    out.document({"name": dataset.name} | report.as_json())
    out.line(f"layout {report.layout}: {report.mapping}")
    for line in funnel_lines(report):
        out.line(line)
    for line in example_lines(report):
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


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], None]]:
    """Where a SIGTERM, or the terminal that is closed, ends us at once, end in order instead.

    What is half-made is removed on the way: up to the size of the source. Yields what is to be
    called now and then: Python swallows what is raised where a file is collected.
    """
    ours = (signal.SIGTERM, signal.SIGHUP)
    taken = [number for number in ours if signal.getsignal(number) is signal.SIG_DFL]
    got: list[int] = []

    def leave(number: int, frame: object) -> None:
        if not got:  # a second one must not stop the tidying up
            got.append(number)
            raise KeyboardInterrupt  # which a user's rule, where it is called, does not answer for

    def go_on() -> None:
        if got:
            raise KeyboardInterrupt

    for number in taken:
        signal.signal(number, leave)
    try:
        yield go_on
    except KeyboardInterrupt:
        if got:
            sys.exit(128 + got[0])
        raise
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _show_look(home: Home, recipe: Recipe, out: Output) -> int:
    """What a source is and how its rows will be read; the first ones, cleaned by the rules."""
    from engine.data.trial import Trial

    trial = Trial.read(home, recipe.data)
    found, tried = trial.look, trial.run(recipe)
    shown = ("path", "format", "compression", "encoding", "delimiter", "bytes")
    files = [{name: getattr(file, name) for name in shown} for file in found.files]
    rows = [
        {"line": row.line, "reason": row.reason, "evidence": row.evidence}
        | ({} if row.after is None else {k: v for k, v in row.after._asdict().items() if v})
        for row in tried.rows
    ]
    out.document(
        {
            "files": files,
            "layout": found.layout.name,
            "shape": found.shape,
            "columns": list(found.columns),
            "mapping": found.mapping,
            "notes": list(found.notes),
            "rows_tried": len(tried.rows),
            "dropped": tried.dropped,
            "changed": tried.changed,
            "rows": rows[:SHOWN_ROWS],
        }
    )
    for file in found.files[:SHOWN_ROWS]:
        kind = ", ".join(filter(None, (file.format, file.compression, file.encoding)))
        out.line(f"{file.path}: {kind}, {file.bytes:,} bytes")
    if len(files) > SHOWN_ROWS:
        out.line(f"... and {len(files) - SHOWN_ROWS:,} more files")
    out.line(f"layout {found.layout.name}: {found.mapping}")
    for note in found.notes:
        out.line(f"note: {note}")
    told = ", ".join(f"{count:,} {reason}" for reason, count in tried.dropped.items() if count)
    out.line(
        f"of the first {len(tried.rows):,} rows {tried.kept:,} stay; dropped: {told or 'none'}"
    )
    for row in [row for row in tried.rows if row.reason is None][:3]:
        assert row.after is not None
        out.line(f"line {row.line:,}  {clip(row.after.prompt, 60)}")
        out.line(f"    {clip(row.after.completion, 90)}")
    out.line("dry run: nothing was written")
    return 0


def example_lines(report: CleanReport) -> list[str]:
    """One example of what each rule changed."""
    lines, shown = [], set()
    for example in report.examples:
        if example["rule"] not in shown:
            shown.add(example["rule"])
            before, after = _shown(example["before"]), _shown(example["after"])
            lines.append(
                f"example {example['rule']}, line {example['line']:,}: {before} -> {after}"
            )
    return lines


def _shown(text: str) -> str:
    return repr(clip(text, 60))


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


def progress_printer(
    out: Output, go_on: Callable[[], None] = lambda: None
) -> "Callable[[Progress], None]":
    """Shows a preparation's progress on the terminal; ``go_on`` may raise to end it."""

    def show(progress: "Progress") -> None:
        go_on()
        text = progress.phase
        if progress.rows:
            text += f"  {progress.rows:,} rows  {progress.rows_per_second:,.0f}/s"
        if progress.fraction:
            text += f"  {progress.fraction:.0%}"
        if progress.eta is not None and progress.eta >= 1:
            text += f"  {duration(progress.eta)} left"
        out.progress(text)

    return show
