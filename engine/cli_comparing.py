"""Arguments of ``runs compare``, ``runs diff`` and ``runs why``."""

import argparse
from collections.abc import Callable

__all__ = ["comparing_parsers"]


def comparing_parsers(action: Callable[[str, str, str], argparse.ArgumentParser]) -> None:
    """``action(name, "module:function", help)`` makes the parser of an action of ``runs``."""
    sub = action("compare", "comparing:compare", "metrics of several runs side by side")
    sub.add_argument("refs", nargs="+", metavar="RUN|SWEEP")
    sub.add_argument(
        "--by",
        metavar="KEY",
        help="a chart of this parameter of a sweep, e.g. lora.r, against the metric",
    )
    sub.add_argument(
        "--metric",
        default="best_eval_loss",
        metavar="NAME",
        help="of a sweep's values and --by: best (default), test, took, speed, peak, ...",
    )
    sub.add_argument(
        "--samples",
        type=int,
        default=0,
        metavar="N",
        help="also the last answers to N of the fixed prompts",
    )
    help = "only what differs: recipe, data, versions, machine"
    action("diff", "comparing:diff", help).add_argument("refs", nargs="+", metavar="RUN|SWEEP")
    help = "why B is better than A: their differences, ranked by what other runs show"
    sub = action("why", "comparing:why", help)
    sub.add_argument("a", metavar="A", help="run: id, name or unique beginning")
    sub.add_argument("b", metavar="B")
