"""The arguments of what cares for the store: ``runs prune`` and ``runs backup``."""

from typing import Any

__all__ = ["care_actions"]


def care_actions(action: Any) -> None:
    """``action`` makes a subparser of ``runs``: (name, command, help)."""
    help = "remove checkpoints by a rule; says what it would free, and only does it with --yes"
    sub = action("prune", "pruning:prune", help)
    sub.add_argument("refs", nargs="*", metavar="RUN|SWEEP", help="default: all runs")
    sub.add_argument(
        "--keep",
        required=True,
        metavar="best,last",
        help="what is kept: best, last, both, or none (the result is never touched)",
    )
    sub.add_argument("--starred", action="store_true", help="only of starred runs")
    sub.add_argument(
        "--tag", action="append", default=[], metavar="T", help="only of runs with this tag"
    )
    sub.add_argument("--where", metavar="QUERY", help="only of runs that it asks for, as runs list")
    sub.add_argument("--yes", action="store_true", help="remove them")
    help = "copy the history to one file; bring the runs of such a copy back"
    sub = action("backup", "backup:backup", help)
    sub.add_argument("file", metavar="FILE")
    sub.add_argument(
        "--with-journals",
        action="store_true",
        help="FILE.tar.gz of all that the history is rebuilt from, without checkpoints",
    )
    sub.add_argument("--force", action="store_true", help="write over a file that is there")
    sub.add_argument(
        "--restore", action="store_true", help="bring back what a copy with journals holds"
    )
