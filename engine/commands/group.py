"""``train --sweep``: a group of runs made, queued, and followed to their ends together."""

import argparse
import shutil
import time
from collections import Counter
from typing import Any

from engine.commands import following
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history.follow import Follower
from engine.history.row import RunRow, is_ended
from engine.home import Home, open_home
from engine.jobs import sweep
from engine.jobs.check import check_model, check_packages, check_processes
from engine.jobs.dispatch import dispatch
from engine.jobs.entries import read_state
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe
from engine.text import clip

__all__ = ["follow", "train"]

MANY = 64
POLL_SECONDS = 0.2
DISPATCH_SECONDS = 5.0


def train(args: argparse.Namespace, out: Output) -> int:
    """Make a run for each combination of the values; all are checked before one is made."""
    from engine.data.prepare import check_source

    recipe = load_recipe(args.recipe, args.settings)
    found = sweep.parse(recipe, args.sweep, args.name, args.settings)
    if args.now:
        raise UsageError("--now: the runs of a sweep go through the queue, one after the other")
    for point in found.points:
        try:
            for check in (check_source, check_model, check_packages, check_processes):
                check(point.recipe)
        except UserError as error:  # which of them is meant; UsageError stays one
            raise type(error)(f"{point.name}: {error}") from None
    count = len(found.points)
    plural = "s" if count > 1 else ""
    if args.dry_run:
        for point in found.points:
            out.line(f"{point.name}  {_values(point.values)}")
        out.line(f"{count} run{plural}")
        points = [{"name": point.name, "values": point.values} for point in found.points]
        out.document({"sweep": found.name, "runs": points})
        return 0
    if count > MANY and not args.yes:
        raise UsageError(f"--sweep: makes {count} runs; add --yes when that is meant")
    home = open_home(args.home)
    name, folders = sweep.create(home, found, exact=args.name is not None)
    dispatch(home)
    out.line(f"{name}: {count} run{plural} in the queue")
    for folder, point in zip(folders, found.points, strict=True):
        out.line(f"  {folder.read_identity()['name']}  {_values(point.values)}")
    if args.detach:
        out.line(
            f"'tunebench tail {name}' follows them, 'tunebench runs show {name}' compares them"
        )
        out.document({"sweep": name, "runs": [_made(folder) for folder in folders]})
        return 0
    return follow(home, name, folders, out)


def _values(values: dict[str, Any]) -> str:
    return "  ".join(f"{key}={value}" for key, value in values.items())


def _made(folder: RunFolder) -> dict[str, Any]:
    identity = folder.read_identity()
    values = identity["sweep"]["values"]
    return {
        "run": folder.id,
        "name": identity["name"],
        "folder": str(folder.path),
        "values": values,
    }


def follow(home: Home, name: str, folders: list[RunFolder], out: Output) -> int:
    """Tell of a sweep until all its runs ended, or the queue stands still; dispatches meanwhile.

    Exit status 0 when all finished, 3 when the others were stopped, else 1.
    """
    followers = [Follower(folder) for folder in folders]
    try:
        with following.interrupts_noted(True) as interrupts:
            paused = _until_over(home, name, followers, out, interrupts)
    except KeyboardInterrupt:
        out.note(
            f"the runs go on; 'tunebench queue rm {name}' takes those that wait off the queue, "
            f"'tunebench stop {name}' ends all"
        )
        raise
    rows = [follower.row for follower in followers]
    if paused:
        waiting = sum(not is_ended(row) for row in rows)
        out.note(f"tunebench: {waiting} runs of {name} still wait: {paused}")
    else:
        out.line(f"'tunebench runs show {name}' compares them")
    documents = [following.document(row, folder) for row, folder in zip(rows, folders, strict=True)]
    out.document({"sweep": name, "paused": paused or None, "runs": documents})
    statuses = {following.exit_status(row) for row in rows}
    return 1 if 1 in statuses else max(statuses)


def _until_over(
    home: Home, name: str, followers: list[Follower], out: Output, interrupts: list[int]
) -> str:
    left, shown, looked = list(followers), "", time.monotonic()
    while left:
        if interrupts:
            raise KeyboardInterrupt
        # Before the runs are looked at: whatever paused the queue is then in what is seen of them.
        paused = read_state(home).paused
        for follower in list(left):
            before = follower.row.state
            _, over = follower.look()
            row = follower.row
            text = ""
            if over:
                left.remove(follower)
                done = len(followers) - len(left)
                text = f"{row.name} {row.state}: {_how(row)} ({done}/{len(followers)})"
            elif row.state == "running" != before:
                text = f"{row.name} running"
            if text:
                out.progress_done()
                out.line(text)
                shown = ""
        if not left:
            break
        text = clip(_progress(followers), shutil.get_terminal_size().columns - 1)
        if text != shown:
            out.progress(text)
            shown = text
        time.sleep(POLL_SECONDS)
        if time.monotonic() - looked >= DISPATCH_SECONDS:
            looked = time.monotonic()
            dispatch(home)
        if paused and all(follower.row.state == "queued" for follower in left):
            out.progress_done()
            return paused
    out.progress_done()
    return ""


def _how(row: RunRow) -> str:
    if row.state == "finished" and row.best_eval_loss is not None:
        return f"best validation loss {row.best_eval_loss:.4f}"
    return following.why(row)


def _progress(followers: list[Follower]) -> str:
    rows = [follower.row for follower in followers]
    counts = Counter(row.state for row in rows)
    parts = [", ".join(f"{count} {state}" for state, count in counts.most_common())]
    losses = [row for row in rows if row.best_eval_loss is not None]
    if losses:
        best = min(losses, key=lambda row: row.best_eval_loss or 0.0)
        parts.append(f"best {best.best_eval_loss:.4f} {best.name}")
    for follower in followers:
        if follower.row.state in ("starting", "running", "stopping"):
            text = following.progress(follower.row, follower.seconds_left())
            parts.append(f"{follower.row.name}: {text}")
    return "  ".join(parts)
