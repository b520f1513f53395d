"""``train``, ``stop``, ``resume`` and ``tail``: runs begun, ended and followed."""

import argparse
import sys
import time

from engine.commands import following, group
from engine.commands import queue as queue_commands
from engine.commands.output import Output
from engine.errors import UsageError, UserError
from engine.history.follow import state_of
from engine.home import existing_home, open_home
from engine.jobs import launch, queue
from engine.jobs.branch import branch, changes, suggested_settings
from engine.jobs.check import check_model, check_packages, check_processes
from engine.jobs.checkpoints import latest_whole
from engine.jobs.folder import RunFolder
from engine.jobs.lock import is_alive
from engine.recipe import load_recipe

__all__ = ["begun", "resume", "stop", "tail", "train"]


def train(args: argparse.Namespace, out: Output) -> int:
    """Make a run of a recipe and start it; follow it unless ``--detach``.

    With ``--queue`` it is started when its turn comes; ``--sweep`` makes a group of such runs.
    With ``--dry-run`` only the preflight; with ``--find-batch-size`` trains what that found.
    """
    from engine.data.prepare import check_source

    if args.sweep:
        if args.find_batch_size or args.probe is not None:
            raise UsageError("--sweep: measure one recipe at a time, without --sweep")
        return group.train(args, out)
    recipe = load_recipe(args.recipe, args.settings)
    check_source(recipe)
    check_model(recipe)
    check_packages(recipe)
    check_processes(recipe)
    home = open_home(args.home)
    if args.dry_run or args.find_batch_size or args.probe is not None:
        from engine.commands.preflight import preflight

        recipe = preflight(home, recipe, args, out)
    if args.dry_run:
        return 0
    if args.queue:
        return queue_commands.enter(home, recipe, args.name, out)
    folder = launch.begin(home, recipe, args.name, args.now)
    return begun(folder, args.detach, out)


def resume(args: argparse.Namespace, out: Output) -> int:
    """Go on with a run from its last whole checkpoint; follow it unless ``--detach``.

    With ``--set`` or ``--suggested`` as a child run of it, after saying what changes.
    """
    home = existing_home(args.home)
    folder = launch.find_run(home, args.ref)
    settings = [*(suggested_settings(folder) if args.suggested else []), *args.settings]
    if not settings and args.name:
        raise UsageError("--name: only a run with other settings (--set) gets a name of its own")
    if not settings and args.suggested:
        out.note("the suggestion changes no key: the same recipe goes on")
    if not settings and args.queue:
        return queue_commands.enter_again(home, folder, out)
    if not settings:
        launch.resume(home, folder, args.now)
        return begun(folder, args.detach, out, new_only=True)
    before = folder.read_recipe()
    recipe = before.with_settings(settings)
    check_packages(recipe)
    check_processes(recipe)
    fresh = latest_whole(folder) is None
    found = changes(before, recipe, from_beginning=fresh)
    if not found:
        raise UserError(f"resume {args.ref}: {', '.join(settings)} changes nothing")
    for change in found:
        out.note(f"  {change.key}: {change.before} -> {change.after}" + _because(change.words))
    if not args.yes:
        if not sys.stdin.isatty():
            raise UserError(f"resume {args.ref}: nobody to ask; add --yes to go on so")
        whence = (
            "from its beginning (it has saved nothing)" if fresh else "from its last checkpoint"
        )
        if not out.ask(f"Go on with {folder.name} {whence}, as a new run?"):
            out.note("nothing started")
            return 1
    if args.queue:
        return queue_commands.enter_again(home, branch(home, folder, recipe, args.name), out)
    with launch.reserve(home, recipe, args.now) as devices:
        child = branch(home, folder, recipe, args.name)
        launch.launch(child, devices=devices)
    return begun(child, args.detach, out)


def _because(words: str) -> str:
    return f" ({words})" if words else ""


def begun(folder: RunFolder, detach: bool, out: Output, new_only: bool = False) -> int:
    """Tell that the run was begun, or follow it; the command's exit status."""
    name = folder.read_identity()["name"]
    if detach:
        out.line(f"{name} ({folder.id}) runs; 'tunebench tail {name}' follows it")
        out.document({"run": folder.id, "name": name, "folder": str(folder.path)})
        return 0
    out.line(f"{name} ({folder.id}); Ctrl+C stops it, a closed terminal does not")
    row = following.follow(folder, out, new_only, stop_on_interrupt=True)
    following.summary(row, folder, out)
    out.document(following.document(row, folder))
    return following.exit_status(row)


def tail(args: argparse.Namespace, out: Output) -> int:
    """Tell of a run or sweep until it ends; Ctrl+C leaves it alone. Exit status as ``train``."""
    home = existing_home(args.home)
    sweep, folders = launch.find_runs(home, args.ref)
    if sweep:
        return group.follow(home, sweep, folders, out)
    [folder] = folders
    row = following.follow(folder, out)
    following.summary(row, folder, out)
    out.document(following.document(row, folder))
    return following.exit_status(row)


def stop(args: argparse.Namespace, out: Output) -> int:
    """End a run after its step, or with ``--kill`` at once; waits until it is gone.

    A run that waits in the queue is taken off it. Of a sweep: every run that has not ended.
    """
    home = existing_home(args.home)
    sweep, folders = launch.find_runs(home, args.ref)
    asked = []
    for folder in folders:
        if folder.queue_entry.exists() and not is_alive(folder):
            queue.take_off(home, folder)
        elif not sweep or is_alive(folder):
            following.request(folder, "kill" if args.kill else "stop")
        else:
            continue
        asked.append(folder)
    if not asked:
        raise UserError(f"sweep {sweep} has ended; 'tunebench runs show {sweep}'")
    documents = []
    for folder in asked:
        while is_alive(folder):
            out.progress(f"waiting for {folder.id} to end; Ctrl+C leaves the request standing")
            time.sleep(0.1)
        out.progress_done()
        row = state_of(folder)
        out.line(f"{row.name} ({row.id}) {row.state}: {following.why(row)}")
        documents.append(following.document(row, folder))
    out.document({"sweep": sweep, "runs": documents} if sweep else documents[0])
    return 0
