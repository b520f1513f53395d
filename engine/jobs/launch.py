"""Starts the supervisors of runs; the one place where an attempt begins.

The launcher takes both locks of a run and the leases of its devices before it starts anything and
hands them to the supervisor, so that two launchers can never start two supervisors, and the loser
hears of it at once.
"""

import os
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.home import Home
from engine.jobs import child, control, entries, leases
from engine.jobs.create import create_run, write_reserve
from engine.jobs.find import find_run, find_runs, run_folders
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal, read_all
from engine.jobs.leases import Leases
from engine.jobs.lock import acquire, is_alive

if TYPE_CHECKING:  # pydantic: 20 MB that a dispatcher has no use for
    from engine.recipe import Recipe

__all__ = [
    "adopt",
    "begin",
    "create_run",
    "find_run",
    "find_runs",
    "has_begun",
    "launch",
    "note_queued",
    "prepare_resume",
    "reap",
    "refuse_alive",
    "refuse_imported",
    "reserve",
    "resume",
    "run_folders",
    "take_locks",
    "wanted_by",
]

WORKER = "engine.jobs.worker"
PROBE_SECONDS = 0.3
LOCK_SECONDS = 3.0
"""A supervisor that has noted the end still clears up for about a second."""

_supervisors: list["subprocess.Popen[bytes]"] = []


def refuse_alive(folder: RunFolder) -> None:
    """Raise UserError when the run is alive: what is in use is not deleted."""
    if is_alive(folder):
        raise UserError(f"run {folder.id} is running; stop it first ('tunebench stop', X)")


def reserve(home: Home, recipe: "Recipe", anyway: bool = False) -> Leases:
    """Devices for a run that is to start now; closed by :func:`launch`, or as a context manager.

    Raises UsageError when other runs have them, but for ``anyway``.
    """
    processes = recipe.train.num_processes
    count = leases.wanted(recipe.model.device, processes, leases.visible_here())
    with entries.hold(home):
        return leases.take_now(home, count, anyway)


def begin(
    home: Home,
    recipe: "Recipe",
    name: str | None = None,
    anyway: bool = False,
    repeats: str | None = None,
) -> RunFolder:
    """Make a run and start it at once, on devices that no other run has.

    ``anyway``: also on such devices. ``repeats``: the id of the run whose recipe this one is.
    Raises UsageError when there are none, and UserError; nothing is made then.
    """
    with reserve(home, recipe, anyway) as devices:
        folder = create_run(home, recipe, name, more={"repeats": repeats} if repeats else None)
        launch(folder, devices=devices)
    return folder


def launch(folder: RunFolder, attempt: int = 1, devices: Leases | None = None) -> None:
    """Start the supervisor, and through it the worker, of an attempt; returns at once.

    It lives in a session of its own, whatever becomes of this process and its terminal. ``devices``
    are closed here; by default those that :func:`begin` would take. Raises UserError when the run
    is alive. An entry in the queue is taken away once the supervisor is there.
    """
    devices = devices or _devices(folder)
    try:
        locks = take_locks(folder)
    except BaseException:
        devices.close()
        raise
    _start(folder, attempt, locks, devices)


def wanted_by(folder: RunFolder, visible: str | None) -> int:
    """How many GPUs the run takes; 0: the CPU. Raises UsageError when there are not so many."""
    recipe: dict[str, Any] = {}
    with suppress(OSError, ValueError, RecursionError):  # the worker says what is wrong with it
        recipe = tomllib.loads(folder.recipe_file.read_text(encoding="utf-8"))
    device = recipe.get("model", {}).get("device", "auto")
    return leases.wanted(device, recipe.get("train", {}).get("num_processes", 1), visible)


def _devices(folder: RunFolder, anyway: bool = False) -> Leases:
    home = Home(folder.path.parent.parent)
    count = wanted_by(folder, leases.visible_here())
    with entries.hold(home):
        return leases.take_now(home, count, anyway)


def resume(home: Home, folder: RunFolder, anyway: bool = False) -> int:
    """Go on with a run that ended before it was done, as its next attempt; returns its number.

    ``anyway``: though it waits in the queue, or other runs have its devices. Raises UserError when
    the run is alive, finished or incomplete on disk.
    """
    if folder.queue_entry.exists() and not anyway:
        raise UserError(
            f"run {folder.id} waits in the queue; 'tunebench queue' lists it, --now starts it at "
            "once"
        )
    locks = take_locks(folder)
    try:
        attempt = prepare_resume(folder)
        devices = _devices(folder, anyway)
        note_queued(folder, attempt)
    except BaseException:
        for fd in locks:
            os.close(fd)
        raise
    _start(folder, attempt, locks, devices)
    return attempt


def prepare_resume(folder: RunFolder) -> int:
    """The number of the next attempt. Raises UserError when the run cannot go on."""
    name = folder.id
    refuse_imported(folder)
    if not folder.recipe_file.exists():
        raise UserError(f"{folder.recipe_file}: is missing; run {name} cannot be resumed")
    attempt, state = 0, ""
    for event in read_all(folder.journal):
        attempt = max(attempt, int(event.get("attempt") or 0))
        if event["type"] == "state":
            state = str(event.get("state"))
    if state == "finished":
        raise UserError(f"run {name} is finished: there is nothing to resume")
    return attempt + 1


def refuse_imported(folder: RunFolder) -> None:
    """Raise UserError for a run that another program made: its checkpoints are not here."""
    if (imported := folder.imported()) is not None:
        raise UserError(
            f"run {folder.name} was imported from {imported.get('tool')}: it cannot go on here; "
            f"train its recipe anew, once what is not known in {folder.recipe_file} is filled in"
        )


def has_begun(folder: RunFolder, attempt: int) -> bool:
    """True when more was done for this attempt, or a later one, than to put it in the queue."""
    for event in read_all(folder.journal):
        begun = event["type"] in ("state", "exit") and event.get("state") != "queued"
        number = event.get("attempt") or 1
        if begun and isinstance(number, int) and number >= attempt:
            return True
    return False


def note_queued(folder: RunFolder, attempt: int) -> None:
    """Begin an attempt in the run's journal. Raises UserError when it cannot be written."""
    try:
        journal = Journal(folder.journal, attempt)
        journal.append("state", state="queued")
        journal.close()
        if not folder.reserve.exists():
            write_reserve(folder)
    except OSError as error:
        raise UserError(f"{folder.path}: cannot be written ({error.strerror})") from None


def take_locks(folder: RunFolder) -> tuple[int, int]:
    """(lock, supervisor's lock), both held. Raises UserError when the run is alive."""
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


def _start(folder: RunFolder, attempt: int, locks: tuple[int, int], devices: Leases) -> None:
    lock, own = locks
    try:
        control.clear(folder)
        devices.mark(folder.id, folder.name)
        arguments = ["--lock-fd", str(lock), "--supervisor-fd", str(own), "--worker", WORKER]
        arguments += ["--lease-fds", ",".join(map(str, devices.fds))]
        _spawn(folder, attempt, (*locks, *devices.fds), *arguments, devices=devices)
    finally:
        os.close(lock)
        os.close(own)
        devices.close()
    # Not before: whoever dies in between leaves an entry that the next one finds to be started.
    entries.remove(Home(folder.path.parent.parent), folder.id)


def adopt(folder: RunFolder) -> bool:
    """Start a supervisor for a living worker that has none. False: somebody else was quicker."""
    own = acquire(folder.supervisor_lock, PROBE_SECONDS)
    if own is None:
        return False
    try:
        attempt = max((int(e.get("attempt") or 1) for e in read_all(folder.journal)), default=1)
        _spawn(folder, attempt, (own,), "--supervisor-fd", str(own), "--worker", WORKER, "--adopt")
    finally:
        os.close(own)
    return True


def _spawn(
    folder: RunFolder,
    attempt: int,
    fds: tuple[int, ...],
    *arguments: str,
    devices: Leases | None = None,
) -> None:
    environment = child.environment(PYTHONUNBUFFERED="1")
    if devices:
        devices.apply(environment)
    command = [sys.executable, "-P", "-m", "engine.jobs.supervisor", str(folder.path.absolute())]
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [*command, "--attempt", str(attempt), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
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


def reap() -> int:
    """Forget supervisors of ours that ended, so that a long-lived viewer keeps no zombies.

    Returns how many of them have not.
    """
    _supervisors[:] = [process for process in _supervisors if process.poll() is None]
    return len(_supervisors)


def wait_until_dead(folder: RunFolder, seconds: float) -> bool:
    """Wait until nobody holds the run's locks; False when somebody still does after ``seconds``."""
    deadline = time.monotonic() + seconds
    while is_alive(folder):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    reap()
    return True
