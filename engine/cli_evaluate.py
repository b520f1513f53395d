"""The arguments of ``evaluate``. Nothing heavy is imported here."""

import argparse

__all__ = ["evaluate_arguments"]


def evaluate_arguments(sub: argparse.ArgumentParser) -> None:
    """Add them to the verb's parser."""
    sub.add_argument("ref", nargs="?", metavar="RUN", help="id, name or unique beginning")
    sub.add_argument(
        "--on",
        default="test",
        metavar="ROWS",
        help="test (default), validation, DATASET:SPLIT, set:NAME, or a file of prompts and "
        "references",
    )
    sub.add_argument(
        "--rows", type=int, default=1000, metavar="N", help="rows at most (1,000); 0: all"
    )
    sub.add_argument("--no-base", action="store_true", help="not the base model beside it")
    sub.add_argument("--no-answers", action="store_true", help="the loss only")
    sub.add_argument(
        "--with",
        action="append",
        default=[],
        dest="with_refs",
        metavar="RUN|MODEL",
        help="another column; may be repeated",
    )
    sub.add_argument("--prompt-column", metavar="C", help="of a file; default: by the usual names")
    sub.add_argument(
        "--embedding-model",
        metavar="FOLDER|ID",
        help="also the similarity of meaning by this encoder",
    )
    sub.add_argument(
        "--judge",
        metavar="RUN|MODEL|URL#MODEL",
        help="also a rating of 1 to 10 by this model, which is sent prompt, reference and answer",
    )
    sub.add_argument(
        "--samples",
        choices=["best", "worst", "changed", "gained", "lost", "rows"],
        help="print answers too: those that score best or worst, or changed most from the base's",
    )
    sub.add_argument("--show", type=int, default=5, metavar="N", help="how many samples (5)")
    pairs = sub.add_argument_group("a file of predictions and references instead of a run")
    pairs.add_argument(
        "--predictions", metavar="FILE", help="JSON, JSON Lines, CSV, TSV, Parquet, also packed"
    )
    pairs.add_argument("--prediction-column", metavar="C", help="default: by the usual names")
    pairs.add_argument("--reference-column", metavar="C", help="default: by the usual names")
