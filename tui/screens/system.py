"""System: GPUs, host, our processes, versions, what the doctor finds, and the last bench."""

import asyncio
import time
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from engine.history.benches import of_device
from engine.system.forecast import DiskForecast
from engine.system.gpu import GpuState
from engine.system.host import OurProcess
from tui import keymap
from tui.benchlines import bench_day, bench_lines, bench_title
from tui.feed import Snapshot
from tui.gpushares import Shares, shares_of
from tui.screens.base import WorkbenchScreen
from tui.systemread import Installation, Readings, read_installation, read_now
from tui.widgets.gpuevents import event_lines
from tui.widgets.gpulines import Around, gpu_lines, gpu_title
from tui.widgets.lines import QUIET, LinesView, Run, wrap
from tui.widgets.machinecharts import MachineCharts, choices, chosen_words
from tui.widgets.readings import doctor_lines, host_lines, process_lines, version_lines

__all__ = ["Installation", "Readings", "SystemScreen", "read_installation", "read_now"]

REFRESH_SECONDS = 2.0
VIEWS = ("now", "history", "events")


class SystemScreen(WorkbenchScreen):
    SCREEN = "system"
    BINDINGS = keymap.bindings("system")
    DEFAULT_CSS = """
    SystemScreen #views { height: 1; }
    SystemScreen #page-now, SystemScreen MachineCharts { height: 1fr; }
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
        self._view = "now"
        self._choice = ""
        self._benches: list[dict[str, Any]] = []
        self._readings: Readings | None = None
        self._installation: Installation | None = None
        self._disk = DiskForecast()
        self._reading = False
        self._shown: dict[str, object] = {}

    def compose_body(self) -> ComposeResult:
        yield Static("", id="views", markup=False)
        with Vertical(id="page-now"):
            yield _pane("gpus", "GPUs")
            with Horizontal(id="now"):
                yield _pane("host", "This machine")
                yield _pane("ours", "Runs and workers")
            with Horizontal(id="installed"):
                yield _pane("versions", "Versions")
                with Vertical(id="found"):
                    yield _pane("doctor", "Doctor")
                    yield _pane("bench", "Last bench")
        yield MachineCharts(id="page-history")
        yield _pane("events", "Errors of the GPUs, newest first")

    def on_mount(self) -> None:
        for id in ("gpus", "host", "ours", "versions", "doctor", "bench", "events"):
            self.query_one(f"#{id}", LinesView).show([("reading …", QUIET)])
        self._arrange()
        self._timer = self.set_interval(REFRESH_SECONDS, self._tick, pause=True)

    def on_screen_resume(self) -> None:
        self._timer.resume()
        self._refresh()
        if self.focused is None:
            self._focus_first()

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
            self._readings = now = await asyncio.to_thread(read_now, home)
            history = self.workbench.history
            history.add(self.workbench.clock(), now.gpus, now.host, now.events)
            if (free := self._readings.host.disk_free) is not None:
                self._disk.add(time.monotonic(), free)
            self._draw()
            if self._installation is None:
                self._installation = await asyncio.to_thread(
                    read_installation, home, self._readings.gpus
                )
                history.add_events(self._installation.events)
                self._draw()
        finally:
            self._reading = False

    def show_snapshot(self, snapshot: Snapshot) -> None:
        self._benches = snapshot.benches
        self._draw()

    # --- drawing

    def _draw(self) -> None:
        if (now := self._readings) is not None:
            around = self._around(now)
            if self._view == "now":
                self._draw_now(now, around)
            elif self._view == "history":
                self._draw_history(now, around)
            else:
                self._put("events", event_lines(around.events, now.gpus))
            self._show_views(around)
        if (installed := self._installation) is not None:
            self._put("versions", version_lines(installed.python, installed.versions))
            found = installed.checks
            if self._shown.get("doctor") != found:
                self._shown["doctor"] = found
                pane = self.query_one("#doctor", LinesView)
                pane.show_layout(lambda width: doctor_lines(found, width))
                marks = [check.mark for check in found]
                told = [
                    f"{count} {what}{'s' * (count != 1)}"
                    for mark, what in (("fail", "problem"), ("note", "hint"))
                    if (count := marks.count(mark))
                ]
                pane.border_subtitle = ", ".join(told) or "all well"

    def _draw_now(self, now: Readings, around: Around) -> None:
        self._put_gpus(now.gpus, around)
        full_in = self._disk.full_in(now.host.disk_total) if now.host.disk_total else None
        self._put("host", host_lines(now.host, full_in))
        rows = self.workbench.snapshot.rows
        self._put_processes(now.processes, {row.id: row.name for row in rows})
        self._put_bench({gpu.name for gpu in now.gpus})

    def _around(self, now: Readings) -> Around:
        snapshot = self.workbench.snapshot
        return Around(
            {process.pid: process for process in now.processes},
            snapshot.by_id,
            dict(now.leased),
            next((row.id for row in snapshot.live), ""),
            self.workbench.history.events,
            self.workbench.clock(),
        )

    def _draw_history(self, now: Readings, around: Around) -> None:
        history = self.workbench.history
        tracks = history.tracks
        there = choices(tracks)
        if self._choice not in there:
            self._choice = there[0]
        devices = [one for gpu in now.gpus for one in (gpu, *gpu.parts)]
        gpu = next((one for one in devices if one.uuid == self._choice), None)
        shares: Shares | None = None
        if gpu is not None:
            shares = shares_of(gpu, around.ours, around.rows, around.leased, around.wanted)
        self.query_one(MachineCharts).show(history, tracks, self._choice, shares)

    def _show_views(self, around: Around) -> None:
        """The line at the top: which views there are, and what the shown one shows."""
        line = Text(" ", no_wrap=True)
        for view in VIEWS:
            count = len(around.events) if view == "events" else 0
            name = f"{view} {count}" if count else view
            shown = view == self._view
            line.append(f"[{name}]" if shown else f" {name} ", "bold reverse" if shown else QUIET)
        words = "   [ ] turn the page"
        if self._view == "history":
            tracks = self.workbench.history.tracks
            words = f"   {chosen_words(tracks, self._choice)}, last 10 minutes"
            if len(choices(tracks)) > 1:
                words += "   n the next"
        line.append(words, QUIET)
        if self._shown.get("views") != line:
            self._shown["views"] = line
            self.query_one("#views", Static).update(line)

    # --- the views

    def _arrange(self) -> None:
        for view, id in (("now", "#page-now"), ("history", "#page-history"), ("events", "#events")):
            self.query_one(id).display = view == self._view

    def _turn(self, by: int) -> None:
        self._view = VIEWS[(VIEWS.index(self._view) + by) % len(VIEWS)]
        self._arrange()
        self._draw()
        self._focus_first()
        self.refresh_bars()

    def _focus_first(self) -> None:
        """What keys scroll, and what z shows alone."""
        charts = self.query_one(MachineCharts)
        first = {"now": "#doctor", "events": "#events"}.get(self._view)
        self.set_focus(self.query_one(first) if first else charts.first)

    def action_next_view(self) -> None:
        self._turn(1)

    def action_previous_view(self) -> None:
        self._turn(-1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("next_device", "previous_device"):
            several = len(choices(self.workbench.history.tracks)) > 1
            return self._view == "history" and several
        return super().check_action(action, parameters)

    def _choose(self, by: int) -> None:
        there = choices(self.workbench.history.tracks)
        at = there.index(self._choice) if self._choice in there else 0
        self._choice = there[(at + by) % len(there)]
        self._draw()
        if self.focused is None or not self.focused.display:
            self._focus_first()

    def action_next_device(self) -> None:
        self._choose(1)

    def action_previous_device(self) -> None:
        self._choose(-1)

    def _put_gpus(self, state: GpuState, around: Around) -> None:
        """Bars as wide as the pane; it is as high as what it shows, as far as there is room."""
        pane = self.query_one("#gpus", LinesView)
        runs = gpu_lines(state, around, max(40, pane.size.width - 1))
        if self._shown.get("gpus") != runs:
            self._shown["gpus"] = runs
            pane.border_title = Text(gpu_title(state))
            pane.show_layout(lambda width: wrap(gpu_lines(state, around, width), width))
            pane.styles.height = 2 + sum(text.count("\n") for text, _ in runs) + 1

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


def _pane(id: str, title: str) -> LinesView:
    pane = LinesView(id=id, classes="pane")
    pane.border_title = title
    return pane
