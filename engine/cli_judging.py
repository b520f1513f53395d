"""The arguments of ``votes`` and ``prompts``: what was judged, and what is asked again."""

import argparse
from typing import Any

__all__ = ["prompts_parser", "votes_parser"]

Verbs = Any
"""argparse's own type of subparsers, which is private."""


def _verb(
    verbs: Verbs, common: argparse.ArgumentParser, name: str, run: str, help: str
) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = verbs.add_parser(
        name, help=help, description=help, parents=[common]
    )
    sub.set_defaults(run=run)
    return sub


def votes_parser(verbs: Verbs, common: argparse.ArgumentParser) -> None:
    help = "who wins: votes between answers, win rates, export"
    votes = _verb(verbs, common, "votes", "votes:win_rates", help)
    _which(votes)
    votes.add_argument("--by-set", action="store_true", help="for each set of prompts")
    actions = votes.add_subparsers(title="actions", metavar="ACTION")
    sub = _verb(actions, common, "list", "votes:list_votes", "the votes, newest first")
    _which(sub)
    sub.add_argument("--limit", type=int, default=50, metavar="N", help="at most (50)")
    help = "write every vote with both answers to a file"
    sub = _verb(actions, common, "export", "votes:export", help)
    _which(sub)
    sub.add_argument("file", nargs="?", metavar="FILE", help="ends in .jsonl or .csv")
    sub.add_argument("--out", metavar="FILE", help="the same")
    sub.add_argument("--force", action="store_true", help="write over a file that is there")
    help = "write a note on a vote; no words: take it away"
    sub = _verb(actions, common, "note", "votes:note", help)
    sub.add_argument("ref", metavar="ID")
    sub.add_argument("text", nargs="*", metavar="WORD")
    sub = _verb(actions, common, "rm", "votes:remove", "take votes back: they count no more")
    sub.add_argument("refs", nargs="+", metavar="ID", help="as 'votes list' tells it")


def _which(sub: argparse.ArgumentParser) -> None:
    # SUPPRESS, as in engine.cli: given before the action it must not be reset by it.
    sub.add_argument(
        "--run",
        metavar="RUN",
        dest="of_run",
        default=argparse.SUPPRESS,
        help="only votes that this run or model took part in",
    )
    sub.add_argument(
        "--prompt-set",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="only votes on these prompts",
    )


def prompts_parser(verbs: Verbs, common: argparse.ArgumentParser) -> None:
    help = "saved sets of prompts: list, add, show, remove; what was asked before"
    prompts = _verb(verbs, common, "prompts", "prompts:list_sets", help)
    actions = prompts.add_subparsers(title="actions", metavar="ACTION")
    _verb(actions, common, "list", "prompts:list_sets", "the saved sets")
    sub = _verb(actions, common, "add", "prompts:add", "save prompts under a name")
    sub.add_argument("name", metavar="NAME", help="then 'generate RUN --prompts set:NAME'")
    sub.add_argument(
        "source",
        metavar="FILE|DATASET:SPLIT",
        help="a prompt a line, JSON Lines (.jsonl), or the rows of a split",
    )
    sub.add_argument("--column", default="prompt", metavar="C", help="the prompts' (prompt)")
    sub.add_argument(
        "--reference-column",
        metavar="C",
        help="of what should be answered (of a dataset's prompts: completion)",
    )
    sub.add_argument("--limit", type=int, metavar="N", help="only the first N")
    sub.add_argument("--force", action="store_true", help="in the place of a set of that name")
    sub = _verb(actions, common, "show", "prompts:show", "the prompts of a set")
    sub.add_argument("name", metavar="NAME")
    sub = _verb(actions, common, "rm", "prompts:remove", "forget a set; asks first")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    help = "what was asked, newest first: each prompt once"
    sub = _verb(actions, common, "history", "prompts:asked", help)
    sub.add_argument("words", nargs="*", metavar="WORD", help="all of these must occur")
    sub.add_argument("--limit", type=int, default=50, metavar="N", help="at most (50)")
