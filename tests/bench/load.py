"""What the workbench costs beside two live runs, 1,000 finished ones and a log of gigabytes.

    python -m tests.bench.load [--home HOME] [--log-gb 5] [--runs 1000] [--seconds 60] [--keys 1000]
        [--low-bandwidth] [--screens train,runs,system]

Two writers without torch hold the locks of their runs and append 20 journal lines and 20 lines of
log a second each; the first one's log has the size asked for (real lines; kept in HOME and used
again). The real program runs in a pty at 120x40: for each screen its share of a core, its memory,
what it writes to the pty, and the time from a key to its effect on the screen.
"""

import argparse
import contextlib
import fcntl
import json
import os
import random
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.history.ingest import ingest_all
from engine.history.store import open_store
from engine.home import Home, open_home
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe
from tests.bench import homes, logs
from tests.tui.terminal import PtyApp

LINES_A_SECOND = 20
LIVE_STEPS = 5_000
"""What a live run has done when the workbench opens."""
WHOLE = 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")

FOCUSED = "\u250f".encode()
"""A pane with the focus has a heavy border."""
MARK = "\u203a".encode()
KEYS = {
    "train": ("2", [("L", rb"\(log\)"), ("L", rb" loss [ a-z0-9.]*(\x1b\[[0-9;]*m)*\xe2")]),
    "runs": ("3", [("j", MARK), ("j", MARK), ("k", MARK)]),
    "system": ("5", [("\t", FOCUSED)]),
    "screens": ("2", [("3", rb"3 Runs\]"), ("5", rb"5 System\]"), ("2", rb"2 Train\]")]),
    "help": ("3", [("?", rb"type to search"), ("\x03", rb"3 Runs\]")]),
}
"""Name -> (key of the screen, keys in turn and how one knows their effect)."""


# --- the home


def make_home(path: Path, runs: int, steps: int, gigabytes: float) -> Home:
    """Finished runs, ingested, and two that live; what is there already is used again."""
    home = open_home(path)
    recipe = load_recipe("demo").to_toml().encode()
    if not (path / "made").exists():
        homes.write_runs(home, runs, steps)
        (path / "made").write_text(f"{runs} {steps}")
    assert (path / "made").read_text() == f"{runs} {steps}", f"{path} holds other runs: remove it"
    live = homes.as_bytes(homes.journal(LIVE_STEPS, 99, None, WHOLE))
    for number in (runs, runs + 1):
        folder = live_run(home, number)
        if folder.path.exists():
            folder.journal.write_bytes(live)
        else:
            homes.write_run(home, number, live, recipe)
    log = live_run(home, runs).log
    if log.stat().st_size < gigabytes * 1e9:
        logs.write(log, int(gigabytes * 1e9))
    store = open_store(home)
    ingest_all(home, store, live=False)
    store.close()
    return home


def live_run(home: Home, number: int) -> RunFolder:
    return RunFolder(home.runs / f"20251122-{number:06d}-run")


def write_on(folder: RunFolder) -> None:
    """Append to journal and log as a worker does, until this process is ended."""
    held = []
    for path in (folder.lock, folder.supervisor_lock):
        held.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
    chance, step, due = random.Random(1), LIVE_STEPS, time.monotonic()
    with folder.journal.open("a") as journal, folder.log.open("a") as log:
        while True:
            step += 1
            now = time.time()
            found = [homes.metrics(step, WHOLE, now, chance)]
            if step % homes.MEMORY == 0:
                found.append(homes.memory(now, chance))
            journal.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in found)
            journal.flush()
            told = {"loss": round(found[0]["loss"], 4), "learning_rate": 3e-4, "step": step}
            log.write(f"{told}\n")
            log.flush()
            due += 1 / LINES_A_SECOND
            time.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def writers(home: Home, runs: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.load", "--write"]
    folders = [str(live_run(home, number).path) for number in (runs, runs + 1)]
    started = [subprocess.Popen([*command, folder]) for folder in folders]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


# --- the workbench in its pty


class Meter(PtyApp):
    """Reads all the time, counts, and keeps only the last of it."""

    count = 0

    def read_once(self, seconds: float) -> bytes:
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return b""
        data = os.read(self._fd, 1 << 16)
        self.count += len(data)
        if b"\x1b[?2026$p" in data:  # as terminals answer that draw whole frames at once
            os.write(self._fd, b"\x1b[?2026;2$y")
        return data

    def read_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.read_once(left)

    def see(self, pattern: bytes, seconds: float = 20.0) -> float:
        """Read until ``pattern``, and the frame around it; returns when that was."""
        until, data = time.monotonic() + seconds, b""
        while not (found := re.search(pattern, data)) or b"\x1b[?2026l" not in data[found.end() :]:
            assert time.monotonic() < until, f"{pattern!r} was not seen in {data[-2000:]!r}"
            data += self.read_once(0.5)
        return time.monotonic()

    def cpu(self) -> float:
        """CPU seconds so far."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS

    def spent(self) -> float:
        """CPU seconds of the threads that live, finer than :meth:`cpu`: not slowed by others."""
        total = 0
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> float:
        """Resident megabytes, now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024


def measure(app: Meter, name: str, seconds: float, keys: int) -> str:
    key, turn = KEYS[name]
    app.press(key)
    app.read_for(3.0)
    busy = "", ""
    if seconds:
        began, cpu, count = time.monotonic(), app.cpu(), app.count
        app.read_for(seconds)
        took = time.monotonic() - began
        share = 100 * (app.cpu() - cpu) / took
        busy = f"{share:.1f} %", f"{(app.count - count) / took / 1024:.1f}"
    chance, times, spent = random.Random(7), [], []
    for number in range(keys):
        app.read_for(chance.uniform(0.05, 0.15))
        key, effect = turn[number % len(turn)]
        pressed, before = time.monotonic(), app.spent()
        app.press(key)
        times.append(1000 * (app.see(effect) - pressed))
        spent.append(1000 * (app.spent() - before))
    told = ["", "", "", "", ""]
    if times:
        told = [f"{quantile(times, share):.0f}" for share in (0.5, 0.99, 1.0)]
        told += [f"{quantile(spent, share):.0f}" for share in (0.5, 0.99)]
    load = os.getloadavg()[0]
    cells = (name, *busy, f"{app.memory():.0f}", str(len(times) or ""), *told, f"{load:.1f}")
    return "| " + " | ".join(cells) + " |"


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


HEAD = """\
| screen | CPU | KiB/s | MB | keys | median ms | 99th | longest | CPU ms a key | 99th | load |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--log-gb", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--screens", default=",".join(KEYS))
    parser.add_argument("--low-bandwidth", action="store_true")
    parser.add_argument("--write", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.write is not None:
        write_on(RunFolder(options.write))
    with contextlib.ExitStack() as stack:
        path = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = make_home(path, options.runs, options.steps, options.log_gb)
        size = live_run(home, options.runs).log.stat().st_size
        stack.enter_context(writers(home, options.runs))
        words = ("--low-bandwidth",) if options.low_bandwidth else ()
        app = stack.enter_context(Meter(home.path, 120, 40, *words))
        app.see(rb"2 Train\]")
        app.read_for(5.0)
        print(f"{options.runs} finished runs, a log of {size / 1e9:.2f} GB\n{HEAD}", flush=True)
        names = options.screens.split(",")
        for name in names:
            seconds = options.seconds if name in ("train", "runs", "system") else 0.0
            print(measure(app, name, seconds, options.keys // len(names)), flush=True)


if __name__ == "__main__":
    main()
