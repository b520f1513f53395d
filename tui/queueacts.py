"""What the screens do to the queue, to sweeps and to notes: all of it blocks, in a thread.

Functions that say what they did return it in words; every one may raise UserError.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.home import Home
from engine.jobs.folder import RunFolder

__all__ = [
    "Look",
    "Waiting",
    "annotate",
    "delete_all",
    "enqueue",
    "enqueue_all",
    "look",
    "move",
    "pause",
    "signature",
    "stop_all",
    "take_off",
    "unpause",
]


@dataclass(frozen=True)
class Waiting:
    """One line of the queue."""

    run: str
    """The run's id; of an entry that cannot be read, as its file is named."""
    name: str
    position: int
    """From 1; 0: an entry that cannot be read."""
    waits_for: str
    """ "" when it starts next."""
    attempt: int = 1
    gpus: int = 0
    added: float = 0.0


@dataclass(frozen=True)
class Look:
    """The queue as it was a moment ago."""

    waiting: tuple[Waiting, ...] = ()
    paused: str = ""
    """Why nothing is started."""
    error: str = ""
    """Why it cannot be read."""


def signature(home: Home) -> object:
    """Equal as long as no entry came, went or moved, and the queue was neither held nor let go."""
    try:
        there = home.queue.stat().st_mtime_ns  # every write ends with a rename in this folder
    except OSError:
        return None
    return there


def look(home: Home) -> Look:
    """Who waits, in order, and for what; changes nothing."""
    from engine.jobs import queue

    try:
        found = queue.listing(home)
    except (OSError, UserError) as error:
        return Look(error=str(error))
    waiting = [
        Waiting(
            place.entry.run,
            place.entry.name,
            place.position,
            place.waits_for,
            place.entry.attempt,
            place.entry.gpus,
            place.entry.added,
        )
        for place in found.places
    ]
    for each in found.unreadable:
        path, _, reason = each.rpartition(": ")
        file = Path(path)
        waiting.append(Waiting(file.stem, file.name, 0, f"{reason}; passed over"))
    return Look(tuple(waiting), found.paused)


def _folder(home: Home, id: str) -> RunFolder:
    return RunFolder(home.runs / id)


def move(home: Home, id: str, where: str) -> str:
    """``where``: first, last, up or down. Its line moves: there is nothing to say."""
    from engine.jobs import queue
    from engine.jobs.dispatch import dispatch

    queue.move(home, _folder(home, id), where)
    dispatch(home)
    return ""


def pause(home: Home) -> str:
    from engine.jobs import queue

    queue.pause(home)
    return "the queue is paused; what runs goes on"


def unpause(home: Home) -> str:
    from engine.jobs import queue
    from engine.jobs.dispatch import dispatch

    queue.unpause(home)
    started = dispatch(home).started
    return "the queue goes on" + (f": {', '.join(started)} started" if started else "")


def enqueue(home: Home, id: str) -> str:
    """Let the queue go on with a run that ended; it starts at once when it can."""
    from engine.jobs import queue
    from engine.jobs.dispatch import dispatch

    folder = _folder(home, id)
    entry = queue.enqueue(home, folder)
    outcome = dispatch(home)
    if not folder.queue_entry.exists():
        return f"{entry.name}: goes on"
    place = next((each.position for each in look(home).waiting if each.run == id), None)
    why = f", {outcome.paused}" if outcome.paused else ""
    return f"{entry.name}: number {place} in the queue{why}" if place else f"{entry.name}: goes on"


def enqueue_all(home: Home, ids: Sequence[str]) -> str:
    """:func:`enqueue` several, in their order; those that cannot go on are left."""
    done, refused = 0, None
    for id in ids:
        try:
            enqueue(home, id)
            done += 1
        except UserError as error:
            refused = error
    if refused and not done:
        raise refused
    return f"{done} run{'s' * (done != 1)} put in the queue"


def take_off(home: Home, ids: Sequence[str]) -> str:
    """Take runs off the queue; one of several that started meanwhile is left alone."""
    from engine.jobs import queue
    from engine.jobs.dispatch import dispatch

    gone, refused = 0, None
    for id in ids:
        try:
            queue.take_off(home, _folder(home, id))
            gone += 1
        except UserError as error:
            refused = error
    dispatch(home)
    if refused and not gone:
        raise refused
    return f"{gone} run{'s' * (gone != 1)} off the queue"


def stop_all(home: Home, ids: Sequence[str]) -> str:
    """Runs that wait are taken off the queue, then those that run are asked to stop."""
    from engine.commands.following import request
    from engine.jobs import queue
    from engine.jobs.dispatch import dispatch
    from engine.jobs.lock import is_alive

    off = asked = 0
    refused = None
    folders = [_folder(home, id) for id in ids]
    # First the queue: a run that stops would let the next one of them start.
    for folder in sorted(folders, key=is_alive):
        try:
            if folder.queue_entry.exists() and not is_alive(folder):
                queue.take_off(home, folder)
                off += 1
            elif is_alive(folder):
                request(folder, "stop")
                asked += 1
        except UserError as error:
            refused = error
    dispatch(home)
    if refused and not (off or asked):
        raise refused
    return f"{asked} asked to stop, {off} taken off the queue"


def delete_all(home: Home, ids: Sequence[str]) -> str:
    """Move runs to the trash; none when one of them is alive."""
    from engine.jobs import launch, trash

    folders = [_folder(home, id) for id in ids]
    for folder in folders:
        launch.refuse_alive(folder)
    for folder in folders:
        trash.move_to_trash(home, folder)
    return f"{len(folders)} run{'s' * (len(folders) != 1)} moved to the trash"


def annotate(home: Home, ids: Sequence[str], note: str = "", tags: Sequence[str] = ()) -> None:
    """Write a note on runs, or add tags; ``TAG-`` takes one away."""
    from engine.history import notes

    for id in ids:
        if note:
            notes.add_note(home, id, note)
        for tag in tags:
            if tag.endswith("-"):
                notes.remove_tag(home, id, tag[:-1])
            else:
                notes.add_tag(home, id, tag)
