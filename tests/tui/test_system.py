"""The System screen over frozen readings."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from engine.home import Home
from engine.system.doctor import Check
from engine.system.gpu import Gpu, GpuProcess, GpuState
from engine.system.gpu_events import GpuEvent
from engine.system.gpu_health import GpuHealth
from engine.system.host import Host, OurProcess
from tests.tui.conftest import NOW, FrozenFeed, finished, row, running, settle, snapshot_of
from tui.feed import RunDetail
from tui.gpushares import Shares, shares_of
from tui.history import METRICS
from tui.screens import system
from tui.screens.system import Installation, Readings
from tui.widgets.chart import Chart
from tui.widgets.gpulines import Around, gpu_lines
from tui.widgets.lines import LinesView
from tui.widgets.readings import host_lines

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
        assert "133.0/140.0 GiB (95 %)" in shown and "512 of 700 W, 64 °C" in shown
        assert f"━ {RUN} 28.0 ╍ others 1.0 ─ free 111.0 GiB" in shown
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
    (text, _style), *rest = gpu_lines(GpuState(False, "a\nb\x1b[31m"))
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
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,))))
    assert " ".join(text.partition("3 %")[2].split()) == expected


def test_the_bar_tells_our_share_from_the_others_without_colour() -> None:
    processes = (GpuProcess(1, "python", 8 * GIB), GpuProcess(2, "other", 3 * GIB))
    card = Gpu(0, "u", "T4", 16 * GIB, 12 * GIB, 4 * GIB, processes=processes)
    ours = {1: OurProcess(1, "worker", RUN, 1)}
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), Around(ours)))
    assert "━" * 19 + "╍" * 9 + "─" * 10 + " 12.0/16.0 GiB (75 %)" in text
    assert f"━ {RUN} 8.0  ╍ others 4.0  ─ free 4.0 GiB" in text
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,))))
    assert "╍" * 28 + "─" * 10 in text and "━" not in text.partition("busy")[0]


def test_parts_of_a_card_are_listed() -> None:
    part = Gpu(0, "MIG-1", "NVIDIA H200 MIG 1g.18gb", 18 * GIB, 2 * GIB)
    card = Gpu(0, "u", "NVIDIA H200", 140 * GIB, 3 * GIB, parts=(part,))
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,))))
    assert "part 0  ╍╍────────────── 2.0/18.0 GiB  NVIDIA H200 MIG 1g.18gb" in text
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(replace(card, parts=()),))))
    assert "MIG" not in text
    bare = replace(card, parts=(), mig=True)
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(bare,))))
    assert "! MIG is on, but no part was made: until nvidia-smi mig -cgi, no run can use it" in text


def test_whose_the_memory_of_a_part_is() -> None:
    part = Gpu(0, "MIG-1", "H200 1g", 18 * GIB, 9 * GIB, processes=(GpuProcess(1, "python", None),))
    live = row("demo-2", memory_bytes=8 * GIB)
    card = Gpu(0, "u", "NVIDIA H200", 140 * GIB, 9 * GIB, parts=(part,), mig=True)
    around = Around(rows={live.id: live}, leased={"MIG-1": live.id})
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), around))
    assert "part 0  ━━━━━━━╍──────── 9.0/18.0 GiB  H200 1g  ● run demo-2" in text


def test_a_card_that_is_gone_is_told_beside_the_others() -> None:
    card = Gpu(1, "u", "T4", 16 * GIB, 1 * GIB)
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,), lost=(0,))))
    assert text.startswith("! GPU 0 does not answer any more: see nvidia-smi and dmesg\n1  T4")


def shares(*processes: tuple[int, float | None], used: float = 30, **fields: Any) -> Shares | None:
    """Of a card of 40 GiB: process 1 is ``a``'s, 2 is ``b``'s, 3 the playground's, 9 nobody's."""
    ours = {
        1: OurProcess(1, "worker", "a", 0),
        2: OurProcess(2, "worker", "b", 0),
        3: OurProcess(3, "playground", "", 0),
    }
    told = tuple(GpuProcess(pid, "python", size and int(size * GIB)) for pid, size in processes)
    card = Gpu(0, "GPU-0", "A100", 40 * GIB, int(used * GIB), processes=told)
    rows = {
        "a": replace(row("a"), id="a", memory_bytes=9 * GIB, peak_memory_bytes=11 * GIB,
                     estimated_peak_bytes=12 * GIB),
        "b": replace(row("b", "finished"), id="b", memory_bytes=5 * GIB),
    }  # fmt: skip
    return shares_of(card, ours, rows, fields.get("leased", {}), fields.get("wanted", ""))


def parts(found: Shares | None) -> tuple[str, float, float, float, float]:
    assert found is not None
    sizes = (found.this_run, found.other_runs, found.others, found.free)
    assert sum(sizes) == found.total
    return (found.run, *(size / GIB for size in sizes))


def test_whose_the_memory_is() -> None:
    assert parts(shares((1, 10), (2, 6), (9, 4))) == ("a", 10, 6, 14, 10)
    assert parts(shares((1, 10), (2, 16))) == ("b", 16, 10, 4, 10), "the one with the most"
    assert parts(shares((1, 10), (2, 16), wanted="a")) == ("a", 10, 16, 4, 10)
    assert parts(shares((1, 10), (3, 6), wanted="c")) == ("a", 10, 6, 14, 10)
    assert parts(shares((3, 6))) == ("", 6, 0, 24, 10), "the playground alone"
    assert parts(shares((9, 6))) == ("", 0, 0, 30, 10)
    assert parts(shares((1, 50))) == ("a", 30, 0, 0, 10), "never more than is in use"
    found = shares((1, 10))
    assert found and (found.peak, found.estimate) == (11 * GIB, 12 * GIB)
    assert found.context == 1 * GIB, "what CUDA takes besides the allocator"


def test_inside_a_container_the_lease_tells_whose_it_is() -> None:
    assert parts(shares((77, None), leased={"GPU-0": "a"})) == ("a", 9, 0, 21, 10)
    assert parts(shares(leased={"GPU-0": "b"})) == ("", 0, 0, 30, 10), "b has ended"
    assert parts(shares((1, 10), leased={"GPU-0": "b"}))[0] == "a", "processes are the better word"


def test_peak_and_estimate_are_marks_with_words() -> None:
    live = row("demo-2", memory_bytes=9 * GIB, peak_memory_bytes=11 * GIB,
               estimated_peak_bytes=13 * GIB)  # fmt: skip
    card = Gpu(0, "u", "A100", 40 * GIB, 12 * GIB, processes=(GpuProcess(1, "python", 10 * GIB),))
    around = Around({1: OurProcess(1, "worker", live.id, 1)}, {live.id: live})
    text = "".join(text for text, _ in gpu_lines(GpuState(True, gpus=(card,)), around, 77))
    bar = text.partition("memory  ")[2].partition(" ")[0]
    assert bar.startswith("━" * 10 + "╍P─E"), "the run's part comes first"
    assert (bar.index("P") + 1, bar.index("E") + 1, len(bar)) == (12, 14, 40)
    assert "P peak 11.0 GiB   E 13.0 GiB estimated before the start" in text


EIGHT = GpuState(
    True,
    gpus=tuple(
        replace(TWO_GPUS.gpus[0], index=number, uuid=f"GPU-{number}", utilisation=90 + number,
                processes=(GpuProcess(4102 + number, "python", 20 * GIB),))
        for number in range(8)
    ),
    driver="570.124",
)  # fmt: skip
EVENTS = (
    GpuEvent(NOW - 90, 1, 31, "Xid 31: a program touched memory that is not its own", False),
    GpuEvent(NOW - 7200, 3, 94, "Xid 94: memory error that hit one program", True),
)


def remembered(app: Any, gpus: GpuState) -> None:
    """Ten minutes of readings that end at the frozen clock's."""
    for back in range(300, 0, -1):
        wave = abs(back % 60 - 30)
        cards = tuple(
            replace(gpu, utilisation=60 + wave, power=400 + 5.0 * wave, temperature=50 + wave // 2,
                    memory_used=(20 + wave // 4 + gpu.index) * GIB)
            for gpu in gpus
        )  # fmt: skip
        host = replace(HOST, cpu_percent=20.0 + wave, memory_used=(8 + wave // 10) * GIB)
        app.history.add(NOW - 2 * back, replace(gpus, gpus=cards), host)


HISTORIES: dict[str, GpuState] = {
    "no-gpu": NO_GPU,
    "one": replace(TWO_GPUS, gpus=TWO_GPUS.gpus[:1]),
    "eight": EIGHT,
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", HISTORIES)
def test_look_of_the_history(
    state: str, size: tuple[int, int], readings: Any, frozen_app: Any, snap_compare: Any
) -> None:
    readings(Readings(HISTORIES[state], HOST, OURS))
    app = frozen_app(mode="system", feed=fed([]))
    remembered(app, HISTORIES[state])

    async def turn(pilot: Any) -> None:
        await settle(pilot)
        await pilot.press("right_square_bracket")
        await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=turn)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_look_of_eight_gpus(
    size: tuple[int, int], readings: Any, frozen_app: Any, snap_compare: Any
) -> None:
    readings(Readings(EIGHT, HOST, OURS, EVENTS))
    app = frozen_app(mode="system", feed=fed([]))
    assert snap_compare(app, terminal_size=size, run_before=settle)


def shared_card() -> tuple[GpuState, list[RunDetail]]:
    """A card with two runs of ours and a stranger's program, hot, with an error and links."""
    first, second = running(), finished()
    first = replace(first, row=replace(
        first.row, memory_bytes=38 * GIB, peak_memory_bytes=56 * GIB, device="cuda:0",
        estimated_peak_bytes=63 * GIB,
    ))  # fmt: skip
    second = replace(second, row=replace(second.row, state="running", ended=None))
    processes = (
        GpuProcess(4102, "python", 39 * GIB),
        GpuProcess(4202, "python", 12 * GIB),
        GpuProcess(77, "vllm", 20 * GIB),
    )
    health = GpuHealth(
        1410, 1980, 3201, "too hot", 1_400_000_000, 310_000_000, 0, 22 << 30, 9 << 30
    )
    card = replace(
        TWO_GPUS.gpus[0], memory_used=72 * GIB, memory_free=68 * GIB, processes=processes,
        temperature=88, health=health,
    )  # fmt: skip
    return replace(TWO_GPUS, gpus=(card,)), [first, second]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("view", ["now", "history", "events"])
def test_look_of_a_shared_card(
    view: str, size: tuple[int, int], readings: Any, frozen_app: Any, snap_compare: Any
) -> None:
    gpus, runs = shared_card()
    ours = tuple(
        OurProcess(4102 + 100 * place, "worker", run.row.id, 5 * GIB)
        for place, run in enumerate(runs)
    )
    events = (replace(EVENTS[0], gpu=0), replace(EVENTS[1], gpu=0))
    readings(Readings(gpus, HOST, ours, events))
    app = frozen_app(mode="system", feed=FrozenFeed(snapshot_of(*runs)))
    remembered(app, gpus)

    async def turn(pilot: Any) -> None:
        await settle(pilot)
        for _ in range(["now", "history", "events"].index(view)):
            await pilot.press("right_square_bracket")
            await settle(pilot)

    assert snap_compare(app, terminal_size=size, run_before=turn)


async def test_views_and_the_next_device(readings: Any, frozen_app: Any) -> None:
    readings(Readings(TWO_GPUS, HOST, OURS, EVENTS))
    app = frozen_app(mode="system")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)

        def head() -> str:
            return str(app.screen.query_one("#views").render())

        assert "[now]" in head() and "events 2" in head()
        assert not app.screen.check_action("next_device", ())
        await pilot.press("right_square_bracket")
        assert "[history]" in head() and "all 2 GPUs, last 10 minutes" in head()
        charts = [chart for chart in app.screen.query(Chart) if chart.display]
        assert [chart.id for chart in charts] == [f"chart-{metric}" for metric in METRICS]
        await pilot.press("n")
        assert "GPU 0 NVIDIA H200" in head()
        await pilot.press("n", "n")
        assert "this machine" in head()
        assert [chart.id for chart in app.screen.query(Chart) if chart.display] == [
            "chart-busy",
            "chart-memory",
        ]
        await pilot.press("N", "N")
        assert "GPU 0 NVIDIA H200" in head()
        assert app.screen.focused is app.screen.query_one("#chart-memory")
        await pilot.press("z")
        assert app.screen.maximized is app.screen.query_one("#chart-memory")
        await pilot.press("right_square_bracket")
        await settle(pilot)
        assert app.screen.maximized is None and "[events 2]" in head()
        shown = lines(app, "events")
        assert "GPU 1  ! Xid 31" in shown[0] and shown[0].endswith("(a program)")
        assert "GPU 3  ✗ Xid 94" in shown[1] and shown[1].endswith("(hardware or driver)")
        await pilot.press("right_square_bracket")
        assert "[now]" in head() and app.screen.query_one("#gpus").display


async def test_errors_of_a_card_stand_with_it_and_none_is_one_sentence(
    readings: Any, frozen_app: Any
) -> None:
    readings(Readings(TWO_GPUS, HOST, OURS, EVENTS))
    app = frozen_app(mode="system")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = [line.strip() for line in lines(app, "gpus")]
        assert "! 11-22 08:25  Xid 31: a program touched memory that is not its own" in shown
        assert not any("Xid 94" in line for line in shown), "of another card"
    readings(Readings(TWO_GPUS, HOST, OURS))
    app = frozen_app(mode="system")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("left_square_bracket")
        await settle(pilot)
        none = "No error (Xid) and no memory error (ECC) of a GPU was heard of."
        assert lines(app, "events") == [none]


def test_many_gpus_are_a_line_each_before_they_are_told_one_by_one() -> None:
    around = Around(events=EVENTS)
    text = "".join(text for text, _ in gpu_lines(EIGHT, around))
    shown = text.split("\n")
    assert [line.split()[0] for line in shown[:8]] == list("01234567") and not shown[8]
    assert "29.0/140.0 GiB  busy 91 %  512 W  64 °C ! power limit" in shown[1]
    assert "! Xid 94: " in shown[3] and all(cell_len(line) <= 75 for line in shown[:9])
    assert text.count("estimated") == 0 and text.count("held back") == 8


async def test_a_reading_of_eight_gpus_costs_the_event_loop_little(
    readings: Any, frozen_app: Any
) -> None:
    readings(Readings(EIGHT, HOST, OURS, EVENTS))
    app = frozen_app(mode="system")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        remembered(app, EIGHT)
        for key in ("left_square_bracket", "left_square_bracket"):
            await pilot.press(key)
            await settle(pilot)
            spent = []
            for second in range(5):
                screen = app.screen
                screen._readings = replace(
                    screen._readings, host=replace(HOST, cpu_percent=10.0 + second)
                )
                app.history.add(NOW + second, EIGHT, HOST)
                began = time.process_time()
                screen._draw()
                spent.append(time.process_time() - began)
            assert min(spent) < 0.02, key


def test_a_disk_that_fills_says_when() -> None:
    words = "".join(text for text, _ in host_lines(HOST, 5400.0))
    assert "78.0 GiB free, full in 1 h 30 min" in words
    assert "full" not in "".join(text for text, _ in host_lines(HOST))
