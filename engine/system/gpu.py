"""What NVIDIA's management library says about the GPUs: readings only, and never an exception.

No driver and no GPU are normal states, told in one sentence. A single reading that a card does not
give (a MIG parent has no utilisation, a container hides processes) is None and spoils no other.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

from engine.system.gpu_health import GpuHealth, read_health

__all__ = ["Gpu", "GpuProcess", "GpuState", "ask_driver", "read_gpus"]

T = TypeVar("T")


@dataclass(frozen=True)
class GpuProcess:
    """One process that holds GPU memory."""

    pid: int
    name: str
    """The program's name (outside text); empty when it is not told."""
    memory: int | None
    """Bytes; None where the driver does not say (inside some containers)."""


@dataclass(frozen=True)
class Gpu:
    """One card, one reading. Memory in bytes, utilisation in percent, power in watts, °C."""

    index: int
    uuid: str
    name: str
    memory_total: int | None = None
    memory_used: int | None = None
    memory_free: int | None = None
    utilisation: int | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    processes: tuple[GpuProcess, ...] | None = ()
    """None where the driver does not tell; empty when nothing runs there."""
    parts: tuple["Gpu", ...] = ()
    """The MIG devices that the card is cut into; programs see them instead of the card."""
    mig: bool = False
    """The card can be cut up: without parts no program can use it."""
    capability: tuple[int, int] | None = None
    """CUDA compute capability, e.g. (9, 0)."""
    health: GpuHealth | None = None
    """Where it was asked for."""


@dataclass(frozen=True)
class GpuState:
    """The GPUs of this machine, or one sentence that says why there are none to read.

    Iterates over its GPUs; false when there are none.
    """

    available: bool
    reason: str = ""
    gpus: tuple[Gpu, ...] = field(default=())
    driver: str | None = None
    lost: tuple[int, ...] = ()
    """Numbers of cards that the driver counts and that do not answer."""

    def __iter__(self) -> Iterator[Gpu]:
        return iter(self.gpus)

    def __len__(self) -> int:
        return len(self.gpus)


_lock = threading.Lock()
_started = False
"""Whether NVML is initialised: once a process, 20-60 ms with a driver; a reading is about 1 ms."""

_SENTENCES = {
    "NVMLError_LibraryNotFound": "No NVIDIA driver on this machine: runs train on the CPU.",
    "NVMLError_DriverNotLoaded": "The NVIDIA driver is installed, but its kernel module is not "
    "loaded: try nvidia-smi, or restart the machine.",
    "NVMLError_LibRmVersionMismatch": "The NVIDIA driver was updated while it was running: "
    "restart the machine to use its GPUs.",
    "NVMLError_NoPermission": "This user may not read the NVIDIA driver: ask the administrator "
    "for access to /dev/nvidia*.",
    "NVMLError_GpuIsLost": "A GPU has fallen off the bus: see nvidia-smi and dmesg.",
}


def read_gpus(*, health: bool = False) -> GpuState:
    """Read all GPUs now. Blocks for a few milliseconds; safe from any thread; never raises.

    ``health``: also what holds each card back, about 45 ms a card.
    """
    try:
        import pynvml
    except Exception:
        return GpuState(False, "GPU readings need nvidia-ml-py: pip install nvidia-ml-py")
    with _lock:
        try:
            return _read(pynvml, health)
        except Exception as error:
            _shut_down(pynvml)
            return GpuState(False, _sentence(error))


def ask_driver(ask: Callable[[ModuleType], T]) -> T | None:
    """What ``ask`` makes of NVML, one thread at a time; None where there is no driver or it fails.

    A failure of ``ask`` is its own: the next reading goes on with the same driver.
    """
    try:
        import pynvml
    except Exception:
        return None
    with _lock:
        try:
            _start(pynvml)
            return ask(pynvml)
        except Exception:
            return None


def _start(nvml: ModuleType) -> None:
    global _started
    if not _started:
        nvml.nvmlInit()
        _started = True


def _read(nvml: ModuleType, health: bool) -> GpuState:
    _start(nvml)
    driver = _or_none(lambda: _text(nvml.nvmlSystemGetDriverVersion()))
    count = nvml.nvmlDeviceGetCount()
    if not count:
        words = f"The NVIDIA driver {driver or ''} runs, but sees no GPU.".replace("  ", " ")
        return GpuState(False, words, driver=driver)
    gpus = tuple(gpu for index in range(count) if (gpu := _read_one(nvml, index, health)))
    lost = tuple(sorted(set(range(count)) - {gpu.index for gpu in gpus}))
    if not gpus:
        return GpuState(False, _SENTENCES["NVMLError_GpuIsLost"], driver=driver, lost=lost)
    return GpuState(True, gpus=gpus, driver=driver, lost=lost)


def _read_one(nvml: ModuleType, index: int, health: bool) -> Gpu | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except Exception:
        return None  # one lost card does not hide the others
    found = _read_device(nvml, handle, index)
    if _or_none(lambda: nvml.nvmlDeviceGetMigMode(handle)[0]):
        found = replace(found, mig=True, parts=_parts(nvml, handle))
    return replace(found, health=read_health(nvml, handle, found.uuid)) if health else found


def _parts(nvml: ModuleType, handle: Any) -> tuple[Gpu, ...]:
    found = []
    for index in range(_or_none(lambda: int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))) or 0):
        with contextlib.suppress(Exception):  # places without a device are errors
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            found.append(_read_device(nvml, part, index))
    return tuple(found)


def _read_device(nvml: ModuleType, handle: Any, index: int) -> Gpu:
    memory = _memory(nvml, handle)
    rates = _or_none(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power = _or_none(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit = _or_none(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    celsius = getattr(nvml, "NVML_TEMPERATURE_GPU", 0)
    return Gpu(
        index=index,
        uuid=_or_none(lambda: _text(nvml.nvmlDeviceGetUUID(handle))) or f"GPU-{index}",
        name=_or_none(lambda: _text(nvml.nvmlDeviceGetName(handle))) or "NVIDIA GPU",
        memory_total=memory and int(memory.total),
        memory_used=memory and int(memory.used),
        memory_free=memory and int(memory.free),
        utilisation=rates and int(rates.gpu),
        temperature=_or_none(lambda: int(nvml.nvmlDeviceGetTemperature(handle, celsius))),
        power=power if power is None else power / 1000,
        power_limit=limit if limit is None else limit / 1000,
        processes=_processes(nvml, handle),
        capability=_or_none(lambda: _pair(nvml.nvmlDeviceGetCudaComputeCapability(handle))),
    )


def _pair(value: Any) -> tuple[int, int]:
    major, minor = value
    return int(major), int(minor)


def _memory(nvml: ModuleType, handle: Any) -> Any:
    """Version 2 counts as nvidia-smi does; version 1 adds what the driver reserves to "used"."""
    version = getattr(nvml, "nvmlMemory_v2", None)
    if version is not None:
        found = _or_none(lambda: nvml.nvmlDeviceGetMemoryInfo(handle, version))
        if found is not None:
            return found
    return _or_none(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))


def _processes(nvml: ModuleType, handle: Any) -> tuple[GpuProcess, ...] | None:
    listed: dict[int, int | None] = {}
    told = False
    for question in (
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses",
    ):
        try:
            entries = getattr(nvml, question)(handle)
        except Exception:
            continue
        told = True
        for entry in entries:
            memory = entry.usedGpuMemory
            listed[entry.pid] = max(memory or 0, listed.get(entry.pid) or 0) or None
    if not told:
        return None
    found = [GpuProcess(pid, _name(nvml, pid), memory) for pid, memory in listed.items()]
    return tuple(sorted(found, key=lambda process: (-(process.memory or 0), process.pid)))


def _name(nvml: ModuleType, pid: int) -> str:
    name = _or_none(lambda: _text(nvml.nvmlSystemGetProcessName(pid)))
    if name and "not found" not in name.lower():
        return name.split("\0")[0].rsplit("/", 1)[-1].split(" ")[0]
    import psutil

    return _or_none(lambda: psutil.Process(pid).name()) or ""


def _text(value: Any) -> str:
    """Older bindings return bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception:
        return None


def _sentence(error: Exception) -> str:
    known = _SENTENCES.get(type(error).__name__)
    return known or f"The NVIDIA driver does not answer: {error or type(error).__name__}."


def _shut_down(nvml: ModuleType) -> None:
    """After a failure the next reading starts anew: a driver may come back."""
    global _started
    if _started:
        with contextlib.suppress(Exception):
            nvml.nvmlShutdown()
    _started = False
