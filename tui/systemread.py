"""What the System screen reads of the machine, in a thread."""

from dataclasses import dataclass

from engine.home import Home
from engine.jobs.leases import run_on
from engine.system.doctor import Check, checks
from engine.system.gpu import GpuState, read_gpus
from engine.system.gpu_events import GpuEvent, logged_events, poll_events
from engine.system.host import Host, OurProcess, our_processes, read_host
from engine.system.versions import python_version, read_versions

__all__ = ["Installation", "Readings", "read_installation", "read_now"]


@dataclass(frozen=True)
class Readings:
    """What changes by the second."""

    gpus: GpuState
    host: Host
    processes: tuple[OurProcess, ...]
    events: tuple[GpuEvent, ...] = ()
    """What went wrong with the GPUs since the reading before."""
    leased: tuple[tuple[str, str], ...] = ()
    """(UUID, run) of the GPUs that runs of this home took last."""


@dataclass(frozen=True)
class Installation:
    """What changes only when somebody installs something."""

    python: str
    versions: dict[str, str | None]
    checks: tuple[Check, ...]
    events: tuple[GpuEvent, ...] = ()
    """What the kernel's log has of the GPUs."""


def read_now(home: Home) -> Readings:
    """10-30 ms, and 45 for every GPU; called in a thread."""
    gpus = read_gpus(health=True)
    devices = [one.uuid for gpu in gpus for one in (gpu, *gpu.parts)]
    return Readings(
        gpus,
        read_host(home.path),
        tuple(our_processes()),
        tuple(poll_events()) if gpus.available else (),
        tuple((uuid, run) for uuid in devices if (run := run_on(home, uuid))),
    )


def read_installation(home: Home, gpus: GpuState) -> Installation:
    """About 0.1 s, and what the kernel's log takes where there is a driver; called in a thread."""
    found = tuple(checks(home, gpus))
    return Installation(python_version(), read_versions(), found, tuple(logged_events()))
