"""Arguments of ``runs export`` and of the model card."""

from argparse import ArgumentParser

__all__ = ["card_arguments", "export_arguments"]


def export_arguments(sub: ArgumentParser) -> None:
    sub.add_argument(
        "refs",
        nargs="*",
        metavar="RUN|SWEEP",
        help="which runs (default: all; a report needs some)",
    )
    sub.add_argument("--to", required=True, metavar="FILE", help="the file; - for stdout")
    sub.add_argument(
        "--format",
        choices=["csv", "json", "parquet", "html", "md"],
        help="html, md: a report with charts (default: by the file's ending)",
    )
    sub.add_argument(
        "--what",
        choices=["runs", "metrics", "evaluations", "samples"],
        help="what a row is: a run (default), an optimiser step, a measured value, a sample",
    )
    sub.add_argument("--force", action="store_true", help="write over a file that is there")


def card_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("--card", action="store_true", help="its model card, as the hub has them")
    sub.add_argument("--to", metavar="FILE", help="with --card: write it there, with its charts")
    sub.add_argument("--force", action="store_true", help="with --to: write over what is there")
