"""Makes runs and starts their supervisors; the one place where an attempt begins.

The launcher takes both locks of a run before it starts anything and hands them to the supervisor,
so that two launchers can never start two supervisors, and the loser hears of it at once.
"""

import datetime
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine.data.tokenizer_files import chat_template
from engine.errors import UserError
from engine.home import Home
from engine.jobs import child, control
from engine.jobs.folder import RunFolder
from engine.jobs.journal import SCHEMA_VERSION, Journal, read_all
from engine.jobs.lock import acquire, is_alive, locked
from engine.recipe import Recipe

__all__ = [
    "adopt",
    "create_run",
    "delete_run",
    "find_run",
    "launch",
    "reap",
    "refuse_alive",
    "resume",
    "run_folders",
]

WORKER = "engine.jobs.worker"
RESERVE_BYTES = 64 << 10
PROBE_SECONDS = 0.3
LOCK_SECONDS = 3.0
"""A supervisor that has noted the end still clears up for about a second."""

_supervisors: list["subprocess.Popen[bytes]"] = []


def run_folders(home: Home) -> list[RunFolder]:
    """Every run of the home, oldest first."""
    try:
        with os.scandir(home.runs) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except FileNotFoundError:
        return []
    return [RunFolder(home.runs / name) for name in names]


def create_run(
    home: Home,
    recipe: Recipe,
    name: str | None = None,
    parent: str | None = None,
    prepare: Callable[[RunFolder], None] | None = None,
) -> RunFolder:
    """Make a run's folder: identity, recipe, and a journal that says ``queued``. Starts nothing.

    Without ``name`` the recipe's is taken, with -2, -3, ... when it is. ``prepare`` puts in the
    folder what else belongs there, before it appears under its name. Raises UserError when an
    explicit ``name`` is taken, or the folder cannot be written.
    """
    recipe = _self_contained(_absolute(recipe))
    try:
        home.runs.mkdir(mode=0o700, exist_ok=True)
        with locked(home.runs / ".lock"):
            name = _free_name(home, recipe, name)
            return _write(home, recipe, name, parent, prepare)
    except OSError as error:
        raise UserError(f"{home.runs}: the run cannot be written ({error.strerror})") from None


def _write(
    home: Home,
    recipe: Recipe,
    name: str,
    parent: str | None,
    prepare: Callable[[RunFolder], None] | None,
) -> RunFolder:
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    folder = RunFolder(home.runs / f"{stamp}-{secrets.token_hex(2)}")
    while folder.path.exists():
        folder = RunFolder(home.runs / f"{stamp}-{secrets.token_hex(2)}")
    new = RunFolder(home.runs / f".new-{folder.id}")
    new.path.mkdir(mode=0o700)
    try:
        identity = {
            "v": SCHEMA_VERSION,
            "id": folder.id,
            "name": name,
            "parent": parent,
            "created": now,
            "recipe": recipe.name,
        }
        _write_synced(new.identity, (json.dumps(identity, indent=2) + "\n").encode())
        _write_synced(new.recipe_file, recipe.to_toml().encode())
        _write_synced(new.reserve, os.urandom(RESERVE_BYTES))
        new.control.mkdir(mode=0o700)
        journal = Journal(new.journal, attempt=1)
        journal.append("state", state="queued")
        journal.close()
        if prepare:
            prepare(new)
        os.rename(new.path, folder.path)
    except BaseException:
        shutil.rmtree(new.path, ignore_errors=True)
        raise
    return folder


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _absolute(recipe: Recipe) -> Recipe:
    """Files and folders that the recipe names relative to the current folder, made absolute."""
    source, model = recipe.data.source, recipe.model.model_name_or_path
    if not source.startswith("builtin:") and Path(source).expanduser().exists():
        source = str(Path(source).expanduser().absolute())
    if not model.startswith("builtin:") and Path(model).expanduser().exists():
        model = str(Path(model).expanduser().absolute())
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"source": source}),
            "model": recipe.model.model_copy(update={"model_name_or_path": model}),
        }
    )


def _self_contained(recipe: Recipe) -> Recipe:
    """With the chat template's text and, for templates that write the date, today's date.

    A run resumed on another day, or after the template's file was changed, then trains on the same
    tokens. No other template knows a date.
    """
    if recipe.format.template != "chat":
        return recipe
    update = {"date": recipe.format.date or datetime.date.today().isoformat()}
    if recipe.format.chat_template:
        update["chat_template"] = chat_template(recipe.format.chat_template)
    return recipe.model_copy(update={"format": recipe.format.model_copy(update=update)})


def _names(home: Home) -> dict[str, RunFolder]:
    names: dict[str, RunFolder] = {}
    for folder in run_folders(home):
        try:
            names[str(folder.read_identity()["name"])] = folder
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return names


def _free_name(home: Home, recipe: Recipe, name: str | None) -> str:
    taken = _names(home)
    if name is not None:
        if not name or len(name) > 64 or not all(c.isalnum() or c in "_.-" for c in name):
            raise UserError(f"--name {name!r}: use letters, digits, '.', '_' and '-', at most 64")
        if name in taken:
            raise UserError(
                f"a run named {name!r} exists already ({taken[name].id}); give another --name, "
                f"or go on with that one: tunebench resume {name}"
            )
        return name
    name, number = recipe.name, 1
    while name in taken:
        number += 1
        name = f"{recipe.name}-{number}"
    return name


def find_run(home: Home, ref: str) -> RunFolder:
    """The run with this id or name, or the only one whose id or name begins with ``ref``.

    Raises UserError when there is none, or several.
    """
    names = _names(home)
    if ref in names:
        return names[ref]
    folders = {folder.id: folder for folder in run_folders(home)}
    if ref in folders:
        return folders[ref]
    found = {f.id: f for key, f in (*folders.items(), *names.items()) if key.startswith(ref)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UserError(f"{ref!r} could be any of {', '.join(sorted(found)[:5])}; write more of it")
    raise UserError(f"no run {ref!r} in {home.runs}; 'tunebench runs' lists them")


def delete_run(home: Home, folder: RunFolder) -> None:
    """Remove a run's folder whole. Raises UserError: alive, no run's folder, or not removable."""
    if folder.path.parent != home.runs or not folder.path.is_dir():
        raise UserError(f"{folder.path}: is no run's folder")
    refuse_alive(folder)
    gone = folder.path.with_name(f".gone-{folder.id}")
    try:
        folder.path.rename(gone)  # at once out of every list; what is left of it is no run
        shutil.rmtree(gone)
    except OSError as error:
        raise UserError(f"{gone}: cannot be deleted ({error.strerror})") from None


def refuse_alive(folder: RunFolder) -> None:
    """Raise UserError when the run is alive: what is in use is not deleted."""
    if is_alive(folder):
        raise UserError(f"run {folder.id} is running; stop it first ('tunebench stop', X)")


def launch(folder: RunFolder, attempt: int = 1) -> None:
    """Start the supervisor, and through it the worker, of an attempt; returns at once.

    It lives in a session of its own, whatever becomes of this process and its terminal. Raises
    UserError when the run is alive.
    """
    _start(folder, attempt, _take_locks(folder))


def resume(home: Home, folder: RunFolder) -> int:
    """Go on with a run that ended before it was done, as its next attempt; returns its number.

    Raises UserError when the run is alive, finished or incomplete on disk.
    """
    name = folder.id
    if not folder.recipe_file.exists():
        raise UserError(f"{folder.recipe_file}: is missing; run {name} cannot be resumed")
    locks = _take_locks(folder)
    try:
        attempt, state = 0, ""
        for event in read_all(folder.journal):
            attempt = max(attempt, int(event.get("attempt") or 0))
            if event["type"] == "state":
                state = str(event.get("state"))
        if state == "finished":
            raise UserError(f"run {name} is finished: there is nothing to resume")
        attempt += 1
        try:
            journal = Journal(folder.journal, attempt)
            journal.append("state", state="queued")
            journal.close()
            if not folder.reserve.exists():
                _write_synced(folder.reserve, os.urandom(RESERVE_BYTES))
        except OSError as error:
            raise UserError(f"{folder.path}: cannot be written ({error.strerror})") from None
    except BaseException:
        for fd in locks:
            os.close(fd)
        raise
    _start(folder, attempt, locks)
    return attempt


def _take_locks(folder: RunFolder) -> tuple[int, int]:
    """(lock, supervisor's lock), both held."""
    seconds = PROBE_SECONDS if _is_under_way(folder) else LOCK_SECONDS
    own = acquire(folder.supervisor_lock, seconds)
    lock = None
    try:
        lock = acquire(folder.lock, seconds) if own is not None else None
    finally:
        if lock is None and own is not None:
            os.close(own)
    if own is None or lock is None:
        raise UserError(
            f"run {folder.id} is running; 'tunebench tail {folder.id}' follows it, "
            f"'tunebench stop {folder.id}' ends it"
        )
    return lock, own


def _is_under_way(folder: RunFolder) -> bool:
    last = None
    for event in read_all(folder.journal):
        if event["type"] in ("state", "exit"):
            last = event
    unended = ("queued", "starting", "running", "stopping")
    return last is not None and last["type"] == "state" and last.get("state") in unended


def _start(folder: RunFolder, attempt: int, locks: tuple[int, int]) -> None:
    lock, own = locks
    try:
        control.clear(folder)
        arguments = ["--lock-fd", str(lock), "--supervisor-fd", str(own), "--worker", WORKER]
        _spawn(folder, attempt, locks, *arguments)
    finally:
        os.close(lock)
        os.close(own)


def adopt(folder: RunFolder) -> bool:
    """Start a supervisor for a living worker that has none. False: somebody else was quicker."""
    own = acquire(folder.supervisor_lock, PROBE_SECONDS)
    if own is None:
        return False
    try:
        attempt = max((int(e.get("attempt") or 1) for e in read_all(folder.journal)), default=1)
        _spawn(folder, attempt, (own,), "--supervisor-fd", str(own), "--adopt")
    finally:
        os.close(own)
    return True


def _spawn(folder: RunFolder, attempt: int, fds: tuple[int, ...], *arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "engine.jobs.supervisor", str(folder.path.absolute())]
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [*command, "--attempt", str(attempt), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child.environment(PYTHONUNBUFFERED="1"),
            pass_fds=fds,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise UserError(f"{sys.executable}: cannot be started ({error.strerror})") from None
    finally:
        os.close(log)
    reap()
    _supervisors.append(process)


def reap() -> None:
    """Forget supervisors of ours that ended, so that a long-lived viewer keeps no zombies."""
    _supervisors[:] = [process for process in _supervisors if process.poll() is None]


def wait_until_dead(folder: RunFolder, seconds: float) -> bool:
    """Wait until nobody holds the run's locks; False when somebody still does after ``seconds``."""
    deadline = time.monotonic() + seconds
    while is_alive(folder):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    reap()
    return True
