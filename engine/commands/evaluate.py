"""``evaluate``: how good a run's answers are, or the predictions of any file."""

import argparse
from collections.abc import Callable
from typing import Any

from engine.commands.output import Output
from engine.errors import UsageError

__all__ = ["evaluate"]


def evaluate(args: argparse.Namespace, out: Output) -> int:
    """A run beside its base, or ``--predictions FILE``."""
    if args.predictions is not None:
        if args.ref is not None:
            raise UsageError("evaluate: name a RUN or --predictions FILE, not both")
        return _predictions(args, out)
    for option in ("prediction_column", "reference_column"):
        if getattr(args, option) is not None:
            raise UsageError(f"evaluate: --{option.replace('_', '-')} needs --predictions FILE")
    if args.ref is None:
        raise UsageError("evaluate: name a RUN, or --predictions FILE")
    from engine.commands.generate import evaluate as evaluate_run

    return evaluate_run(args, out)


def _predictions(args: argparse.Namespace, out: Output) -> int:
    """Metrics of somebody's predictions beside their references."""
    from engine.evaluate.metrics import definitions, evaluated, footnotes
    from engine.evaluate.pair_files import read_pairs
    from engine.evaluate.statistics import statistics

    pairs = read_pairs(args.predictions, args.prediction_column, args.reference_column)
    for note in pairs.notes:
        out.note(note)
    rows = len(pairs.predictions)
    found = statistics(
        pairs.predictions, pairs.references, on_progress=_counting("comparing", rows, out)
    )
    out.progress("drawing resamples")
    metrics = evaluated(found)
    out.progress_done()
    out.line(f"{rows:,} rows of {args.predictions}")
    for line in table({pairs.prediction_column: metrics}):
        out.line(line)
    for line in footnotes():
        out.line(line)
    out.document(
        {
            "predictions": args.predictions,
            "prediction_column": pairs.prediction_column,
            "reference_column": pairs.reference_column,
            "rows": rows,
            "metrics": metrics,
            "definitions": definitions(),
        }
    )
    return 0


def _counting(doing: str, rows: int, out: Output) -> Callable[[int], None]:
    return lambda done: out.progress(f"{doing} {done:,} of {rows:,} rows")


def table(columns: dict[str, dict[str, Any]]) -> list[str]:
    """Metrics of columns side by side, each with its interval, a line a metric."""
    from engine.evaluate.metrics import METRICS
    from engine.text import clip

    heads = [f"{clip(name, 28):>28}" for name in columns]
    lines = [f"  {'':<13}{''.join(heads)}"]
    for metric in METRICS:
        cells = []
        for values in columns.values():
            low, high = values[f"{metric.name}_ci"]
            digits = 2 if metric.name in ("bleu", "chrf") else 4
            span = f"[{low:.{digits}f}, {high:.{digits}f}]"
            cells.append(f"{values[metric.name]:.{digits}f} {span:>18}".rjust(28))
        lines.append(f"  {metric.label:<13}{''.join(cells)}")
    return lines
