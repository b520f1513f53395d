"""``evaluate``: how good a run's answers are, or the predictions of any file."""

import argparse
from collections.abc import Callable

from engine.commands.output import Output
from engine.errors import UsageError

__all__ = ["evaluate"]


_OF_RUNS = {
    "on": "test", "rows": 1000, "no_base": False, "no_answers": False, "with_refs": [],
    "prompt_column": None, "embedding_model": None, "judge": None,
    "samples": None, "show": 5, "settings": [],
}  # fmt: skip
"""What only counts for a run, and what it is unless given."""


def evaluate(args: argparse.Namespace, out: Output) -> int:
    """A run beside its base, or ``--predictions FILE``."""
    if args.predictions is None:
        if args.prediction_column is not None:
            raise UsageError("evaluate: --prediction-column needs --predictions FILE")
        if args.ref is None:
            raise UsageError("evaluate: name a RUN, or --predictions FILE")
        from engine.commands.evaluate_run import evaluate_run

        return evaluate_run(args, out)
    if args.ref is not None:
        raise UsageError("evaluate: name a RUN or --predictions FILE, not both")
    for name, usual in _OF_RUNS.items():
        if getattr(args, name) != usual:
            option = {"with_refs": "with", "settings": "set"}.get(name, name).replace("_", "-")
            raise UsageError(f"evaluate: --{option} needs a RUN")
    return _predictions(args, out)


def _predictions(args: argparse.Namespace, out: Output) -> int:
    """Metrics of somebody's predictions beside their references."""
    from engine.commands.metrics_table import table
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
    column = pairs.prediction_column
    for line in table({column: metrics}, {column: column}):
        out.line(line)
    for line in footnotes(pairs.references):
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
