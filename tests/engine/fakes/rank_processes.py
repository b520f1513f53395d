"""Finds the processes of a run in several, by what they were started with."""

import os
from pathlib import Path

from engine.jobs import launch
from engine.jobs.folder import RunFolder
from engine.jobs.ranks import RankFiles
from tests.engine.fakes import runs

LISTENING = "0A"


def of_run(folder: RunFolder) -> list[int]:
    """Living processes that were started for this run."""
    return [pid for pid, words in _commands() if str(folder.path).encode() in words]


def pid_of(folder: RunFolder, which: str) -> int:
    """Of "supervisor", "lead", "launcher", "rank 0", "rank 1"."""
    if which.startswith("rank"):
        process = RankFiles(folder).process(int(which[-1]))
        assert process
        return process[0]
    module = {"lead": b"lead\0", "supervisor": b"supervisor\0", "launcher": b"launcher\0"}[which]
    if which == "lead":
        return runs.worker_pid(folder)
    (pid,) = (p for p, words in _commands() if module in words and p in of_run(folder))
    return pid


def ended(folder: RunFolder, seconds: float) -> None:
    """The run has ended, and nothing of it is left."""
    runs.wait(lambda: not launch.is_alive(folder), "the end", seconds)
    runs.wait(lambda: not of_run(folder), "the end of all processes", 5)


def open_to_the_network(pids: list[int]) -> list[str]:
    """Sockets of these processes that listen on more than the loopback interface."""
    sockets = set()
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                sockets.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            fields = line.split()
            local = fields[1].split(":")[0]
            loopback = local.endswith("0100007F") or local == "0" * 24 + "01000000"
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets and not loopback:
                found.append(fields[1])
    return found


def _commands() -> list[tuple[int, bytes]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.append((int(name), Path(f"/proc/{name}/cmdline").read_bytes()))
            except OSError:
                continue
    return found
