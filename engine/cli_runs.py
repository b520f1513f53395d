"""The arguments of ``runs``: the history, asked, compared, annotated, tidied up."""

import argparse
from collections.abc import Callable
from typing import Any

from engine.cli_care import care_actions
from engine.cli_comparing import comparing_parsers
from engine.cli_export import card_arguments, export_arguments

__all__ = ["runs_parser"]

Verbs = Any
"""argparse's own type of subparsers, which is private."""
Turn = Callable[[argparse.ArgumentParser], None]


def runs_parser(
    verbs: Verbs, common: argparse.ArgumentParser, settings: argparse.ArgumentParser, turn: Turn
) -> None:
    """``settings``: the parent with ``--set``; ``turn`` adds ``--queue`` and ``--now``."""
    help = "the history: list, show, compare, note, tag, rename, remove"
    runs = verbs.add_parser("runs", help=help, description=help, parents=[common])
    runs.set_defaults(run="listing:list_runs")
    actions = runs.add_subparsers(title="actions", metavar="ACTION")

    def action(
        name: str, run: str, help: str, *more: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = actions.add_parser(
            name, help=help, description=help, parents=[common, *more]
        )
        sub.set_defaults(run=run)
        return sub

    help = "the runs, or those that a QUERY asks for, newest first"
    sub = action("list", "listing:list_runs", help)
    sub.add_argument(
        "query", nargs="*", metavar="QUERY", help="as eval_loss<2.3 and model~llama and tag:keep"
    )
    sub.add_argument("--all", action="store_true", help="the runs of sweeps one by one too")
    sub.add_argument("--archived", action="store_true", help="also those that were put away")
    sub.add_argument(
        "--columns", metavar="A,B", help="fields, or keys of recipes: name,best_eval_loss,r"
    )
    sub.add_argument("--sort", metavar="FIELD", help="the lowest first; FIELD- the highest first")
    sub.add_argument("--group", metavar="FIELD", help="sweep, dataset, model, tag, any field")
    sub.add_argument("--limit", type=int, metavar="N", help="at most so many runs")
    sub = action("show", "runs:show", "one run whole, or a sweep's runs, the best first")
    sub.add_argument("ref", metavar="RUN|SWEEP")
    card_arguments(sub)
    comparing_parsers(action)
    for name, field, help in (
        ("note", "text", "write a note on a run"),
        ("tag", "tags", "add tags to a run (TAG- takes one away)"),
    ):
        sub = action(name, f"runs:{name}", help)
        sub.add_argument("ref", metavar="RUN")
        sub.add_argument(field, nargs="+")
    help = "train a run's recipe again, with a change (--set, --edit); says what differs"
    sub = action("repeat", "repeat:repeat", help, settings)
    sub.add_argument("ref", metavar="RUN")
    sub.add_argument("--edit", action="store_true", help="change the recipe in $EDITOR")
    sub.add_argument("--name", metavar="NAME", help="name of the new run")
    sub.add_argument("--detach", action="store_true", help="start the run and return at once")
    sub.add_argument("--dry-run", action="store_true", help="only say what differs")
    turn(sub)
    help = "who came from whom: runs that go on from others (>) or repeat their recipe (=)"
    sub = action("tree", "repeat:tree", help)
    sub.add_argument("ref", nargs="?", metavar="RUN", help="only the tree in which it is")
    _tidying(action)
    care_actions(action)
    export_arguments(action("export", "export_runs:export", "as tables, or as a report"))
    action("schema", "schema:schema", "the tables and views of runs.db, as Markdown")
    _importing(action)


def _importing(action: Any) -> None:
    sub = action("import", "import_runs:import_", "runs of other programs become runs here")
    sub.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="output folder of Transformers, TRL, LLaMA-Factory or Axolotl, Unsloth Studio's "
        "studio.db, folder of TensorBoard's event files, W&B's run-*.wandb or folder of such",
    )
    sources = ["transformers", "studio", "tensorboard", "wandb"]
    sub.add_argument("--from", dest="kind", choices=sources, help="default: recognised")
    help = "the YAML or JSON that it was trained by, where that is not in the folder"
    sub.add_argument("--recipe", metavar="FILE", help=help)
    sub.add_argument("--name", metavar="NAME", help="name of the run (default: the folder's)")
    sub.add_argument("--again", action="store_true", help="import anew what was imported already")


def _tidying(action: Any) -> None:
    sub = action("rename", "tidying:rename", "give a run another name")
    sub.add_argument("ref", metavar="RUN")
    sub.add_argument("name", metavar="NAME")
    for name, help in (
        ("star", "star runs"),
        ("archive", "put runs away: listed only with --archived"),
    ):
        sub = action(name, f"tidying:{name}", help)
        sub.add_argument("refs", nargs="+", metavar="RUN|SWEEP")
        sub.add_argument("--off", action="store_true", help="the other way round")
    sub = action("rm", "tidying:remove", "move a run's folder, or a sweep's, to the trash; asks")
    sub.add_argument("ref", metavar="RUN|SWEEP")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    sub.add_argument("--purge", action="store_true", help="delete for good, past the trash")
    sub = action("restore", "tidying:restore", "bring a run, or a sweep, back from the trash")
    sub.add_argument("ref", metavar="RUN|SWEEP")
    sub = action("trash", "tidying:trash", "what was deleted, and how much room it takes")
    sub.add_argument("--empty", action="store_true", help="delete it for good; asks first")
    sub.add_argument("--days", type=float, metavar="N", help="only what was deleted N days ago")
    sub.add_argument("--yes", action="store_true", help="do not ask")
