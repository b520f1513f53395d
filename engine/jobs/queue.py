"""What people do to the queue: look at it, reorder it, take runs off, hold it and let it go on."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.errors import UsageError, UserError
from engine.home import Home
from engine.jobs import entries, launch, leases
from engine.jobs.create import settle
from engine.jobs.dispatch import is_over
from engine.jobs.entries import Entry, State, hold, read_entries, read_state
from engine.jobs.folder import RunFolder
from engine.jobs.journal import Journal
from engine.jobs.leases import Wait
from engine.jobs.lock import is_alive

__all__ = ["Listing", "Place", "enqueue", "listing", "move", "pause", "take_off", "unpause"]

TAKEN_OFF = "taken off the queue"


@dataclass(frozen=True)
class Place:
    """A run's place in the queue, from 1, and what it waits for; "" when it starts next."""

    position: int
    entry: Entry
    waits_for: str


@dataclass(frozen=True)
class Listing:
    """The queue as it is now."""

    places: tuple[Place, ...]
    paused: str
    unreadable: tuple[str, ...]
    """Entries that are passed over, each with its file and the reason."""


def listing(home: Home) -> Listing:
    """Who waits, in order, and for what. Changes nothing."""
    found, bad = read_entries(home)
    paused = read_state(home).paused
    waiting = [entry for entry in found if not is_over(RunFolder(home.runs / entry.run), entry)]
    places = []
    for position, entry in enumerate(waiting, 1):
        if position > 1:
            waits_for = f"behind {waiting[position - 2].name}"
        elif paused:
            waits_for = "the queue is paused"
        else:
            wait = leases.look(home, entry.gpus, entry.visible)
            waits_for = wait.reason if isinstance(wait, Wait) else ""
        places.append(Place(position, entry, waits_for))
    return Listing(tuple(places), paused, tuple(f"{each.path}: {each.reason}" for each in bad))


def enqueue(home: Home, folder: RunFolder) -> entries.Entry:
    """Put the next attempt of a run that ended last in the queue.

    Raises UserError when it is alive, finished, incomplete on disk or in the queue already.
    """
    visible = leases.visible_here()
    with entries.hold(home):
        settle(home)
        if folder.queue_entry.exists():
            raise UserError(f"run {folder.id} is in the queue already; 'tunebench queue' lists it")
        count = launch.wanted_by(folder, visible)
        locks = launch.take_locks(folder)
        try:
            attempt = launch.prepare_resume(folder)
            fresh = not launch.has_begun(folder, attempt - 1)  # a child run, made a moment ago
            entry = entries.Entry(
                folder.id, folder.name, attempt - fresh, gpus=count, visible=visible
            )
            entries.put(home.queue, entries.after(home, entry))
            if not fresh:
                launch.note_queued(folder, attempt)
        except OSError as error:
            raise UserError(f"run {folder.id} cannot be put in the queue ({error})") from None
        finally:
            for fd in locks:
                os.close(fd)
    return entry


def move(home: Home, folder: RunFolder, where: str) -> int:
    """Move a waiting run to ``first``, ``last``, ``up``, ``down`` or a position from 1.

    Returns the new position. Raises UserError when the run does not wait, UsageError for another
    word.
    """
    with hold(home):
        settle(home)
        found, _ = read_entries(home)
        here = next((at for at, entry in enumerate(found) if entry.run == folder.id), None)
        if here is None:
            raise _not_there(folder)
        last = len(found) - 1
        places = {"first": 0, "last": last, "up": max(0, here - 1), "down": min(last, here + 1)}
        if where.isascii() and where.isdigit() and int(where) >= 1:
            there = min(last, int(where) - 1)
        elif where in places:
            there = places[where]
        else:
            raise UsageError(f"{where!r}: write first, last, up, down or a position from 1")
        if there == here:
            return there + 1
        order = _between(found, here, there)
        if order is None:  # no number left in between
            found = entries.renumber(home)
            order = _between(found, here, there)
        assert order is not None
        entries.put(home.queue, replace(found[here], order=order))
        return there + 1


def _between(found: Sequence[Entry], here: int, there: int) -> float | None:
    """An order that puts the entry from ``here`` to ``there``: one file is written, not two."""
    others = [entry.order for at, entry in enumerate(found) if at != here]
    if there == 0:
        return others[0] - 1.0
    if there == len(others):
        return others[-1] + 1.0
    below, above = others[there - 1], others[there]
    order = (below + above) / 2
    return order if below < order < above else None


def take_off(home: Home, folder: RunFolder) -> None:
    """Take a waiting run off the queue; it stays in the history, stopped before its first step.

    Raises UserError when it does not wait, or runs already.
    """
    with hold(home):
        settle(home)
        entry = next((each for each in read_entries(home)[0] if each.run == folder.id), None)
        if entry is None:
            damaged = folder.queue_entry.exists() and not is_alive(folder)
            if not damaged:
                raise _not_there(folder)
        elif is_over(folder, entry):
            entries.remove(home, entry.run)
            raise _not_there(folder)
        try:  # the end first: whoever dies in between leaves an entry with nothing left to start
            journal = Journal(folder.journal, entry.attempt if entry else 1)
            journal.append("state", state="stopped", reason=TAKEN_OFF)
            journal.close()
            entries.remove(home, folder.id)
        except OSError as error:
            raise UserError(f"{folder.path}: cannot be written ({error.strerror})") from None


def _not_there(folder: RunFolder) -> UserError:
    if is_alive(folder):
        return UserError(f"run {folder.id} is running; 'tunebench stop {folder.id}' ends it")
    return UserError(f"run {folder.id} is not in the queue; 'tunebench queue' lists it")


def pause(home: Home) -> None:
    """Start nothing more; what runs goes on."""
    with hold(home):
        state = read_state(home)
        state.paused = f"paused by hand since {time.strftime('%Y-%m-%d %H:%M')}"
        _write_state(home, state)


def unpause(home: Home) -> None:
    """Let the queue go on, whyever it was paused."""
    with hold(home):
        state = read_state(home)
        state.paused, state.failed = "", []
        _write_state(home, state)


def _write_state(home: Home, state: State) -> None:
    try:
        entries.write_state(home, state)
    except OSError as error:
        raise UserError(f"{home.queue}: cannot be written ({error.strerror})") from None
