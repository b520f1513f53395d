"""Ten ways to hurt a run, and what must be true of it afterwards: for short tests and slow ones.

A fault is done to a living run; the check afterwards is the same for all: whatever whole line of
metrics stood in the journal is in ``runs.db``, the end is the expected one, and the run finishes.
"""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.commands.endings import standing_checkpoints
from engine.history.ingest import ingest_all
from engine.history.queries import get_run
from engine.history.row import RunRow
from engine.history.store import open_store
from engine.home import Home
from engine.jobs import checkpoints, child, launch, processes
from engine.jobs.folder import RunFolder
from engine.jobs.journal import read_all
from engine.jobs.lock import has_supervisor
from tests.engine.fakes import runs

__all__ = ["FAULTS", "Disk", "Fault", "Scene", "disk", "history", "hurt", "losses"]

# One thread in the workers: on a busy machine threads that wait for each other made a step of the
# demo 12 s long instead of 0.1 s.
os.environ["OMP_NUM_THREADS"] = "1"

SESSION = (
    "import os, signal, sys\n"
    "from pathlib import Path\n"
    "from engine.jobs import launch\n"
    "from engine.jobs.folder import RunFolder\n"
    "launch.WORKER = sys.argv[2]\n"
    "launch.launch(RunFolder(Path(sys.argv[1])))\n"
    "os.killpg(0, signal.SIGHUP)\n"
)


def losses(folder: RunFolder) -> dict[int, float]:
    """Step -> its own loss; of a step that was done twice the latest attempt's."""
    return {e["step"]: e["loss"] for e in read_all(folder.journal) if e["type"] == "metrics"}


def history(folder: RunFolder) -> tuple[RunRow, dict[int, float]]:
    """What ``runs.db`` says: the run's row, and its steps' losses."""
    home = Home(folder.path.parent.parent)
    store = open_store(home)
    try:
        ingest_all(home, store)
        found = store.query("SELECT step, loss FROM metrics WHERE run = ?", (folder.id,))
        return get_run(store, folder.id), {row[0]: row[1] for row in found}
    finally:
        store.close()


def supervisor_pid(folder: RunFolder) -> int:
    """The one process but this that holds the supervisor's lock."""

    def find() -> int:
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        mine = os.getpid()
        holds = (p for p in pids if p != mine and processes.holds_file(p, folder.supervisor_lock))
        return next(holds, 0)

    return runs.wait(find, "a supervisor")


def privileged() -> bool:
    """Whether this process may mount file systems."""
    return os.geteuid() == 0 and bool(shutil.which("mount") and shutil.which("mkfs.ext4"))


@contextlib.contextmanager
def disk(place: Path, size_mib: int) -> Iterator["Disk | None"]:
    """A small ext4 file system in a file, mounted at ``place``; None where that is not allowed.

    ext4, not tmpfs: a tmpfs cannot be made read-only while a file on it is open for writing, and a
    running worker's journal is. Told of an error, ext4 does it as after a real one.
    """
    mounted = Disk(place, place.with_name(f"{place.name}.img"))
    if not privileged() or not mounted.make(size_mib):
        yield None
        return
    try:
        yield mounted
    finally:
        mounted.unmount("-l")


@dataclass
class Disk:
    place: Path
    image: Path

    def make(self, size_mib: int) -> bool:
        self.place.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(size_mib << 20)
        made = subprocess.run(
            ["mkfs.ext4", "-q", "-m", "0", str(self.image)],
            capture_output=True,
        )
        return made.returncode == 0 and self.mount()

    def mount(self) -> bool:
        command = ["mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.place)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def unmount(self, *options: str) -> bool:
        command = ["umount", *options, str(self.place)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def fail(self) -> bool:
        """Make it read-only at once, whoever writes; False where the kernel offers no way."""
        found = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(self.place)], capture_output=True, text=True
        )
        trigger = Path("/sys/fs/ext4") / Path(found.stdout.strip()).name / "trigger_fs_error"
        try:
            trigger.write_text("1")
        except OSError:
            return False
        return True

    def recover(self) -> None:
        """Mounted again for writing, as after a repair."""
        # A supervisor frees its locks a moment before it is gone, and with it its log.
        runs.wait(self.unmount, "nobody on the disk")
        assert self.mount()

    def fill(self) -> Path:
        """Use up what is free; returns the file to remove."""
        filler = self.place / "filler"
        fd = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * size):
                    pass
        os.close(fd)
        return filler


@dataclass
class Scene:
    """A run that is to be hurt."""

    home: Home
    folder: RunFolder
    disk: Disk | None = None
    worker: str = launch.WORKER
    filler: Path | None = None
    note: str = ""


Act = Callable[[Scene], None]


def kill_worker(scene: Scene) -> None:
    os.kill(runs.worker_pid(scene.folder), signal.SIGKILL)


def kill_supervisor(scene: Scene) -> None:
    os.kill(supervisor_pid(scene.folder), signal.SIGKILL)
    runs.wait(lambda: not has_supervisor(scene.folder), "the supervisor's end")
    history(scene.folder)  # a viewer looks, and gives the worker a new one
    runs.wait(lambda: has_supervisor(scene.folder), "a new supervisor")


def terminate(scene: Scene) -> None:
    os.kill(runs.worker_pid(scene.folder), signal.SIGTERM)


def hang_up(scene: Scene) -> None:
    """SIGHUP to worker and supervisor; the session that began the run is gone already."""
    os.kill(supervisor_pid(scene.folder), signal.SIGHUP)
    os.kill(runs.worker_pid(scene.folder), signal.SIGHUP)


def launch_in_a_session_that_dies(folder: RunFolder, worker: str) -> None:
    """Begin the run from a process that then gets SIGHUP with all of its process group."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(folder.path), worker],
        env=child.environment(),
        start_new_session=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGHUP


def fill_disk(scene: Scene) -> None:
    assert scene.disk is not None
    scene.filler = scene.disk.fill()


def make_read_only(scene: Scene) -> None:
    assert scene.disk is not None and scene.disk.fail()


def delete_database(scene: Scene) -> None:
    history(scene.folder)
    for path in scene.home.path.glob("runs.db*"):
        path.unlink()


def lock_database(seconds: float) -> Act:
    def act(scene: Scene) -> None:
        history(scene.folder)
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            connection = sqlite3.connect(scene.home.database, isolation_level=None)
            connection.execute("BEGIN EXCLUSIVE")
            held.set()
            release.wait(seconds)
            connection.execute("ROLLBACK")
            connection.close()

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(30)
        before = len(losses(scene.folder))
        row, _ = history(scene.folder)  # waits, or tells what it knew; never raises
        scene.note = f"a viewer meanwhile said: {row.state}"
        holder.join()
        scene.note += f"; {len(losses(scene.folder)) - before} steps were made meanwhile"

    return act


def damage_checkpoint(scene: Scene) -> None:
    """The newest one loses half of its biggest file; then the worker is killed."""
    newest = runs.wait(
        lambda: sorted(
            (p for p in scene.folder.checkpoints.glob("step-*") if (p / "manifest.json").exists()),
            key=lambda path: int(path.name[5:]),
        )[-1:],
        "a checkpoint",
    )[0]
    kill_worker(scene)
    assert launch.wait_until_dead(scene.folder, 30)
    biggest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    os.truncate(biggest, biggest.stat().st_size // 2)
    half = scene.folder.checkpoints / ".tmp-999-1"
    half.mkdir(exist_ok=True)
    (half / biggest.name).write_bytes(b"half")
    scene.note = f"{newest.name} was damaged"


def second_supervisor(scene: Scene) -> None:
    command = [sys.executable, "-P", "-m", "engine.jobs.supervisor", str(scene.folder.path)]
    for extra in ([], ["--adopt"]):
        done = subprocess.run(
            [*command, "--worker", scene.worker, *extra],
            env=child.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1 and "another one watches" in done.stdout, done
    scene.note = "both were refused"


@dataclass(frozen=True)
class Fault:
    name: str
    act: Act
    ends: tuple[str, ...]
    """The states that are true at its end; "finished": it is to go on as if nothing had been."""
    kind: str | None = None
    needs_disk: bool = False
    session: bool = False


FAULTS = (
    Fault("SIGKILL worker", kill_worker, ("killed",)),
    Fault("SIGKILL supervisor", kill_supervisor, ("finished",)),
    Fault("SIGTERM", terminate, ("stopped",)),
    Fault("SIGHUP of the session", hang_up, ("finished",), session=True),
    Fault("full disk", fill_disk, ("failed",), "disk_full", needs_disk=True),
    # Nothing can be written: nobody can tell more than that it is gone.
    Fault("read-only file system", make_read_only, ("lost",), needs_disk=True),
    Fault("runs.db deleted", delete_database, ("finished",)),
    Fault("runs.db locked for 30 s", lock_database(30.0), ("finished",)),
    Fault("checkpoint half-written", damage_checkpoint, ("killed",)),
    Fault("a second supervisor", second_supervisor, ("finished",)),
)


def hurt(
    fault: Fault,
    scene: Scene,
    reached: Callable[[RunFolder], bool],
    release: Callable[[], None] = lambda: None,
    seconds: float = 30,
) -> dict[str, Any]:
    """Launch the scene's run, do it the fault once ``reached``, check, and bring it to its end.

    Returns a line of the table. ``release`` lets a run go on that waits.
    """
    folder = scene.folder
    if fault.session:
        launch_in_a_session_that_dies(folder, scene.worker)
    else:
        launch.launch(folder)
    runs.wait(lambda: reached(folder), "the moment", seconds)
    fault.act(scene)
    before = losses(folder)
    release()
    assert launch.wait_until_dead(folder, seconds), folder.log_tail()
    row, known = history(folder)
    assert row.state in fault.ends, (row.state, row.reason, folder.log_tail())
    assert row.error_kind == fault.kind, (row.error_kind, row.reason)
    assert {step: known.get(step) for step in before} == before, "lines of the journal are lost"
    assert known == losses(folder)
    standing_checkpoints(row, folder)
    assert checkpoints.step_of(Path(row.checkpoint or "")) == max(
        map(checkpoints.step_of, checkpoints.whole(folder)), default=-1
    )
    line = {
        "fault": fault.name,
        "at step": max(before, default=0),
        "end": row.state + (f" ({row.error_kind})" if row.error_kind else ""),
        "lines kept": f"{len(before.items() & known.items())} of {len(before)}",
        "last whole": Path(row.checkpoint or "none").name,
        "afterwards": "went on by itself",
        "note": scene.note,
    }
    if row.state != "finished":
        if scene.filler:
            scene.filler.unlink()
        elif scene.disk:
            scene.disk.recover()
            # What was not synced yet, at most a second of it, no disk brings back.
            line["note"] = f"{len(losses(folder))} of them were on the disk when mounted again"
        attempt = launch.resume(scene.home, folder)
        assert launch.wait_until_dead(folder, seconds), folder.log_tail()
        began = [e for e in runs.events(folder, "state") if "max_steps" in e][-1]["resume_step"]
        line["afterwards"] = f"resumed from step {began}, attempt {attempt}"
        assert began == (checkpoints.step_of(Path(row.checkpoint)) if row.checkpoint else 0)
    end, known = history(folder)
    assert end.state == "finished", (end.state, end.reason, folder.log_tail())
    # Of a step that was done again the history has the latest.
    assert known == losses(folder)
    assert all(checkpoints.is_whole(path) for path in checkpoints.whole(folder))
    return line
