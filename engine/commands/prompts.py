"""``prompts``: saved sets, and what was asked before."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from engine.commands.opened import opened
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history import prompts as history
from engine.history.judged import prompt_text
from engine.text import clip
from engine.words import counted, moment

__all__ = ["add", "asked", "list_sets", "remove", "show"]

SHOWN_CELLS = 100


def list_sets(args: argparse.Namespace, out: Output) -> int:
    """The saved sets."""
    _, store = opened(args, out)
    found = history.prompt_sets(store)
    for each in found:
        words = f"{each.count:>9,}  {moment(each.t)}"
        out.line(f"{clip(each.name, 32):<32} {words}")
    if not found:
        out.line("no saved prompts; save some with 'tunebench prompts add NAME FILE'")
    sets = [{"name": each.name, "prompts": each.count, "t": each.t} for each in found]
    out.document({"sets": sets})
    return 0


def add(args: argparse.Namespace, out: Output) -> int:
    """Save the prompts of a file or split under a name."""
    from engine.generate.prompt_files import read_prompt_rows

    if args.limit is not None and args.limit < 1:
        raise UsageError(f"--limit {args.limit}: at least 1")
    home, store = opened(args, out, make_home=Path(args.source).is_file())
    there = {each.name for each in history.prompt_sets(store)}
    if args.name in there and not args.force:
        raise UserError(f"{args.name}: is a saved set already; choose another name, or add --force")
    rows = read_prompt_rows(home, args.source, args.column, args.reference_column)[: args.limit]
    if not rows:
        raise UserError(f"{args.source}: holds no prompts")
    history.save_prompt_set(home, args.name, rows)
    with_reference = sum(row["reference"] is not None for row in rows)
    out.line(f"{counted(len(rows), 'prompt')} saved as {args.name}, {with_reference:,} referenced")
    out.line(f"'tunebench generate RUN --prompts set:{args.name}' answers them")
    out.document({"name": args.name, "prompts": len(rows), "references": with_reference})
    return 0


def show(args: argparse.Namespace, out: Output) -> int:
    """The prompts of a set."""
    _, store = opened(args, out)
    rows = history.prompt_set(store, args.name)
    for number, row in enumerate(rows, 1):
        out.line(f"{number:>6,}  {clip(prompt_text(row['prompt']), SHOWN_CELLS)}")
        if row["reference"] is not None:
            out.line(f"{'':>6}  = {clip(row['reference'], SHOWN_CELLS - 2)}")
    out.document({"name": args.name, "prompts": rows})
    return 0


def remove(args: argparse.Namespace, out: Output) -> int:
    """Forget a set; the journal still tells of it."""
    home, store = opened(args, out)
    count = len(history.prompt_set(store, args.name))
    if not args.yes:
        if not sys.stdin.isatty():
            raise UserError(f"prompts rm {args.name}: nobody to ask; add --yes to forget it")
        if not out.ask(f"Forget {args.name} with {counted(count, 'prompt')}?"):
            out.note("nothing forgotten")
            return 1
    history.drop_prompt_set(home, args.name)
    out.line(f"forgot {args.name}")
    out.document({"name": args.name, "removed": True})
    return 0


def asked(args: argparse.Namespace, out: Output) -> int:
    """What was asked, newest first."""
    _, store = opened(args, out)
    rows = history.find_prompts(store, " ".join(args.words), max(0, args.limit))
    for row in rows:
        times = f"{row.times:>4}x" if row.times > 1 else f"{'':>5}"
        out.line(f"{moment(row.t):<16} {times}  {clip(row.text, SHOWN_CELLS)}")
    if not rows:
        out.line("no such prompts" if args.words else "nothing was asked yet")
    out.document({"prompts": [asdict(row) for row in rows]})
    return 0
