"""The verbs ``clean`` and ``preview``."""

import argparse
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.commands.output import Output
from engine.data.report import CleanReport, funnel
from engine.errors import UsageError
from engine.home import open_home
from engine.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from engine.data.prepare import Progress

__all__ = ["clean", "funnel_lines", "preview", "progress_printer"]

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


def preview(args: argparse.Namespace, out: Output) -> int:
    """``tunebench preview DATASET``: what the model will see of a row, or of a whole split."""
    from engine.data.dataset import open_dataset
    from engine.data.preview import preview_row, preview_stats
    from engine.data.tokens import Formatter

    recipe = (
        load_recipe(args.recipe, args.settings)
        if args.recipe
        else Recipe(name="preview").with_settings(args.settings)
    )
    dataset = open_dataset(open_home(args.home), args.dataset)
    formatter = Formatter.load(
        recipe.model.model_name_or_path,
        recipe.format,
        recipe.train.max_length,
        revision=recipe.model.revision,
    )
    completion_only = recipe.train.completion_only_loss
    if args.stats:
        stats = preview_stats(
            dataset,
            formatter,
            args.split,
            completion_only=completion_only,
            progress=lambda done, of: out.progress(f"tokenising  {done:,} of {of:,} rows"),
        )
        out.progress_done()
        out.document(stats)
        for line in _stats_lines(stats):
            out.line(line)
        return 0
    seen = preview_row(dataset, formatter, args.split, args.row, completion_only=completion_only)
    out.document(seen)
    for line in _row_lines(seen):
        out.line(line)
    return 0


def _row_lines(seen: dict[str, Any]) -> list[str]:
    cut = seen["truncated_at"]
    tokens = seen["tokens"]
    trained = sum(token["trained"] for token in tokens)
    lines = [seen["text"], ""]
    lines += [
        f"{place:>5} {'*' if token['trained'] else ' '} {token['id']:>7}  {token['text']!r}"
        for place, token in enumerate(tokens)
    ]
    lines += [
        "",
        f"{len(tokens)} tokens, {trained} trained (*)"
        + (f"; cut at {cut} of {seen['length']} tokens" if cut is not None else ""),
        f"end of text trained: {'yes' if seen['eos_trained'] else 'no'}; "
        f"beginning of text: {seen['bos_count']} times",
    ]
    if seen["bos_count"] > 1:
        lines.append("warning: the beginning-of-text token is there more than once")
    return lines


def _stats_lines(stats: dict[str, Any]) -> list[str]:
    quantiles = "  ".join(f"{name} {value}" for name, value in stats["quantiles"].items())
    return [
        f"{stats['rows']:,} rows of {stats['split']}; tokens: {quantiles}",
        f"cut: {stats['truncated']:,} rows; nothing trained: {stats['untrained']:,} rows",
        stats["sentence"],
    ]
