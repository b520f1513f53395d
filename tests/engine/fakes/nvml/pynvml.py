"""Stands in for pynvml in tests and the processes that they start: cards as a JSON file says.

``$TUNEBENCH_TEST_CARDS`` names it, a list of {"uuid", "used", "processes": [[pid, bytes]],
"parts"}, read anew at every question.
"""

import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

Memory = namedtuple("Memory", "total used free")
Process = namedtuple("Process", "pid usedGpuMemory")
TOTAL = 80 << 30


def _cards() -> list[dict[str, Any]]:
    cards: list[dict[str, Any]] = json.loads(Path(os.environ["TUNEBENCH_TEST_CARDS"]).read_text())
    return cards


def nvmlInit() -> None: ...


def nvmlSystemGetDriverVersion() -> str:
    return "570.1"


def nvmlDeviceGetCount() -> int:
    return len(_cards())


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    return _cards()[index]


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:
    return str(handle["uuid"])


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any]) -> Memory:
    used = handle.get("used", 0)
    return Memory(TOTAL, used, TOTAL - used)


def nvmlDeviceGetComputeRunningProcesses(handle: dict[str, Any]) -> list[Process]:
    return [Process(*each) for each in handle.get("processes", [])]


def nvmlSystemGetProcessName(pid: int) -> str:
    return "/usr/bin/python3 train.py"


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> list[int]:
    return [int("parts" in handle)] * 2


def nvmlDeviceGetMaxMigDeviceCount(handle: dict[str, Any]) -> int:
    return len(handle["parts"]) + 2


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict[str, Any], index: int) -> dict[str, Any]:
    part: dict[str, Any] = handle["parts"][index]
    return part
