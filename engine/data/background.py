"""Cleans in a process of its own, for a viewer that must stay quick and may be closed meanwhile.

A job is a hidden folder beside the datasets: the recipe, a state that is replaced whole at every
progress, the log, and a lock that the worker holds as long as it lives (however it dies).
``python -m engine.data.background JOB HOME`` is the worker.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from engine.errors import UserError
from engine.home import Home, private_umask
from engine.jobs import child
from engine.jobs.lock import acquire, is_held
from engine.recipe import Recipe

__all__ = ["CleanState", "cancel", "forget", "jobs", "read_state", "start"]

FOLDER = ".jobs"


@dataclass(frozen=True)
class CleanState:
    """How far a job is, or how it ended."""

    name: str
    state: str
    """running, done, failed, cancelled or lost (it ended without a word)."""
    phase: str = "starting"
    rows: int = 0
    fraction: float = 0.0
    """0 to 1 of this phase."""
    rows_per_second: float = 0.0
    seconds: float = 0.0
    eta: float | None = None
    """Seconds until the end of this phase, once it can be told."""
    dataset: str = ""
    """Name of the dataset, when done."""
    error: str = ""
    """One line, when failed or lost."""
    pid: int = 0

    @property
    def ended(self) -> bool:
        return self.state != "running"


def start(home: Home, recipe: Recipe) -> tuple[Path, "subprocess.Popen[bytes]"]:
    """Start preparing ``recipe``'s dataset; returns the job's folder and its process.

    Raises :class:`UserError` when the source cannot be used: that is looked at before.
    """
    from engine.data.sources import check_source, dataset_name

    check_source(recipe)
    name = dataset_name(recipe.data)
    folder = home.datasets / FOLDER / f"{name}-{time.time_ns():x}"
    folder.mkdir(mode=0o700, parents=True)
    (folder / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    _write(folder, CleanState(name, "running"))
    lock = acquire(folder / "lock")  # inherited: held until the worker is gone
    assert lock is not None, f"{folder} is new"
    try:
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(folder), str(home.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock],
                env=child.environment(),
            )
    finally:
        os.close(lock)
    return folder, process


def jobs(home: Home) -> list[Path]:
    """The folders of all jobs, running or ended, oldest first."""
    return sorted(file.parent for file in (home.datasets / FOLDER).glob("*/state.json"))


def read_state(folder: Path) -> CleanState:
    """The job's state now; a worker that is gone without having said so is ``lost``."""
    gone = not is_held(folder / "lock")  # looked at first: a worker writes its end before it goes
    try:
        values = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        known = {item.name for item in fields(CleanState)}
        state = CleanState(**{key: value for key, value in values.items() if key in known})
    except (OSError, ValueError, TypeError):
        return CleanState(folder.name, "lost", error=f"{folder}: cannot be read")
    if state.ended or not gone:
        return state
    words = _last_line(folder / "log")
    error = f"the cleaning ended without a word{': ' + words if words else ''}"
    return CleanState(**{**asdict(state), "state": "lost", "error": error})


def cancel(folder: Path) -> None:
    """Ask the worker to give up; nothing half-made stays."""
    state = read_state(folder)
    if not state.ended and state.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)


def forget(folder: Path) -> None:
    """Remove the folder of a job that has ended."""
    if read_state(folder).ended:
        shutil.rmtree(folder, ignore_errors=True)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_bytes()[-4096:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _write(folder: Path, state: CleanState) -> None:
    temporary = folder / f".state.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
    temporary.replace(folder / "state.json")


def main(argv: list[str]) -> int:
    """The worker: prepares the recipe in the job's folder, and says how it ended."""
    import tomllib

    from engine.data.prepare import Cancelled, Progress, prepare
    from engine.data.sources import dataset_name

    private_umask()
    folder, home = Path(argv[0]), Home(Path(argv[1]))
    recipe = Recipe.model_validate(tomllib.loads((folder / "recipe.toml").read_text("utf-8")))
    name, pid = dataset_name(recipe.data), os.getpid()
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    _write(folder, CleanState(name, "running", pid=pid))

    def tell(progress: Progress) -> None:
        _write(folder, CleanState(name, "running", pid=pid, **asdict(progress)))

    try:
        dataset = prepare(home, recipe, progress=tell, cancelled=lambda: bool(asked))
    except Cancelled:
        _write(folder, CleanState(name, "cancelled", pid=pid))
        return Cancelled.exit_code
    except UserError as error:
        _write(folder, CleanState(name, "failed", error=str(error), pid=pid))
        return error.exit_code
    except Exception as error:
        words = f"{type(error).__name__}: {error}; see {folder / 'log'}"
        _write(folder, CleanState(name, "failed", error=words, pid=pid))
        raise
    _write(folder, CleanState(name, "done", dataset=dataset.name, pid=pid))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
