"""Whether the kernel killed a process for want of memory: the counters that it keeps of that.

A process that was killed learns nothing of it, and its SIGKILL looks like anybody's; but the
``oom_kill`` counter of its cgroup (version 2: memory.events, 1: memory.oom_control) goes up, and
the machine's in /proc/vmstat.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["OomKills", "read_oom_kills"]

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class OomKills:
    """Counters at one moment; None: cannot be read."""

    cgroup: int | None
    """Processes of this cgroup killed so far, whoever's limit it was."""
    machine: int | None

    def since(self, before: "OomKills") -> bool | None:
        """Whether the kernel killed between ``before`` and now; None: cannot be known.

        The cgroup's counter decides where there is one: the machine's may be about others.
        """
        if self.cgroup is not None and before.cgroup is not None:
            return self.cgroup > before.cgroup
        if self.machine is not None and before.machine is not None:
            return self.machine > before.machine
        return None


def read_oom_kills(pid: int | str = "self", proc: Path = PROC, cgroups: Path = CGROUPS) -> OomKills:
    """The counters for the cgroup of ``pid`` and for the machine. Never raises."""
    return OomKills(_cgroup(pid, proc, cgroups), _counter(proc / "vmstat"))


def _cgroup(pid: int | str, proc: Path, cgroups: Path) -> int | None:
    try:
        lines = (proc / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        inside = path.lstrip("/")
        if "memory" in controllers.split(","):
            places = [cgroups / "memory" / inside, cgroups / "memory"]
            name = "memory.oom_control"
        elif not controllers:
            places = [cgroups / inside, cgroups / "unified" / inside, cgroups]
            name = "memory.events"
        else:
            continue
        # In a container the path is the host's, while the container's own is mounted at the top.
        for place in places:
            if (found := _counter(place / name)) is not None:
                return found
    return None


def _counter(file: Path) -> int | None:
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        pass
    return None
