"""Readings of the machine itself: memory, processors, the disk under the home, our processes."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Host", "OurProcess", "our_processes", "read_host"]

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Host:
    """One reading. Bytes, percent (0-100 over all processors); None where it is not told."""

    memory_total: int
    memory_used: int
    cpu_percent: float
    """Since the reading before; 0.0 at the first one of a process."""
    cpu_count: int
    """Processors that this process may use."""
    load: float | None
    """Mean length of the run queue over the last minute."""
    disk_path: str
    disk_total: int | None
    disk_free: int | None
    """What an ordinary user can still write."""
    limited: bool
    """True when the memory is a container's limit, not the machine's."""


@dataclass(frozen=True)
class OurProcess:
    """A worker, supervisor or playground of tunebench, as the process table has it."""

    pid: int
    kind: str
    """worker, supervisor, playground, or child (a rank or data loader of one of them)."""
    run: str
    """Id of its run; empty for a playground."""
    memory: int
    """Resident bytes."""


def read_host(folder: str | os.PathLike[str] = ".") -> Host:
    """Read the host now, with the disk that holds ``folder``. Never raises; a few ms."""
    memory = psutil.virtual_memory()
    total, used = memory.total, memory.total - memory.available
    limit, held = _cgroup_memory()
    limited = limit is not None and limit < total
    if limit is not None and limited:
        total, used = limit, min(held or 0, limit)
    load = None
    with contextlib.suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
    disk_total = disk_free = None
    path = _nearest(Path(folder))
    with contextlib.suppress(OSError):
        disk = psutil.disk_usage(str(path))
        disk_total, disk_free = disk.total, disk.free
    return Host(
        memory_total=total,
        memory_used=used,
        cpu_percent=psutil.cpu_percent(None),
        cpu_count=_processors(),
        load=load,
        disk_path=str(path),
        disk_total=disk_total,
        disk_free=disk_free,
        limited=limited,
    )


def our_processes() -> list[OurProcess]:
    """Every process of ours on this machine, whoever's terminal it came from. Never raises.

    Read from command lines, so that it also finds what no history knows; 1-2 ms a 100 processes.
    """
    found: dict[int, OurProcess] = {}
    owners: list[tuple[psutil.Process, str]] = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        kind, run = _kind(words)
        if kind:
            _add(found, process, kind, run)
            owners.append((process, run))
    for owner, run in owners:
        with contextlib.suppress(psutil.Error):
            for child in owner.children(recursive=True):
                if child.pid not in found:
                    _add(found, child, "child", run)
    return sorted(found.values(), key=lambda process: process.pid)


_MODULES = {
    "engine.jobs.worker": "worker",
    "engine.jobs.supervisor": "supervisor",
    "engine.generate.server": "playground",
}


def _kind(words: list[str]) -> tuple[str, str]:
    """What a command line ``python ... -m MODULE RUN_DIR`` says it is."""
    for index, word in enumerate(words[:-1]):
        if word == "-m" and (kind := _MODULES.get(words[index + 1])):
            rest = [each for each in words[index + 2 :] if not each.startswith("-")]
            run = Path(rest[0]).name if rest and kind != "playground" else ""
            return kind, run
    return "", ""


def _add(found: dict[int, OurProcess], process: psutil.Process, kind: str, run: str) -> None:
    with contextlib.suppress(psutil.Error):
        found[process.pid] = OurProcess(process.pid, kind, run, process.memory_info().rss)


def _nearest(path: Path) -> Path:
    """``path`` or its closest parent that exists."""
    path = Path(os.path.abspath(path))
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def _cgroup_memory() -> tuple[int | None, int | None]:
    """Limit and use of this container's memory (cgroup 2, else 1); None where there is none.

    The page cache that the kernel can drop at once is taken off the use.
    """
    for limit_file, use_file, stat_key in (
        (CGROUP / "memory.max", CGROUP / "memory.current", "inactive_file"),
        (
            CGROUP / "memory/memory.limit_in_bytes",
            CGROUP / "memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):
            limit = int(limit_file.read_text())
            used = int(use_file.read_text())
            for line in (limit_file.parent / "memory.stat").read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == stat_key:
                    used -= int(value)
            return limit, max(used, 0)
    return None, None
