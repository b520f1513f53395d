"""System: GPUs, host, our processes, versions, what the doctor finds, and the last bench."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engine.history.benches import of_device
from engine.home import Home
from engine.system.doctor import Check, checks
from engine.system.forecast import DiskForecast
from engine.system.gpu import GpuState, read_gpus
from engine.system.host import Host, OurProcess, our_processes, read_host
from engine.system.versions import python_version, read_versions
from tui import keymap
from tui.benchlines import bench_day, bench_lines, bench_title
from tui.feed import Snapshot
from tui.screens.base import WorkbenchScreen
from tui.widgets.lines import QUIET, LinesView, Run
from tui.widgets.readings import (
    doctor_lines,
    gpu_lines,
    host_lines,
    process_lines,
    version_lines,
)

__all__ = ["Installation", "Readings", "SystemScreen", "read_installation", "read_now"]

REFRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Readings:
    """What changes by the second."""

    gpus: GpuState
    host: Host
    processes: tuple[OurProcess, ...]


@dataclass(frozen=True)
class Installation:
    """What changes only when somebody installs something."""

    python: str
    versions: dict[str, str | None]
    checks: tuple[Check, ...]


def read_now(home: Home) -> Readings:
    """10-30 ms, and 45 for every GPU; called in a thread."""
    return Readings(read_gpus(health=True), read_host(home.path), tuple(our_processes()))


def read_installation(home: Home, gpus: GpuState) -> Installation:
    """About 0.1 s; called in a thread."""
    return Installation(python_version(), read_versions(), tuple(checks(home, gpus)))


class SystemScreen(WorkbenchScreen):
    SCREEN = "system"
    BINDINGS = keymap.bindings("system")
    DEFAULT_CSS = """
    SystemScreen #gpus { height: auto; min-height: 3; max-height: 50%; }
    SystemScreen #now { height: 6; }
    SystemScreen #installed { height: 1fr; }
    SystemScreen #host, SystemScreen #versions { width: 2fr; }
    SystemScreen #ours, SystemScreen #found { width: 3fr; }
    SystemScreen #doctor { min-height: 3; }
    SystemScreen #bench { height: 3; min-height: 2; max-height: 50%; }
    SystemScreen.-tall #now { height: 8; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, str] = {}
        self._benches: list[dict[str, Any]] = []
        self._readings: Readings | None = None
        self._installation: Installation | None = None
        self._disk = DiskForecast()
        self._reading = False
        self._shown: dict[str, object] = {}

    def compose_body(self) -> ComposeResult:
        yield _pane("gpus", "GPUs")
        with Horizontal(id="now"):
            yield _pane("host", "This machine")
            yield _pane("ours", "Runs and workers")
        with Horizontal(id="installed"):
            yield _pane("versions", "Versions")
            with Vertical(id="found"):
                yield _pane("doctor", "Doctor")
                yield _pane("bench", "Last bench")

    def on_mount(self) -> None:
        for id in ("gpus", "host", "ours", "versions", "doctor", "bench"):
            self.query_one(f"#{id}", LinesView).show([("reading …", QUIET)])
        self._timer = self.set_interval(REFRESH_SECONDS, self._tick, pause=True)

    def on_screen_resume(self) -> None:
        self._timer.resume()
        self._refresh()
        if self.focused is None:
            self.set_focus(self.query_one("#doctor"))

    def on_screen_suspend(self) -> None:
        self._timer.pause()

    def action_reload(self) -> None:
        self._installation = None
        self._refresh()

    # --- reading

    def _tick(self) -> None:
        if self.workbench.link.due("system"):
            self._refresh()

    def _refresh(self) -> None:
        if not self._reading:
            self._reading = True
            self.run_worker(self._read, group="readings", exit_on_error=False)

    async def _read(self) -> None:
        home = self.workbench.home
        try:
            self._readings = await asyncio.to_thread(read_now, home)
            if (free := self._readings.host.disk_free) is not None:
                self._disk.add(time.monotonic(), free)
            self._draw()
            if self._installation is None:
                self._installation = await asyncio.to_thread(
                    read_installation, home, self._readings.gpus
                )
                self._draw()
        finally:
            self._reading = False

    def show_snapshot(self, snapshot: Snapshot) -> None:
        self._names = {row.id: row.name for row in snapshot.rows}
        self._benches = snapshot.benches
        self._draw()

    # --- drawing

    def _draw(self) -> None:
        if (now := self._readings) is not None:
            ours = {process.pid: process for process in now.processes}
            self._put("gpus", gpu_lines(now.gpus, ours, self._names))
            full_in = self._disk.full_in(now.host.disk_total) if now.host.disk_total else None
            self._put("host", host_lines(now.host, full_in))
            self._put_processes(now.processes, dict(self._names))
            self._put_bench({gpu.name for gpu in now.gpus})
        if (installed := self._installation) is not None:
            self._put("versions", version_lines(installed.python, installed.versions))
            found = installed.checks
            if self._shown.get("doctor") != found:
                self._shown["doctor"] = found
                pane = self.query_one("#doctor", LinesView)
                pane.show_layout(lambda width: doctor_lines(found, width))
                problems = sum(not check.ok for check in found)
                words = f"{problems} problem{'s' * (problems != 1)}" if problems else "all well"
                pane.border_subtitle = words

    def _put_processes(self, processes: tuple[OurProcess, ...], names: dict[str, str]) -> None:
        told = {process.run: names.get(process.run) for process in processes}
        if self._shown.get("ours") != (processes, told):
            self._shown["ours"] = (processes, told)
            pane = self.query_one("#ours", LinesView)
            pane.show_layout(lambda width: process_lines(processes, names, width))

    def _put_bench(self, gpus: set[str]) -> None:
        bench = of_device(self._benches, gpus)
        if self._shown.get("bench") != (bench, gpus):
            self._shown["bench"] = (bench, gpus)
            pane = self.query_one("#bench", LinesView)
            pane.show_layout(lambda width: bench_lines(bench, gpus, width))
            pane.border_title = Text(bench_title(bench))
            pane.border_subtitle = bench_day(bench)
            pane.styles.height = 2 + len(bench_lines(bench, gpus, 1000))

    def _put(self, id: str, runs: list[Run]) -> None:
        """Nothing is repainted when nothing changed."""
        if self._shown.get(id) != runs:
            self._shown[id] = runs
            pane = self.query_one(f"#{id}", LinesView)
            pane.show(runs)
            if id == "gpus":
                pane.styles.height = 2 + sum(text.count("\n") for text, _ in runs) + 1


def _pane(id: str, title: str) -> LinesView:
    pane = LinesView(id=id, classes="pane")
    pane.border_title = title
    return pane
