"""Makes runs: a folder with identity, recipe and a journal that says ``queued``. Starts nothing.

Runs for the queue are made together or not at all: they lie in one hidden folder until all are
written, and that folder's new name is the moment from which they exist.
"""

import datetime
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs import entries
from engine.jobs.find import identities, sweep_of
from engine.jobs.folder import RunFolder
from engine.jobs.journal import SCHEMA_VERSION, Journal
from engine.jobs.lock import locked
from engine.whole import sync

if TYPE_CHECKING:  # pydantic: 20 MB that a dispatcher has no use for
    from engine.recipe import Recipe

__all__ = [
    "LONGEST_NAME",
    "Plan",
    "as_kept",
    "create_queued",
    "create_run",
    "numbered",
    "refuse_bad_name",
    "settle",
    "write_reserve",
]

RESERVE_BYTES = 64 << 10
LONGEST_NAME = 64
STAGED, WRITING = ".queued-", ".new-queued-"


@dataclass(frozen=True)
class Plan:
    """A run to be made for the queue."""

    recipe: "Recipe"
    gpus: int
    name: str | None = None
    """None: the recipe's, or that of the run that it repeats."""
    values: dict[str, Any] | None = None
    """What the sweep that it belongs to gives it, by key."""
    repeats: str | None = None
    """The id of the run whose recipe this one repeats."""


def create_run(
    home: Home,
    recipe: "Recipe",
    name: str | None = None,
    parent: str | None = None,
    prepare: Callable[[RunFolder], None] | None = None,
    more: dict[str, Any] | None = None,
) -> RunFolder:
    """Make a run's folder: identity, recipe, and a journal that says ``queued``. Starts nothing.

    Without ``name`` the recipe's is taken, or that of the run that ``more`` says it repeats, with
    -2, -3, ... when it is. ``prepare`` puts in the folder what else belongs there, before it
    appears under its name; ``more`` joins ``run.json``.
    Raises UserError when an explicit ``name`` is taken, or the folder cannot be written.
    """
    recipe = as_kept(recipe)
    try:
        home.runs.mkdir(mode=0o700, exist_ok=True)
        with locked(home.runs / ".lock"):
            taken = _taken(home)
            if name is not None:
                _refuse_taken(taken, name)
            else:
                name = numbered(_called(home, recipe, (more or {}).get("repeats")), taken)
            return _write(home, recipe, name, parent, prepare, more)
    except OSError as error:
        raise UserError(f"{home.runs}: the run cannot be written ({error.strerror})") from None


def create_queued(
    home: Home,
    plans: Sequence[Plan],
    visible: str | None,
    sweep: str | None = None,
    exact: bool = False,
) -> tuple[str | None, list[RunFolder]]:
    """Make runs and put them last in the queue, in order: all of them or, whatever happens, none.

    ``visible``: the CUDA_VISIBLE_DEVICES that they shall keep to. ``exact``: names, that of the
    ``sweep`` too, must be free; else they are numbered. Returns the sweep's name with the folders.
    Raises UserError: a name is taken, or the folder cannot be written.
    """
    try:
        home.runs.mkdir(mode=0o700, exist_ok=True)
        with locked(home.runs / ".lock"), entries.hold(home):
            settle(home)
            taken = _taken(home)
            if sweep is not None:
                if exact:
                    _refuse_taken(taken, sweep)
                sweep = numbered(sweep, taken)
            token = secrets.token_hex(4)
            writing, staged = home.runs / f"{WRITING}{token}", home.runs / f"{STAGED}{token}"
            writing.mkdir(mode=0o700)
            try:
                found = _write_all(home, plans, taken, visible, sweep, exact, writing)
                os.rename(writing, staged)
            except BaseException:
                shutil.rmtree(writing, ignore_errors=True)
                raise
            sync(home.runs)
            settle(home)
            return sweep, found
    except OSError as error:
        raise UserError(f"{home.runs}: the runs cannot be written ({error.strerror})") from None


def _write_all(
    home: Home,
    plans: Sequence[Plan],
    taken: dict[str, RunFolder],
    visible: str | None,
    sweep: str | None,
    exact: bool,
    writing: Path,
) -> list[RunFolder]:
    found: list[RunFolder] = []
    for place, plan in enumerate(plans, 1):
        recipe = as_kept(plan.recipe)
        if exact and plan.name:
            _refuse_taken(taken, plan.name)
        name = numbered(plan.name or _called(home, recipe, plan.repeats), taken)
        more: dict[str, Any] = {"repeats": plan.repeats} if plan.repeats else {}
        if sweep:
            more["sweep"] = {"id": sweep, "values": plan.values}
        folder = _write(home, recipe, name, more=more, into=writing)
        taken[name] = folder
        found.append(folder)
        entry = entries.Entry(folder.id, name, gpus=plan.gpus, visible=visible)
        entries.put(writing, entries.after(home, entry, place))
    sync(writing)
    return found


def settle(home: Home) -> None:
    """Bring runs that were made together to their places; call with the queue's lock held.

    It goes on where a killed process left off, and forgets what was never whole. Only renames: a
    full disk does not stop it.
    """
    try:
        there = [name for name in os.listdir(home.runs) if name.startswith((STAGED, WRITING))]
    except FileNotFoundError:
        return
    for name in sorted(there):
        staged = home.runs / name
        if name.startswith(STAGED):
            for folder in sorted(path for path in staged.iterdir() if path.is_dir()):
                entry = f"{folder.name}.json"
                if (staged / entry).exists():
                    os.rename(staged / entry, home.queue / entry)
                os.rename(folder, home.runs / folder.name)
        shutil.rmtree(staged, ignore_errors=True)


def _write(
    home: Home,
    recipe: "Recipe",
    name: str,
    parent: str | None = None,
    prepare: Callable[[RunFolder], None] | None = None,
    more: dict[str, Any] | None = None,
    into: Path | None = None,
) -> RunFolder:
    """The run's folder, made whole in ``into`` (default: where runs are)."""
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    into = into or home.runs
    while True:
        id = f"{stamp}-{secrets.token_hex(2)}"
        if not (home.runs / id).exists() and not (into / id).exists():
            break
    new = RunFolder(into / f".new-{id}")
    new.path.mkdir(mode=0o700)
    try:
        identity = {
            "v": SCHEMA_VERSION,
            "id": id,
            "name": name,
            "parent": parent,
            "created": now,
            "recipe": recipe.name,
            **(more or {}),
        }
        _write_synced(new.identity, (json.dumps(identity, indent=2) + "\n").encode())
        _write_synced(new.recipe_file, recipe.to_toml().encode())
        write_reserve(new)
        new.control.mkdir(mode=0o700)
        journal = Journal(new.journal, attempt=1)
        journal.append("state", state="queued")
        journal.close()
        if prepare:
            prepare(new)
        os.rename(new.path, into / id)
    except BaseException:
        shutil.rmtree(new.path, ignore_errors=True)
        raise
    return RunFolder(home.runs / id)


def write_reserve(folder: RunFolder) -> None:
    """Set a few KiB aside, so that the run's end can be written on a full disk."""
    _write_synced(folder.reserve, os.urandom(RESERVE_BYTES))


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def as_kept(recipe: "Recipe") -> "Recipe":
    """The recipe as a run made of it now would keep it."""
    return _self_contained(_absolute(recipe))


def _absolute(recipe: "Recipe") -> "Recipe":
    """Files and folders that the recipe names relative to the current folder, made absolute."""
    rule = recipe.clean.python
    rule = rule.model_copy(update={"file": _if_there(rule.file)})
    data = {"source": _if_there(recipe.data.source)}
    model = {"model_name_or_path": _if_there(recipe.model.model_name_or_path)}
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data),
            "clean": recipe.clean.model_copy(update={"python": rule}),
            "model": recipe.model.model_copy(update=model),
        }
    )


def _if_there(name: str) -> str:
    """The absolute path of what exists; any other name (a hub id, say) as it is."""
    path = Path(name).expanduser()
    exists = name and not name.startswith("builtin:") and path.exists()
    return str(path.absolute()) if exists else name


def _self_contained(recipe: "Recipe") -> "Recipe":
    """With the chat template's text and, for templates that write the date, today's date.

    A run resumed on another day, or after the template's file was changed, then trains on the same
    tokens. No other template knows a date.
    """
    if recipe.format.template != "chat":
        return recipe
    from engine.data.tokenizer_files import chat_template  # what a dispatcher has no use for

    update = {"date": recipe.format.date or datetime.date.today().isoformat()}
    if recipe.format.chat_template:
        update["chat_template"] = chat_template(recipe.format.chat_template)
    return recipe.model_copy(update={"format": recipe.format.model_copy(update=update)})


def _taken(home: Home) -> dict[str, RunFolder]:
    """Names of runs and sweeps, each with the folder of a run."""
    taken: dict[str, RunFolder] = {}
    for folder, identity in identities(home):
        taken[identity["name"]] = folder
        if sweep := sweep_of(identity):
            taken.setdefault(sweep, folder)
    return taken


def _called(home: Home, recipe: "Recipe", repeats: str | None) -> str:
    """What a run without a name of its own is called: as the one that it repeats, unless the recipe
    was renamed meanwhile; else as its recipe."""
    if repeats is None:
        return recipe.name
    repeated = RunFolder(home.runs / repeats)
    with suppress(UserError, OSError, ValueError, KeyError, TypeError):
        if repeated.read_recipe().name == recipe.name:
            return str(repeated.read_identity()["name"])
    return recipe.name


def numbered(name: str, taken: Container[str]) -> str:
    """``name``, with -2, -3, ... when it is taken; the end of a long one gives way to it."""
    found, number = name, 1
    while found in taken:
        number += 1
        ending = f"-{number}"
        found = name[: LONGEST_NAME - len(ending)] + ending
    return found


def refuse_bad_name(name: str) -> None:
    """Raise UserError when no run can have this name."""
    if not name or len(name) > LONGEST_NAME or not all(c.isalnum() or c in "_.-" for c in name):
        raise UserError(f"name {name!r}: use letters, digits, '.', '_' and '-', at most 64")
    if name.startswith("-") or not any(c.isalnum() for c in name):  # an option, a folder
        raise UserError(f"name {name!r}: begin with another character, and have a letter or digit")


def _refuse_taken(taken: dict[str, RunFolder], name: str) -> None:
    refuse_bad_name(name)
    if name in taken:
        raise UserError(
            f"a run named {name!r} exists already ({taken[name].id}); give another --name, "
            f"or go on with that one: tunebench resume {name}"
        )
