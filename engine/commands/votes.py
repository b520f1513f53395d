"""``votes``: who wins, every vote, export, and taking one back."""

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from engine.commands.opened import opened
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history import votes as history
from engine.history.judged import prompt_text
from engine.history.store import Store
from engine.history.votes import Vote, WinRate
from engine.text import clip
from engine.whole import sync
from engine.words import NOTHING, counted, moment

__all__ = ["export", "list_votes", "note", "remove", "win_rates"]

SIDE = ("column", "label", "text", "stop_reason", "tokens", "sampling")
ID_CHARACTERS = 8


def _which(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    """The votes that ``--run`` and ``--prompt-set`` leave, as :func:`history.votes` takes them."""
    found: dict[str, Any] = {"prompt_set": getattr(args, "prompt_set", None)}
    if (run := getattr(args, "of_run", None)) is not None:
        found["columns"] = history.columns_of(store, run)
        found["either"] = True
        if not found["columns"]:
            raise UserError(f"--run {run}: took part in no vote; 'tunebench votes' tells who did")
    return found


def win_rates(args: argparse.Namespace, out: Output) -> int:
    """A line for each two columns (``--by-set``: and set of prompts)."""
    _, store = opened(args, out)
    which = _which(args, store)
    rates = history.win_rates(store, prompt_set=which["prompt_set"], by_set=args.by_set)
    if "columns" in which:
        rates = [r for r in rates if r.a in which["columns"] or r.b in which["columns"]]
    count = sum(rate.votes for rate in rates)
    if rates:
        out.line(_row(args.by_set, "prompts", "A", "B", "votes", "A", "B", "tie", "bad", "B wins"))
    for rate in rates:
        numbers = (rate.votes, rate.a_wins, rate.b_wins, rate.ties, rate.both_bad)
        cells = (rate.prompt_set or NOTHING, rate.a_label, rate.b_label)
        out.line(_row(args.by_set, *cells, *(f"{n:,}" for n in numbers), _share(rate)))
    if rates:
        out.line(f"{counted(count, 'vote')}; B wins: of the decided ones, Wilson's 95 % interval")
    else:
        out.line("no votes yet; the workbench's Play screen asks for them")
    out.document({"win_rates": [_document(rate) for rate in rates], "votes": count})
    return 0


def _row(by_set: bool, prompts: str, a: str, b: str, *cells: str) -> str:
    first = f"{clip(prompts, 16):<16} " if by_set else ""
    widths = (6, 5, 5, 5, 5)
    numbers = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))
    return f"{first}{clip(a, 22):<22} {clip(b, 22):<22} {numbers}  {cells[-1]}"


def _share(rate: WinRate) -> str:
    if rate.rate is None or rate.low is None or rate.high is None:
        return NOTHING
    return f"{rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def _document(rate: WinRate) -> dict[str, Any]:
    return {**asdict(rate), "decided": rate.decided, "votes": rate.votes}


def list_votes(args: argparse.Namespace, out: Output) -> int:
    """The votes, newest first."""
    _, store = opened(args, out)
    which = _which(args, store)
    found = history.votes(store, **which, limit=max(0, args.limit))
    count = history.count_votes(store, **which)
    for vote in found:
        left, right = clip(vote.left.label, 20), clip(vote.right.label, 20)
        words = f"{vote.verdict:<8} {left:<20} {right:<20} {clip(prompt_text(vote.prompt), 40)}"
        out.line(
            f"{clip(vote.id, ID_CHARACTERS, ''):<{ID_CHARACTERS}} {moment(vote.t):<16} {words}"
        )
        if vote.note:
            out.line(f"{'':<{ID_CHARACTERS}} note: {clip(vote.note, 90)}")
    if count > len(found):
        out.line(f"... and {count - len(found):,} more (--limit)")
    if not count:
        out.line("no votes")
    out.document({"votes": count, "list": [_told(vote) for vote in found]})
    return 0


def _told(vote: Vote) -> dict[str, Any]:
    return {**asdict(vote), "winner": vote.winner}


def export(args: argparse.Namespace, out: Output) -> int:
    """Every vote with both answers as JSON Lines or CSV, the oldest first."""
    name = args.out or args.file
    if name is None or (args.out and args.file):
        raise UsageError("votes export: name one file: votes export FILE.jsonl (or .csv)")
    path = Path(name).expanduser()
    write = {".jsonl": _write_lines, ".csv": _write_csv}.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"{name}: the name must end in .jsonl or .csv, which says what to write")
    if path.exists() and not args.force:
        raise UserError(f"{name}: is there already; name another file, or add --force")
    _, store = opened(args, out)
    found = history.votes(store, **_which(args, store))[::-1]
    try:
        _replace(path, found, write)
    except OSError as error:
        raise UserError(f"{name}: cannot be written ({error.strerror})") from None
    out.line(f"{counted(len(found), 'vote')} in {path}")
    out.document({"out": str(path), "votes": len(found)})
    return 0


def _replace(
    path: Path, votes: Sequence[Vote], write: Callable[[IO[str], Sequence[Vote]], None]
) -> None:
    """Whole or not at all, by a file of a name that nobody could have put there before."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            write(file, votes)  # "\n" alone ends a line of CSV's too
            file.flush()
            sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _write_lines(file: IO[str], votes: Sequence[Vote]) -> None:
    for vote in votes:
        file.write(json.dumps(_told(vote), ensure_ascii=False) + "\n")


def _write_csv(file: IO[str], votes: Sequence[Vote]) -> None:
    sides = [f"{side}_{name}" for side in ("left", "right") for name in SIDE]
    plain = ("id", "t", "prompt_set", "verdict", "winner", "blind", "note", "index")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*plain, "prompt", "reference", *sides])
    for vote in votes:
        prompt = vote.prompt if isinstance(vote.prompt, str) else json.dumps(vote.prompt)
        values = [getattr(vote, name) for name in plain] + [prompt, vote.reference]
        for side in (vote.left, vote.right):
            values += [getattr(side, name) for name in SIDE[:-1]] + [json.dumps(side.sampling)]
        writer.writerow(values)


def note(args: argparse.Namespace, out: Output) -> int:
    """Give a vote another note."""
    home, store = opened(args, out)
    vote = history.get_vote(store, args.ref)
    history.set_vote_note(home, vote.id, " ".join(args.text))
    out.line(f"noted on vote {vote.id}")
    out.document({"vote": vote.id, "note": " ".join(args.text)})
    return 0


def remove(args: argparse.Namespace, out: Output) -> int:
    """Take votes back; the journal still tells of them."""
    home, store = opened(args, out)
    found = [history.get_vote(store, ref) for ref in args.refs]
    ids = list(dict.fromkeys(vote.id for vote in found))
    for id in ids:
        history.withdraw_vote(home, id)
    out.line(f"took back {counted(len(ids), 'vote')}")
    out.document({"votes": ids, "withdrawn": True})
    return 0
