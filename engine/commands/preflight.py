"""The preflight of ``train``: what a recipe will take and what may go wrong, before it starts."""

import argparse
from collections.abc import Callable

from engine.commands.data import ended_by_signals, progress_printer
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.home import Home
from engine.recipe import Recipe

__all__ = ["preflight"]


def preflight(home: Home, recipe: Recipe, args: argparse.Namespace, out: Output) -> Recipe:
    """Prepare the data, resolve, estimate, measure where asked for, and report.

    Returns the recipe to train: with the batch that ``--find-batch-size`` found. The document is
    only written with ``--dry-run``. Raises :class:`UserError` for what cannot work at all.
    """
    from engine.data.prepare import prepare
    from engine.preflight.look import look, measure, run_probe
    from engine.preflight.report import document, lines
    from engine.preflight.resolve import resolve

    search = bool(args.find_batch_size)
    if not args.dry_run and not search:
        raise UsageError("--probe and --no-probe go with --dry-run")
    if search and args.probe is False:
        raise UsageError("--find-batch-size has to measure: leave out --no-probe")
    with ended_by_signals() as go_on:
        dataset = prepare(home, recipe, progress=progress_printer(out, go_on))
        out.progress_done()
        seen = look(home, resolve(home, recipe, dataset, progress=_counting(out)))
        if search or (args.probe if args.probe is not None else seen.place.gpu is not None):
            found = run_probe(home, seen.resolved, _told(out), search=search)
            seen = measure(home, seen, found, search)
        out.progress_done()
    for line in lines(seen):
        out.line(line)
    if args.dry_run:
        out.document(document(seen))
    if seen.finder is None:
        return recipe
    settings = seen.finder["settings"]
    if not settings:
        raise UserError(
            "--find-batch-size: no batch fits; set train.gradient_checkpointing = true, "
            "model.load_in_4bit = true, or a smaller train.max_length"
        )
    return recipe.with_settings([f"{key}={value}" for key, value in settings.items()])


def _counting(out: Output) -> Callable[[str, int, int], None]:
    return lambda split, done, rows: out.progress(f"counting tokens of {split}: {done:,}/{rows:,}")


def _told(out: Output) -> Callable[[str], None]:
    return lambda words: out.progress(f"measuring: {words}")
