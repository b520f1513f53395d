"""What the screens do to runs, in a thread: every function here blocks and may raise UserError."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.home import Home

if TYPE_CHECKING:
    from engine.jobs.branch import Change
    from engine.jobs.folder import RunFolder
    from engine.recipe import Recipe
    from engine.system.gpu import GpuState
    from engine.system.gpu_events import GpuEvent
    from engine.system.host import Host

__all__ = [
    "Reading",
    "ask_run",
    "branch_run",
    "delete_run",
    "folder_bytes",
    "kill_run",
    "note_run",
    "queue_run",
    "read_system",
    "recipe_going_on",
    "recipe_suggested",
    "resume_run",
    "start_run",
    "stop_run",
    "write_recipe",
]


@dataclass(frozen=True)
class Reading:
    """One reading of the machine: what the gauge shows. Bytes and percent; None: not known."""

    gpus: tuple[tuple[int, str, int | None, int | None, int | None], ...]
    """(index, name, memory used, memory total, utilisation) of each GPU."""
    reason: str
    """Why there is no GPU."""
    host_used: int | None
    host_total: int | None
    cpu: float | None
    disk_free: int | None
    whole: "tuple[GpuState, Host] | None" = None
    """The readings that it was made of, for the history; None: it is made up."""
    events: "tuple[GpuEvent, ...]" = ()
    """What went wrong with the GPUs since the reading before."""


def start_run(home: Home, recipe: "Recipe", name: str | None, repeats: str | None = None) -> str:
    """Make the run's folder and launch it; returns its id. Refused when its GPUs are taken.

    ``repeats``: the id of the run whose recipe it was.
    """
    from engine.jobs.launch import begin

    return begin(home, recipe, name, repeats=repeats).id


def queue_run(home: Home, recipe: "Recipe", name: str | None, repeats: str | None = None) -> str:
    """Make a run that the queue starts when its turn comes, maybe at once; returns its id."""
    from engine.jobs import leases
    from engine.jobs.create import Plan, create_queued
    from engine.jobs.dispatch import dispatch

    visible = leases.visible_here()
    gpus = leases.wanted(recipe.model.device, recipe.train.num_processes, visible)
    plan = Plan(recipe, gpus, name, repeats=repeats)
    _, [folder] = create_queued(home, [plan], visible, exact=name is not None)
    dispatch(home)
    return folder.id


def _folder(home: Home, id: str) -> "RunFolder":
    from engine.jobs.folder import RunFolder

    return RunFolder(home.runs / id)


def stop_run(home: Home, id: str) -> None:
    """Ask the run to finish its step, save and end. A run that just ended is an error."""
    from engine.commands.following import request

    request(_folder(home, id), "stop")


def kill_run(home: Home, id: str) -> None:
    """Ask the run's supervisor to kill it at once."""
    from engine.commands.following import request

    request(_folder(home, id), "kill")


def ask_run(home: Home, id: str, action: str) -> int:
    """Ask a living run to evaluate, save or sample after its step.

    Returns the request's number: a ``control`` event of the journal acknowledges it.
    """
    from engine.commands.following import request

    return request(_folder(home, id), action)


def note_run(home: Home, id: str, text: str) -> None:
    """Write a note on a run, alive or not."""
    from engine.history.notes import add_note

    add_note(home, id, text)


def recipe_again(home: Home, id: str) -> "tuple[Recipe, frozenset[str]]":
    """A run's recipe, and the keys of it that its import did not tell. Raises UserError."""
    from engine.errors import UserError

    folder = _folder(home, id)
    try:
        return folder.read_recipe(), folder.untold()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.recipe_file}: cannot be read: {error}") from None


def recipe_suggested(home: Home, id: str) -> "tuple[Recipe, list[Change]]":
    """The recipe that the run's end suggests to go on with, and what it changes."""
    from engine.jobs.branch import changes, suggested_settings

    folder = _folder(home, id)
    before = folder.read_recipe()
    recipe = before.with_settings(suggested_settings(folder))
    return recipe, changes(before, recipe)


def recipe_going_on(home: Home, id: str, recipe: "Recipe") -> "tuple[Recipe, list[Change]]":
    """``recipe`` as a run would keep it that goes on from this one, and what it changes.

    Raises UserError naming the key with which the run cannot go on.
    """
    from engine.jobs.branch import changes
    from engine.jobs.create import as_kept

    before, kept = _folder(home, id).read_recipe(), as_kept(recipe)
    if not recipe.format.date:  # "the day on which the run is made" was that of the first one
        form = kept.format.model_copy(update={"date": before.format.date})
        kept = kept.model_copy(update={"format": form})
    return kept, changes(before, kept)


def branch_run(home: Home, id: str, recipe: "Recipe") -> str:
    """Start a run that goes on from this one's last whole checkpoint; returns its id."""
    from engine.jobs import launch
    from engine.jobs.branch import branch

    with launch.reserve(home, recipe) as devices:
        child = branch(home, _folder(home, id), recipe)
        launch.launch(child, devices=devices)
    return child.id


def write_recipe(path: Path, recipe: "Recipe", replace: bool) -> None:
    """Write the whole recipe as TOML. Without ``replace`` a file that is there is an error."""
    from engine.errors import UserError

    try:
        with path.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(recipe.to_toml())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def resume_run(home: Home, id: str) -> int:
    """Go on from the last whole checkpoint; returns the attempt's number."""
    from engine.jobs.launch import resume

    return resume(home, _folder(home, id))


def folder_bytes(path: Path) -> int:
    """What a folder holds on disk; what vanishes meanwhile counts nothing."""
    from engine.jobs import trash

    return trash.folder_bytes(path)


def delete_run(home: Home, id: str) -> None:
    """Move a run's folder to the trash; refuses a run that is alive."""
    from engine.jobs import trash

    trash.move_to_trash(home, _folder(home, id))


def read_system(home: Home) -> Reading:
    """GPUs and host, now; a few milliseconds."""
    from engine.system.gpu import read_gpus
    from engine.system.gpu_events import poll_events
    from engine.system.host import read_host

    state = read_gpus()
    host = read_host(home.path)
    return Reading(
        tuple(
            (gpu.index, gpu.name, gpu.memory_used, gpu.memory_total, gpu.utilisation)
            for gpu in state
        ),
        state.reason,
        host.memory_used,
        host.memory_total,
        host.cpu_percent,
        host.disk_free,
        (state, host),
        tuple(poll_events()) if state.available else (),
    )
