"""``runs repeat`` and ``runs tree``: a recipe again with a change, and who came from whom."""

import argparse
import shutil
from typing import Any

from engine.builtin import UNKNOWN
from engine.commands import queue as queue_commands
from engine.commands.opened import opened
from engine.commands.output import Output
from engine.commands.runs import number
from engine.commands.train import begun
from engine.edit import edit
from engine.errors import UsageError, UserError
from engine.history import queries
from engine.history.lineage import lineage
from engine.jobs import launch
from engine.jobs.check import check_model, check_packages, check_processes
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe, read_recipe
from engine.text import clip
from engine.words import counted

__all__ = ["repeat", "tree"]


def repeat(args: argparse.Namespace, out: Output) -> int:
    """Train a run's recipe again from the first step, with ``--set`` or ``--edit``; says what
    differs before anything starts. ``--dry-run``: only that."""
    from engine.data.prepare import check_source

    home, store = opened(args, out)
    row = queries.get_run(store, args.ref)
    run = RunFolder(home.runs / row.id)
    before = run.read_recipe()
    recipe = before.with_settings(args.settings)
    if args.edit:
        recipe = _edited(recipe)
    found = before.changes(recipe)
    out.note(f"{row.name} again, " + ("with" if found else "with nothing changed"))
    for key, old, new in found:
        out.note(f"  {key}: {old} -> {new}")
    _tell_untold(run, recipe, found, out)
    if args.dry_run:
        changed = [{"key": key, "before": old, "after": new} for key, old, new in found]
        out.document({"repeats": row.id, "changes": changed})
        return 0
    for check in (check_source, check_model, check_packages, check_processes):
        check(recipe)
    if args.queue:
        return queue_commands.enter(home, recipe, args.name, out, repeats=row.id)
    folder = launch.begin(home, recipe, args.name, args.now, repeats=row.id)
    return begun(folder, args.detach, out)


def _tell_untold(
    run: RunFolder, recipe: Recipe, found: list[tuple[str, Any, Any]], out: Output
) -> None:
    untold = run.untold() - {key for key, _, _ in found}
    lacking = {key for key, value in recipe.flat().items() if value == UNKNOWN}
    for key in sorted(lacking):
        out.note(f"  {key}: not known, has to be set")
    if untold := untold - lacking:
        out.note(f"  {counted(len(untold), 'value')} that its import did not tell: the defaults")


def _edited(recipe: Recipe) -> Recipe:
    file = edit(recipe.to_toml(), "recipe.toml")
    try:
        found = read_recipe(file)
    except UserError as error:
        raise UsageError(f"{error}; the text is kept: tunebench train {file}") from None
    shutil.rmtree(file.parent, ignore_errors=True)
    return found


def tree(args: argparse.Namespace, out: Output) -> int:
    """The runs as a tree: below each those that go on from it (>) or repeat its recipe (=)."""
    _, store = opened(args, out)
    rows = queries.list_runs(store)
    only = queries.get_run(store, args.ref).id if args.ref else None
    settings = queries.settings_of(store)
    lines = lineage(rows, lambda run: settings.get(run, {}), only)
    for line in lines:
        told = f"{number(line.row.best_eval_loss):>8}  {line.row.state}"
        name = clip(line.branch + line.row.name, 44)
        out.line(f"{name:<44} {told}  {clip(line.what, 60)}".rstrip())
    if not lines:
        out.line("no runs yet; 'tunebench demo' makes the first one")
    out.document(
        [
            {
                "run": line.row.id,
                "name": line.row.name,
                "depth": line.depth,
                "from": line.origin,
                "how": line.how or None,
                "changes": {key: {"before": a, "after": b} for key, a, b in line.changes},
            }
            for line in lines
        ]
    )
    return 0
