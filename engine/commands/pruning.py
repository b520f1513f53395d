"""``runs prune``: keeps some checkpoints of some runs, and frees what the others take."""

import argparse
from typing import Any

from engine.commands.listing import facts_of
from engine.commands.opened import opened
from engine.commands.output import Output
from engine.commands.runs import rows_of
from engine.errors import UserError
from engine.history import queries, retention
from engine.history.question import parse
from engine.history.retention import Pruned
from engine.history.row import RunRow
from engine.history.store import Store
from engine.text import clip
from engine.words import bytes_words, counted

__all__ = ["prune"]


def prune(args: argparse.Namespace, out: Output) -> int:
    """Say what a rule would remove, run by run; ``--yes`` removes it."""
    keep = retention.rule_of(args.keep)
    home, store = opened(args, out)
    rows = _asked(args, store)
    plans = retention.plan(home, rows, keep, queries.list_runs(store))
    todo = [each for each in plans if each.removed]
    size = retention.freed(path for each in todo for path in each.removed)
    _table(out, plans)
    rule = " and ".join(word for word in retention.RULES if word in keep) or "no checkpoint"
    of = counted(len(todo), "run")
    document = [_document(each) for each in plans]
    if not args.yes:
        if todo:
            out.line(f"keep {rule} of {of}: frees {bytes_words(size)}")
            out.line("nothing was removed: --yes does it")
        else:
            out.line(f"keep {rule} of {counted(len(rows), 'run')}: nothing to remove")
        out.document({"keep": sorted(keep), "frees": size, "removed": False, "runs": document})
        return 0
    done, failed = 0, []
    for each, told in zip(plans, document, strict=True):
        told["removed_now"] = False
        if not each.removed:
            continue
        try:
            done += retention.carry_out(home, each, out.progress)
            told["removed_now"] = True
        except UserError as error:
            failed.append(str(error))
            told["error"] = str(error)
    out.progress_done()
    for words in failed:
        out.error(words)
    out.line(f"kept {rule} of {counted(len(todo) - len(failed), 'run')}: freed {bytes_words(done)}")
    out.document({"keep": sorted(keep), "frees": done, "removed": True, "runs": document})
    return 1 if failed else 0


def _asked(args: argparse.Namespace, store: Store) -> list[RunRow]:
    """The runs named (all where none is), as far as all the other conditions hold for them."""
    rows = rows_of(store, args.refs) if args.refs else queries.list_runs(store)
    rows = list({row.id: row for row in rows}.values())
    facts = facts_of(store)
    if args.starred:
        rows = [row for row in rows if row.id in facts.starred]
    for tag in args.tag:
        rows = [row for row in rows if tag in facts.tags.get(row.id, ())]
    if args.where:
        question = parse(args.where, facts.settings.keys).look_up(store)
        rows = [row for row in rows if question.test(row, facts)]
    return rows


def _table(out: Output, plans: list[Pruned]) -> None:
    if plans:
        out.line(f"{'run':<24} {'kept':<22} {'removed':<22} {'frees':>9}")
    for each in plans:
        kept = " ".join(path.name for path in each.kept) or "-"
        removed = _removed(each)
        frees = bytes_words(each.bytes) if each.removed else "-"
        line = f"{clip(each.name, 24):<24} {clip(kept, 22):<22} {removed:<22} {frees:>9}"
        out.line(f"{line}  {each.why}".rstrip())


def _removed(each: Pruned) -> str:
    whole = [path for path in each.removed if not path.name.startswith(".")]
    rest = len(each.removed) - len(whole)
    words = [counted(len(whole), "checkpoint")] if whole else []
    words += [counted(rest, "leftover")] if rest else []
    return ", ".join(words) or "-"


def _document(each: Pruned) -> dict[str, Any]:
    return {
        "run": each.folder.id,
        "name": each.name,
        "kept": [path.name for path in each.kept],
        "removed": [path.name for path in each.removed],
        "frees": each.bytes,
        "why": each.why,
    }
