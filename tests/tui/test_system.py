"""The System screen over frozen readings."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from engine.home import Home
from engine.system.doctor import Check
from engine.system.gpu import Gpu, GpuProcess, GpuState
from engine.system.gpu_health import GpuHealth
from engine.system.host import Host, OurProcess
from tests.tui.conftest import NOW, FrozenFeed, snapshot_of
from tui.screens import system
from tui.screens.system import Installation, Readings
from tui.widgets.lines import LinesView
from tui.widgets.readings import gpu_lines, host_lines

GIB = 2**30
SIZES = [(80, 24), (120, 40)]
NASTY = "\x1b]52;c;aGk=\x07[/red]\u202e[@click=app.quit]漢字"

NO_GPU = GpuState(False, "No NVIDIA driver on this machine: runs train on the CPU.")
HOST = Host(
    memory_total=24 * GIB,
    memory_used=9 * GIB,
    cpu_percent=61.0,
    cpu_count=2,
    load=1.4,
    disk_path="/home/ada",
    disk_total=250 * GIB,
    disk_free=78 * GIB,
    limited=False,
)
RUN = "20251122-0816-demo-2"
OURS = (
    OurProcess(4101, "supervisor", RUN, 18 << 20),
    OurProcess(4102, "worker", RUN, 5 * GIB),
    OurProcess(4190, "child", RUN, 200 << 20),
    OurProcess(5000, "playground", "", 900 << 20),
)
TWO_GPUS = GpuState(
    True,
    gpus=(
        Gpu(
            0, "GPU-0", "NVIDIA H200", 140 * GIB, 29 * GIB, 111 * GIB, 97, 64, 512.0, 700.0,
            (GpuProcess(4102, "python", 28 * GIB), GpuProcess(77, "Xorg", 300 << 20)),
            health=GpuHealth(1755, 1980, 3201, "power limit", 1_400_000_000, 310_000_000, 0),
        ),
        Gpu(1, "GPU-1", "NVIDIA H200", 140 * GIB, 133 * GIB, 7 * GIB, None, None, None, None, None),
    ),
    driver="570.124",
)  # fmt: skip
GOOD = (
    Check("python", True, "Python 3.11.7 at /usr/bin/python"),
    Check("trl", True, "trl 1.14.2 can train on a CPU"),
    Check("terminal", True, "TERM=xterm, 16 colours", "export TERM=xterm-256color"),
)
BAD = (
    *GOOD,
    Check("torchvision", False, "torchvision 0.28.0 beside a CPU-only torch: its operators do "
          "not load, and transformers then fails too", "pip uninstall torchvision"),
    Check("locale", False, "no locale is set, not UTF-8", "export LANG=C.UTF-8"),
)  # fmt: skip
VERSIONS = {"torch": "2.13.0+cpu", "trl": "1.14.2", "unsloth": None}


def bench(gpu: str | None = "NVIDIA H200", **fields: Any) -> dict[str, Any]:
    """A bench as the journal keeps it, as far as it is shown."""
    figures = {"trl 4-bit": 0.36, "unsloth 4-bit": 0.644, "tunebench": 0.111, "trl 16-bit": 0.286}
    results: list[dict[str, Any]] = [
        {
            "label": label,
            "rows": "corpus",
            "step_seconds": seconds,
            "tokens_per_second": 32 * 107 / seconds,
            "to_best": 0.111 / seconds,
            "to_limit": 32 * 107 / seconds / 61_300,
            "peak_memory_bytes": 14.1e9,
        }
        for label, seconds in figures.items()
    ]
    failed = {"label": "unsloth checkpointing", "rows": "corpus", "step_seconds": None}
    results.insert(1, {**failed, "state": "failed", "reason": "out of memory (CUDA out of memory)"})
    results.append({**results[0], "rows": "full"})
    return {"t": NOW - 3 * 86400, "gpu": gpu, "results": results, **fields}


STATES: dict[str, tuple[Readings, tuple[Check, ...]]] = {
    "empty": (Readings(NO_GPU, HOST, ()), GOOD),
    "running": (Readings(TWO_GPUS, HOST, OURS), GOOD),
    "failed": (Readings(NO_GPU, HOST, ()), BAD),
}


BENCHES: dict[str, list[dict[str, Any]]] = {
    "empty": [],
    "running": [bench()],
    "failed": [bench("NVIDIA H200"), bench(None, results=bench()["results"][:3])],
}
"""The newest first."""


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Callable[[Readings, tuple[Check, ...]], None]:
    """What the screen reads from now on."""

    def use(now: Readings, checks: tuple[Check, ...] = GOOD) -> None:
        monkeypatch.setattr(system, "read_now", lambda home: now)
        monkeypatch.setattr(
            system,
            "read_installation",
            lambda home, gpus: Installation("3.11.7", dict(VERSIONS), checks),
        )

    return use


def fed(benches: list[dict[str, Any]]) -> FrozenFeed:
    return FrozenFeed(replace(snapshot_of(), benches=benches))


async def settle(pilot: Any) -> None:
    for _ in range(3):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()


def lines(app: Any, id: str) -> list[str]:
    return [line.rstrip() for line in app.screen.query_one(f"#{id}", LinesView).text_lines]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
def test_look(
    state: str, size: tuple[int, int], readings: Any, frozen_app: Any, snap_compare: Any
) -> None:
    readings(*STATES[state])
    app = frozen_app(mode="system", feed=fed(BENCHES[state]))
    assert snap_compare(app, terminal_size=size, run_before=settle)


async def test_no_gpu_is_one_sentence(readings: Any, frozen_app: Any) -> None:
    readings(*STATES["empty"])
    app = frozen_app(mode="system")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert lines(app, "gpus") == ["No NVIDIA driver on this machine: runs train on the CPU."]
        assert lines(app, "ours") == ["No run is going on."]


async def test_gpus_their_processes_and_which_are_ours(readings: Any, frozen_app: Any) -> None:
    readings(*STATES["running"])
    app = frozen_app(mode="system")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = " ".join(" ".join(lines(app, "gpus")).split())
        assert "133.0 GiB of 140.0 GiB (95 %)" in shown and "512 of 700 W 64 °C" in shown
        assert "29.0/140.0 GiB, ours 28.0, others 1.0" in shown
        assert "1,755/1,980 MHz, memory 3,201 PCIe ↑1.3 GiB/s ↓296 MiB/s" in shown
        assert "! held back: power limit" in shown and "memory error" not in shown
        assert f"4102 python 28.0 GiB ● run {RUN}, worker" in shown
        assert "77 Xorg 300 MiB not ours" in shown
        assert "processes are not told here" in shown and "busy ···" in shown
        kinds = [line.split()[-4] for line in lines(app, "ours")]
        assert sorted(kinds) == ["child", "playground", "supervisor", "worker"]


async def test_problems_come_first_with_what_to_do(readings: Any, frozen_app: Any) -> None:
    readings(*STATES["failed"])
    app = frozen_app(mode="system")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        marks = [line[0] for line in lines(app, "doctor") if line[0] in "✗!✓"]
        assert marks == ["✗", "✗", "!", "✓", "✓"]
        assert "  → export LANG=C.UTF-8" in lines(app, "doctor")
        assert "2 problems" in str(app.screen.query_one("#doctor").border_subtitle)


async def test_the_last_bench_of_this_machines_card(readings: Any, frozen_app: Any) -> None:
    readings(*STATES["running"])
    benches = [bench(None), bench("Tesla T4"), bench(t=NOW - 86400)]
    app = frozen_app(mode="system", feed=fed(benches))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = lines(app, "bench")
        assert [line.split()[0] for line in shown] == ["tok/s", "tunebench", "trl", "trl",
                                                       "unsloth", "unsloth"]  # fmt: skip
        assert shown[1].split() == ["tunebench", "30,847", "1.00", "50%", "0.111", "14.1"]
        assert shown[-1].startswith("unsloth checkpointing  out of memory (CUDA")
        pane = app.screen.query_one("#bench")
        assert pane.border_title == "Last bench: tunebench 30,847 tok/s"
        assert pane.border_subtitle == "2025-11-21"
        readings(Readings(NO_GPU, HOST, ()))
        app.feed.say(replace(snapshot_of(), benches=[bench("Tesla T4")]))
        await pilot.press("r")
        await settle(pilot)
        assert lines(app, "bench")[0].split()[:2] == ["Tesla", "T4"], "of another device: named"


async def test_a_bench_that_ends_is_shown(readings: Any, frozen_app: Any) -> None:
    readings(*STATES["empty"])
    app = frozen_app(mode="system", feed=fed([]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert lines(app, "bench") == ["none yet: tunebench bench"]
        app.feed.say(replace(snapshot_of(), benches=[bench(None)]))
        await settle(pilot)
        assert lines(app, "bench")[1].split()[:2] == ["tunebench", "30,847"]


async def test_readings_stop_while_the_screen_is_hidden(
    readings: Any, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings(*STATES["empty"])
    read, counted = system.read_now, threading.Semaphore(0)
    seen: list[int] = []

    def count(home: Home) -> Readings:
        seen.append(1)
        counted.release()
        return read(home)

    monkeypatch.setattr(system, "read_now", count)
    monkeypatch.setattr(system, "REFRESH_SECONDS", 0.02)
    app = frozen_app(mode="system")
    async with app.run_test(size=(80, 24)) as pilot:
        while len(seen) < 4:
            await pilot.pause(0.01)
        await pilot.press("1")
        await settle(pilot)
        before = len(seen)
        await pilot.pause(0.1)
        assert len(seen) == before
        await pilot.press("5")
        while len(seen) == before:
            await pilot.pause(0.01)


async def test_nothing_is_drawn_again_when_nothing_changed(readings: Any, frozen_app: Any) -> None:
    readings(*STATES["running"])
    app = frozen_app(mode="system")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        drawn: list[str] = []
        for pane in app.screen.query(LinesView):
            pane.show_layout = lambda *_, id=pane.id, **__: drawn.append(id)
        await pilot.press("r")
        await settle(pilot)
        assert drawn == []
        other = Readings(TWO_GPUS, Host(**{**HOST.__dict__, "cpu_percent": 5.0}), OURS)
        readings(other)
        await pilot.press("r")
        await settle(pilot)
        assert drawn == ["host"]


async def test_hostile_names(readings: Any, frozen_app: Any) -> None:
    gpu = Gpu(0, "u", NASTY, 2 * GIB, GIB, GIB, 1, 1, 1.0, 1.0, (GpuProcess(1, NASTY, 1),))
    now = Readings(
        GpuState(True, gpus=(gpu,), driver=NASTY), HOST, (OurProcess(1, "worker", NASTY, 1),)
    )
    readings(now, (Check(NASTY, False, NASTY * 50, NASTY), Check("x", True, "")))
    results = [
        {"label": NASTY, "rows": "corpus", "step_seconds": 1.0, "tokens_per_second": NASTY},
        {"label": NASTY * 9, "rows": "corpus", "reason": NASTY * 9},
        None,
    ]
    app = frozen_app(mode="system", feed=fed([bench(NASTY * 9, results=results)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert not app.screen.query(Input)
        for pane in app.screen.query(LinesView):
            for y in range(pane.size.height):
                strip = pane.render_line(y)
                assert strip.text.isprintable() and cell_len(strip.text) == strip.cell_length
                assert "\u202e" not in strip.text
        assert "[@click=app.quit]" in "\n".join(lines(app, "gpus")), "shown, never markup"


def test_a_reason_from_the_driver_is_one_safe_line() -> None:
    (text, _style), *rest = gpu_lines(GpuState(False, "a\nb\x1b[31m"), {}, {})
    assert text == "a␤b␛[31m" and not rest


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (GpuHealth(), ""),
        (GpuHealth(sm_clock=345), "clocks 345 MHz"),
        (GpuHealth(throttled="too hot"), "! held back: too hot"),
        (GpuHealth(throttled="", memory_errors=1), "! 1 memory error that could not be corrected"),
    ],
)
def test_what_a_card_does_not_tell_is_left_out(health: GpuHealth, expected: str) -> None:
    card = Gpu(0, "u", "T4", 16 * GIB, 1 * GIB, 15 * GIB, 3, health=health)
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), {}, {}))
    assert " ".join(text.partition("3 %")[2].split()) == expected


def test_the_bar_tells_our_share_from_the_others_without_colour() -> None:
    processes = (GpuProcess(1, "python", 8 * GIB), GpuProcess(2, "other", 3 * GIB))
    card = Gpu(0, "u", "T4", 16 * GIB, 12 * GIB, 4 * GIB, processes=processes)
    ours = {1: OurProcess(1, "worker", RUN, 1)}
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), ours, {}))
    assert "━" * 12 + "╍" * 6 + "─" * 6 + " 12.0/16.0 GiB, ours 8.0, others 4.0" in text
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), {}, {}))
    assert "━" * 18 + "─" * 6 in text and "ours" not in text.partition("busy")[0]


def test_parts_of_a_card_are_listed() -> None:
    part = Gpu(0, "MIG-1", "NVIDIA H200 MIG 1g.18gb", 18 * GIB, 2 * GIB)
    card = Gpu(0, "u", "NVIDIA H200", 140 * GIB, 3 * GIB, parts=(part,))
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), {}, {}))
    assert "part 0  NVIDIA H200 MIG 1g.18gb  2.0/18.0 GiB" in text


def test_a_disk_that_fills_says_when() -> None:
    words = "".join(text for text, _ in host_lines(HOST, 5400.0))
    assert "78.0 GiB free, full in 1 h 30 min" in words
    assert "full" not in "".join(text for text, _ in host_lines(HOST))
