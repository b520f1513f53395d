"""What the screens do to runs, in a thread: every function here blocks and may raise UserError."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.home import Home

if TYPE_CHECKING:
    from engine.jobs.folder import RunFolder
    from engine.recipe import Recipe

__all__ = [
    "Reading",
    "delete_run",
    "folder_bytes",
    "kill_run",
    "read_system",
    "resume_run",
    "start_run",
    "stop_run",
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


def start_run(home: Home, recipe: "Recipe", name: str | None) -> str:
    """Make the run's folder and launch it; returns its id. Refused when its GPUs are taken."""
    from engine.jobs.launch import begin

    return begin(home, recipe, name).id


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


def resume_run(home: Home, id: str) -> int:
    """Go on from the last whole checkpoint; returns the attempt's number."""
    from engine.jobs.launch import resume

    return resume(home, _folder(home, id))


def folder_bytes(path: Path) -> int:
    """What a folder holds on disk; what vanishes meanwhile counts nothing."""
    total = 0
    for file in path.rglob("*"):
        try:
            if file.is_file() and not file.is_symlink():
                total += file.stat().st_size
        except OSError:
            continue
    return total


def delete_run(home: Home, id: str) -> None:
    """Remove a run's folder whole; refuses a run that is alive."""
    from engine.jobs import launch

    launch.delete_run(home, _folder(home, id))


def read_system(home: Home) -> Reading:
    """GPUs and host, now; a few milliseconds."""
    from engine.system.gpu import read_gpus
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
    )
