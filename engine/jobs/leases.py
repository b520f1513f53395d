"""Which devices a run may use, and who has them: one file lock a GPU, or one for the CPU.

A lease is an open file description on ``queue/leases/<UUID>`` (``cpu`` where there is no GPU),
inherited by the run's supervisor and worker: the kernel frees it however they die. What is written
in the file only names the holder.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UsageError, UserError
from engine.home import Home
from engine.jobs.lock import acquire, is_held
from engine.system.gpu import Gpu, read_gpus

__all__ = [
    "CPU",
    "Device",
    "Leases",
    "Wait",
    "devices",
    "look",
    "run_on",
    "take",
    "visible_here",
    "wanted",
]

CPU = "cpu"
VISIBLE = "CUDA_VISIBLE_DEVICES"
FREE_BYTES = 1 << 30
"""Memory in use on a GPU that counts as nobody's: a desktop and the driver itself take some."""


@dataclass(frozen=True)
class Device:
    """A GPU, or a MIG device of one."""

    uuid: str
    words: str
    """ "GPU 0", "GPU 0 part 1"."""
    part: bool = False
    used: str = ""
    """Who uses it without a lease: "process 1234 python (12.0 GiB)"; empty: nobody."""


@dataclass(frozen=True)
class Wait:
    """Why a run cannot have its devices now."""

    reason: str
    foreign: bool = False
    """Nobody will say when that changes: it is up to processes that are no runs of this home."""


@dataclass
class Leases:
    """The devices of one run. The file descriptors are held until :meth:`close`."""

    words: str
    visible: str | None
    """The run's CUDA_VISIBLE_DEVICES; None: not set."""
    fds: list[int] = field(default_factory=list)

    def mark(self, run: str, name: str) -> None:
        """Write into the leases who has them, for people."""
        data = json.dumps({"run": run, "name": name}).encode()
        for fd in self.fds:
            with suppress(OSError):  # the lock counts, not the words
                os.ftruncate(fd, 0)
                os.pwrite(fd, data, 0)

    def apply(self, environment: dict[str, str]) -> None:
        """Let the process with this environment see these devices only."""
        environment.pop(VISIBLE, None)
        if self.visible is not None:
            environment[VISIBLE] = self.visible

    def __enter__(self) -> "Leases":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up this process's hold; supervisor and worker keep theirs."""
        while self.fds:
            os.close(self.fds.pop())


def visible_here() -> str | None:
    """CUDA_VISIBLE_DEVICES of this process; None: not set, every GPU may be used."""
    return os.environ.get(VISIBLE)


def devices(visible: str | None) -> list[Device]:
    """The GPUs that a process with this CUDA_VISIBLE_DEVICES sees, in its order.

    Numbers count as ``nvidia-smi`` does. Like CUDA, it stops at the first word that is no device.
    """
    cards = list(read_gpus())
    there = [device for card in cards for device in _of(card)]
    if visible is None:
        return there
    found: list[Device] = []
    for word in visible.split(","):
        word = word.strip()
        if word.isdigit():
            fits = [device for card in cards if card.index == int(word) for device in _of(card)[:1]]
        else:
            fits = [device for device in there if word and device.uuid.startswith(word)]
        if len(fits) != 1 or fits[0] in found:
            break
        found.append(fits[0])
    return found


def _of(card: Gpu) -> list[Device]:
    if not card.parts:
        return [Device(card.uuid, f"GPU {card.index}", used=_used(card))]
    return [
        Device(part.uuid, f"GPU {card.index} part {part.index}", part=True, used=_used(part))
        for part in card.parts
    ]


def _used(gpu: Gpu) -> str:
    """Who has more than :data:`FREE_BYTES` there; the driver may not know the processes."""
    processes = gpu.processes or ()
    known = [process.memory for process in processes if process.memory is not None]
    if gpu.memory_used is not None:
        used = gpu.memory_used
    elif len(known) == len(processes):
        used = sum(known)
    else:
        used = None
    if used is not None and used <= FREE_BYTES:
        return ""
    if not processes:
        return f"somebody ({_size(used)})"
    first = processes[0]
    memory = first.memory or used
    others = f" and {len(processes) - 1} more" if len(processes) > 1 else ""
    size = f" ({_size(memory)})" if memory else ""
    return " ".join(f"process {first.pid} {first.name}".split()) + size + others


def _size(count: int | None) -> str:
    return f"{(count or 0) / 2**30:.1f} GiB"


def wanted(device: str, processes: int, visible: str | None) -> int:
    """How many GPUs a run takes (0: the CPU), by model.device and train.num_processes.

    Raises UsageError when there are fewer than that.
    """
    there = [] if device == "cpu" else devices(visible)
    if not there:
        return 0
    fit = _fitting(there, processes)
    if processes > len(fit):
        limit = f" ({VISIBLE}={visible})" if visible is not None else ""
        raise UsageError(
            f"train.num_processes: the run wants {processes} GPUs, there are {len(fit)}{limit}"
        )
    return processes


def _fitting(there: list[Device], count: int) -> list[Device]:
    """A process sees one MIG device at most, and several do not train together."""
    return [device for device in there if count <= 1 or not device.part]


def _path(home: Home, uuid: str) -> Path:
    return home.queue / "leases" / uuid.replace("/", "_")


def _holder(path: Path) -> str:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return f"run {known['name']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


def run_on(home: Home, uuid: str) -> str | None:
    """Id of the run of this home that took this GPU last; whether it lives, its state tells.

    The lock is not tried: whoever wants the GPU at that moment would be refused.
    """
    try:
        run = json.loads(_path(home, uuid).read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if isinstance(run, str) else None


def look(home: Home, count: int, visible: str | None, patient: bool = True) -> list[Device] | Wait:
    """``count`` GPUs that a run could have now (none: the CPU), or why it has to wait.

    A ``patient`` run takes no GPU that somebody uses without a lease; an impatient one takes such
    GPUs last, and does not wait for the CPU.
    """
    if count == 0:
        path = _path(home, CPU)
        if patient and is_held(path):
            return Wait(f"the CPU is used by {_holder(path)}")
        return []
    pool = _fitting(devices(visible), count)
    if len(pool) < count:
        state = read_gpus()
        why = f" ({state.reason})" if state.reason else ""
        return Wait(f"it wants {_gpus(count)}, there {_are(len(pool))}{why}", foreign=True)
    free: list[Device] = []
    reasons, foreign = [], False
    for device in pool:
        path = _path(home, device.uuid)
        if is_held(path):
            reasons.append(f"{device.words} is used by {_holder(path)}")
        elif patient and device.used:
            reasons.append(f"{device.words} is used by {device.used}")
            foreign = True
        else:
            free.append(device)
    if len(free) >= count:
        return sorted(free, key=lambda device: bool(device.used))[:count]
    why = "; ".join(reasons)
    if count > 1:
        why = f"it wants {_gpus(count)}, {len(free) or 'none'} of {len(pool)} free: {why}"
    return Wait(why, foreign)


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}"


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count or 'none'}"


def take(home: Home, count: int, visible: str | None) -> Leases | Wait:
    """Leases for a run of the queue; call with the queue's lock held.

    Raises UserError where file locks do not work.
    """
    found = look(home, count, visible)
    if isinstance(found, Wait):
        return found
    leases = _acquire(home, found or [None])
    if isinstance(leases, Wait):
        return leases
    leases.visible = ",".join(device.uuid for device in found) if found else visible
    return leases


def take_now(home: Home, count: int, anyway: bool = False) -> Leases:
    """Leases for a run that somebody starts by hand; call with the queue's lock held.

    On a CPU, and ``anyway``, it goes without the leases that others have. Raises UsageError when
    other runs have the GPUs.
    """
    visible = visible_here()
    found = look(home, count, visible, patient=False)
    leases = found if isinstance(found, Wait) else _acquire(home, found or [None])
    if isinstance(leases, Wait):
        if count == 0:
            return Leases(CPU, visible)
        if not anyway:
            raise UsageError(
                f"{leases.reason}; put the run in the queue with --queue, or start it all the same "
                "with --now"
            )
        pool = _fitting(devices(visible), count)
        chosen = sorted(pool, key=lambda d: is_held(_path(home, d.uuid)))[:count]
        leases, found = Leases(", ".join(device.words for device in chosen), visible), chosen
        for device in chosen:
            if (fd := acquire(_path(home, device.uuid), 0)) is not None:
                leases.fds.append(fd)
    assert not isinstance(found, Wait)
    seen = [device.uuid for device in devices(visible)] if found else []
    chosen_ids = [device.uuid for device in found]
    leases.visible = visible if chosen_ids == seen else ",".join(chosen_ids)
    return leases


def _acquire(home: Home, found: "list[Device] | list[None]") -> Leases | Wait:
    (home.queue / "leases").mkdir(mode=0o700, parents=True, exist_ok=True)
    leases = Leases(", ".join(device.words if device else CPU for device in found), None)
    for device in found:
        try:
            fd = acquire(_path(home, device.uuid if device else CPU))
        except UserError:
            leases.close()
            raise
        if fd is None:
            leases.close()
            return Wait(f"{device.words if device else 'the CPU'} was taken just now")
        leases.fds.append(fd)
    return leases
