"""``queue ...``: runs that wait for a device; listed, added, moved, taken off, held, started."""

import argparse
import time
from pathlib import Path
from typing import Any

from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history.follow import state_of
from engine.home import Home, existing_home, open_home
from engine.jobs import launch, leases, queue
from engine.jobs.check import check_model, check_packages, check_processes
from engine.jobs.create import Plan, create_queued
from engine.jobs.dispatch import Outcome, dispatch
from engine.jobs.entries import read_state
from engine.jobs.folder import RunFolder
from engine.jobs.lock import is_alive
from engine.recipe import Recipe, builtin_recipes, load_recipe
from engine.text import clip

__all__ = ["add", "enter", "enter_again", "list_queue", "move", "pause", "remove", "resume", "run"]

POLL_SECONDS = 0.3
DISPATCH_SECONDS = 5.0


def list_queue(args: argparse.Namespace, out: Output) -> int:
    """Who waits, in order, and for what."""
    home = existing_home(args.home)
    dispatch(home)
    _tell(home, out)
    return 0


def _tell(home: Home, out: Output) -> None:
    found = queue.listing(home)
    running = _running(home)
    for name, run in running:
        out.line(f"  on  {clip(name, 32):<32} {run}")
    for place in found.places:
        waits = f"waits: {place.waits_for}" if place.waits_for else "starts next"
        out.line(
            f"{place.position:>4}  {clip(place.entry.name, 32):<32} {place.entry.run}  {waits}"
        )
    if not found.places:
        out.line("no run waits")
    if found.paused:
        out.line(f"nothing is started: {found.paused}")
    for each in found.unreadable:
        out.note(f"tunebench: {each}; passed over")
    out.document(
        {
            "paused": found.paused or None,
            "running": [{"run": run, "name": name} for name, run in running],
            "entries": [_place(place) for place in found.places],
            "unreadable": list(found.unreadable),
        }
    )


def _running(home: Home) -> list[tuple[str, str]]:
    """Name and id of the runs that the queue started and that live."""
    found = []
    for run in read_state(home).started:
        folder = RunFolder(home.runs / run)
        if is_alive(folder):
            found.append((state_of(folder).name, run))
    return found


def _place(place: queue.Place) -> dict[str, Any]:
    return {
        "position": place.position,
        "run": place.entry.run,
        "name": place.entry.name,
        "attempt": place.entry.attempt,
        "gpus": place.entry.gpus,
        "added": place.entry.added,
        "waits_for": place.waits_for or None,
    }


def add(args: argparse.Namespace, out: Output) -> int:
    """Put a run that ended, or a new run of a recipe, last in the queue."""
    is_recipe = args.ref in builtin_recipes() or Path(args.ref).is_file()
    home = open_home(args.home) if is_recipe else existing_home(args.home)
    try:
        folder = launch.find_run(home, args.ref)
    except UserError:
        folder = None
    if folder and is_recipe:
        row = state_of(folder)
        if args.ref not in (row.id, row.name) or row.state == "finished":
            folder = None
    if folder and is_recipe:
        raise UsageError(
            f"{args.ref!r} is a run and a recipe: 'tunebench resume {args.ref} --queue' or "
            f"'tunebench train {args.ref} --queue'"
        )
    if folder:
        return enter_again(home, folder, out)
    from engine.data.prepare import check_source

    if not is_recipe:
        launch.find_run(home, args.ref)  # says which run could be meant
    recipe = load_recipe(args.ref)
    check_source(recipe)
    check_model(recipe)
    check_packages(recipe)
    check_processes(recipe)
    return enter(home, recipe, None, out)


def enter(
    home: Home, recipe: Recipe, name: str | None, out: Output, repeats: str | None = None
) -> int:
    """Make a run of a recipe that the queue starts; ``repeats``: the run whose recipe it was."""
    visible = leases.visible_here()
    gpus = leases.wanted(recipe.model.device, recipe.train.num_processes, visible)
    plan = Plan(recipe, gpus, name, repeats=repeats)
    _, [folder] = create_queued(home, [plan], visible, exact=name is not None)
    return _entered(home, folder, out)


def enter_again(home: Home, folder: RunFolder, out: Output) -> int:
    """Let the queue go on with a run that ended."""
    queue.enqueue(home, folder)
    return _entered(home, folder, out)


def _entered(home: Home, folder: RunFolder, out: Output) -> int:
    outcome = dispatch(home)
    found = queue.listing(home)
    place = next((each for each in found.places if each.entry.run == folder.id), None)
    name = folder.read_identity()["name"]
    if place is None:
        out.line(f"{name} ({folder.id}) runs; 'tunebench tail {name}' follows it")
    else:
        out.line(
            f"{name} ({folder.id}) is number {place.position} in the queue, waits: "
            f"{outcome.paused or place.waits_for or 'starts next'}"
        )
    out.document(
        {
            "run": folder.id,
            "name": name,
            "folder": str(folder.path),
            "position": place.position if place else None,
            "waits_for": (place.waits_for or None) if place else None,
        }
    )
    return 0


def move(args: argparse.Namespace, out: Output) -> int:
    """Move a waiting run: first, last, up, down or to a position from 1."""
    home = existing_home(args.home)
    queue.move(home, launch.find_run(home, args.ref), args.where)
    dispatch(home)
    _tell(home, out)
    return 0


def remove(args: argparse.Namespace, out: Output) -> int:
    """Take a run, or all waiting runs of a sweep, off the queue; they stay in the history."""
    home = existing_home(args.home)
    sweep, folders = launch.find_runs(home, args.ref)
    if sweep:
        folders = [folder for folder in folders if folder.queue_entry.exists()]
        if not folders:
            raise UserError(f"no run of sweep {sweep} waits in the queue")
    gone = []
    for folder in folders:
        try:
            queue.take_off(home, folder)
        except UserError:
            if not sweep:
                raise
            continue  # started just now
        name = folder.read_identity()["name"]
        out.line(f"{name} ({folder.id}) is off the queue")
        gone.append({"run": folder.id, "name": name})
    dispatch(home)
    out.document({"taken_off": gone})
    return 0


def pause(args: argparse.Namespace, out: Output) -> int:
    """Start nothing more; what runs goes on."""
    home = existing_home(args.home)
    queue.pause(home)
    _tell(home, out)
    return 0


def resume(args: argparse.Namespace, out: Output) -> int:
    """Let the queue go on after a pause."""
    home = existing_home(args.home)
    queue.unpause(home)
    dispatch(home)
    _tell(home, out)
    return 0


def run(args: argparse.Namespace, out: Output) -> int:
    """Start what can start; with ``--wait`` stay until the queue is empty and its runs ended.

    Exit status 1 when it is paused.
    """
    home = existing_home(args.home)
    outcome = dispatch(home)
    _say(outcome, out)
    looked = time.monotonic()
    while args.wait and not outcome.paused:
        running = _running(home)
        waiting = len(queue.listing(home).places)
        if not running and not waiting:
            break
        names = ", ".join(name for name, _ in running)
        out.progress(f"{waiting} wait, {len(running)} on: {names}  Ctrl+C leaves them alone")
        time.sleep(POLL_SECONDS)
        if time.monotonic() - looked >= DISPATCH_SECONDS or (waiting and not running):
            looked = time.monotonic()
            outcome = dispatch(home)
            _say(outcome, out)
    out.progress_done()
    _tell(home, out)
    if outcome.paused:
        out.note(f"tunebench: {outcome.paused}")
    return 1 if outcome.paused else 0


def _say(outcome: Outcome, out: Output) -> None:
    for name in outcome.started:
        out.progress_done()
        out.line(f"started {name}")
