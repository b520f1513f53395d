"""Whether a GPU broke: the driver's Xid messages in the kernel's log, and its count of ECC errors.

Best effort, told in words: a kernel log that may not be read, or no driver, is no evidence.
Meaning of the numbers: NVIDIA's "Xid Errors" (docs.nvidia.com/deploy/xid-errors).
"""

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["HARDWARE", "Evidence", "find_xids", "gpu_evidence", "kernel_log", "timed_xids"]

HARDWARE = frozenset({48, 62, 64, 74, 79, 94, 95, 119, 120, 140, 143})
"""Memory errors, NVLink, off the bus, the card's own processor: not a program's doing, as 13, 31
and 43 (illegal accesses) are."""

_XID = re.compile(r"^\[\s*(\d+\.\d+)\].*NVRM: Xid \(([^)]*)\): (\d+)(?:, (.*))?")
SECONDS = 2.0
RECENT_SECONDS = 600.0


@dataclass(frozen=True)
class Evidence:
    broken: bool
    """True only where the hardware or its driver says so."""
    words: str = ""


def find_xids(log: str, since: float) -> list[tuple[int, str]]:
    """(number, words) of the Xid lines of ``dmesg`` from ``since`` (seconds after boot) on."""
    found = []
    for seconds, number, bus, words in timed_xids(log):
        if seconds >= since:
            found.append((number, f"Xid {number} on {bus}: {words}".rstrip(": ")))
    return found


def timed_xids(log: str) -> list[tuple[float, int, str, str]]:
    """(seconds after boot, number, PCI address, the driver's words) of every Xid line."""
    found = []
    for line in log.splitlines():
        if match := _XID.match(line):
            words = " ".join((match[4] or "").split())[:120]
            found.append((float(match[1]), int(match[3]), match[2], words))
    return found


def gpu_evidence() -> Evidence:
    """What the kernel's log of the last ten minutes and NVML tell. Never raises; at most 4 s."""
    if not Path("/proc/driver/nvidia").exists():
        return Evidence(False)
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - RECENT_SECONDS
    xids = find_xids(kernel_log(), since)
    hardware = [words for number, words in xids if number in HARDWARE]
    if hardware:
        return Evidence(True, hardware[-1])
    lost, words = _nvml()
    return Evidence(lost, words or (xids[-1][1] if xids else ""))


def kernel_log() -> str:
    """The kernel's messages since the machine was started; "" where they may not be read."""
    for command in (["dmesg"], ["journalctl", "-k", "-o", "short-monotonic", "--no-pager", "-b"]):
        if not shutil.which(command[0]):
            continue
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            continue
        if done.returncode == 0 and done.stdout:
            return done.stdout
    return ""


def _nvml() -> tuple[bool, str]:
    """Whether a card does not answer any more; else the errors that one could not correct.

    Those are counted since the driver was loaded: a hint, no proof that they ended this run.
    """
    words = ""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        for index in range(nvml.nvmlDeviceGetCount()):
            lost, told = _card(nvml, index)
            if lost:
                return True, told
            words = words or told
    except Exception:
        pass
    return False, words


def _card(nvml: Any, index: int) -> tuple[bool, str]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        errors = nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
    except Exception as error:
        lost = type(error).__name__ in ("NVMLError_GpuIsLost", "NVMLError_ResetRequired")
        return lost, f"GPU {index} is lost" if lost else ""
    return False, f"GPU {index} counted {errors} uncorrectable memory errors" if errors else ""
