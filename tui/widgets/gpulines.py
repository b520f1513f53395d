"""What the GPUs look like as text: a line each where they are many, then a block each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.style import Style

from engine.system.gpu import Gpu, GpuState
from engine.system.gpu_events import GpuEvent
from engine.system.gpu_health import GpuHealth
from engine.system.host import OurProcess
from engine.text import clip, safe_line
from tui import words as units
from tui.gpushares import Shares, shares_of
from tui.stackedbar import ESTIMATE, FREE, OTHER_RUNS, OTHERS, PEAK, THIS_RUN, stacked
from tui.widgets.lines import ACCENT, BAD, BOLD, GOOD, PLAIN, QUIET, WARM, Run

if TYPE_CHECKING:
    from engine.history.row import RunRow

__all__ = ["Around", "bar", "gpu_lines", "gpu_title", "memory_bar"]

NEARLY_FULL = 0.9
REST = Style(color="#585858")
SMALL, MOST = 16, 64
"""Cells of a card's bar where it has one line, and of a wide one."""
FIGURES = 26
"""Cells beside a bar."""
FEW = 2
"""So many cards are told in a block each at once."""
INDENT = " " * 11
LOOKS = {THIS_RUN: GOOD, OTHER_RUNS: ACCENT, OTHERS: BOLD, FREE: REST}
DAY = 86_400.0
RECENT_EVENTS = 3
"""So many of a card's errors stand with it; all of them are a view of their own."""


@dataclass(frozen=True)
class Around:
    """What is known beside the reading itself."""

    ours: Mapping[int, OurProcess] = field(default_factory=dict)
    """Process id -> worker, supervisor or playground of ours."""
    rows: Mapping[str, "RunRow"] = field(default_factory=dict)
    leased: Mapping[str, str] = field(default_factory=dict)
    """GPU's UUID -> the run that took it last."""
    wanted: str = ""
    """Id of the run that is looked at."""
    events: Sequence[GpuEvent] = ()
    """Newest first."""
    now: float = 0.0
    """Seconds since the epoch: errors of a day before stand with their card no more."""

    def name(self, run: str) -> str:
        row = self.rows.get(run)
        return row.name if row else run


def bar(share: float | None, cells: int, full_is_bad: bool = True) -> list[Run]:
    """A bar of ``cells`` cells for a share of 0 to 1; heavy and light differ without colour."""
    if share is None:
        return [("·" * cells, QUIET)]
    share = max(0.0, min(1.0, share))
    full = max(round(share * cells), 1 if share else 0)
    look = WARM if full_is_bad and share >= NEARLY_FULL else GOOD
    return [("━" * full, look), ("─" * (cells - full), REST)]


def memory_bar(shares: Shares | None, cells: int) -> list[Run]:
    """Whose the memory is, with marks for the run's peak and what was estimated."""
    if shares is None:
        return [("·" * cells, QUIET)]
    total = shares.total
    parts = [
        (THIS_RUN, shares.this_run / total),
        (OTHER_RUNS, shares.other_runs / total),
        (OTHERS, shares.others / total),
        (FREE, shares.free / total),
    ]
    marks = [
        (mark, (size + shares.context) / total)
        for mark, size in ((PEAK, shares.peak), (ESTIMATE, shares.estimate))
        if size and shares.run
    ]
    return [(piece, LOOKS.get(piece[0], WARM)) for piece in stacked(parts, marks, cells)]


def gpu_title(state: GpuState) -> str:
    """What stands above them: where a block says too much, the driver and how many they are."""
    if len(state) <= FEW:
        return "GPUs"
    driver = f", driver {clip(state.driver, 20)}" if state.driver else ""
    return f"{len(state)} GPUs{driver}"


def gpu_lines(state: GpuState, around: Around | None = None, width: int = 75) -> list[Run]:
    """Every GPU with its memory, load and processes, or the one sentence that says why not.

    ``width``: cells that there are; bars get what is left of them.
    """
    around = around or Around()
    if not state.available:
        return [(safe_line(state.reason), PLAIN)]
    runs: list[Run] = []
    for index in state.lost:
        runs.append((f"! GPU {index} does not answer any more: see nvidia-smi and dmesg\n", BAD))
    if len(state) > FEW:
        for gpu in state:
            runs += _one_line(gpu, around, width)
        runs.append(("\n", PLAIN))
    for number, gpu in enumerate(state):
        if number:
            runs.append(("\n", PLAIN))
        driver = state.driver if not number and len(state) <= FEW else None
        runs += _block(gpu, around, driver, width)
    return runs


def _one_line(gpu: Gpu, around: Around, width: int) -> list[Run]:
    shares = shares_of(gpu, around.ours, around.rows, around.leased, around.wanted)
    busy = "busy ?" if gpu.utilisation is None else f"busy {gpu.utilisation} %"
    power = "" if gpu.power is None else f"{gpu.power:.0f} W"
    heat = "" if gpu.temperature is None else f"{gpu.temperature} °C"
    facts = f" {units.of_bytes(gpu.memory_used, gpu.memory_total):>14}  {busy:<10}"
    facts += f" {power:>5}  {heat:>5}"
    wide = max(SMALL, min(MOST, width - 3 - len(facts) - FIGURES))
    runs: list[Run] = [(f"{gpu.index:>2} ", BOLD), *memory_bar(shares, wide), (facts, PLAIN)]
    wrong = [
        *([event.words for event in _of(gpu, around)[:1] if event.grave]),
        *([gpu.health.throttled] if gpu.health and gpu.health.throttled else []),
    ]
    if wrong and (room := width - 6 - wide - len(facts)) > 0:
        runs.append((f" ! {clip('; '.join(wrong), room)}", WARM))
    runs.append(("\n", PLAIN))
    return runs


def _block(gpu: Gpu, around: Around, driver: str | None, width: int) -> list[Run]:
    cells = max(SMALL, min(MOST, width - len(INDENT) - FIGURES))
    runs: list[Run] = [(f"{gpu.index}  {clip(gpu.name, 40)}", BOLD)]
    if driver:
        runs.append((f"   driver {clip(driver, 20)}", QUIET))
    runs += _memory(gpu, around, cells, width)
    busy = None if gpu.utilisation is None else gpu.utilisation / 100
    words = "not told" if gpu.utilisation is None else f"{gpu.utilisation} %"
    runs += [("\n   busy    ", QUIET), *bar(busy, cells, False), (f" {words}", PLAIN)]
    facts = []
    if gpu.power is not None:
        limit = f" of {gpu.power_limit:.0f}" if gpu.power_limit else ""
        facts.append(f"{gpu.power:.0f}{limit} W")
    if gpu.temperature is not None:
        facts.append(f"{gpu.temperature} °C")
    if facts:
        runs.append((f"  {', '.join(facts)}", PLAIN))
    runs += _health(gpu.health, width)
    for event in _of(gpu, around)[:RECENT_EVENTS]:
        look, clock = BAD if event.grave else WARM, time.localtime(event.t)
        runs.append((f"\n   ! {time.strftime('%m-%d %H:%M', clock)}  {event.words}", look))
    runs += _parts(gpu, around)
    runs += _processes(gpu, around)
    return runs


def _parts(gpu: Gpu, around: Around) -> list[Run]:
    if gpu.mig and not gpu.parts:
        words = "MIG is on, but no part was made: until nvidia-smi mig -cgi, no run can use it"
        return [(f"\n   ! {words}", WARM)]
    runs: list[Run] = []
    for part in gpu.parts:
        shares = shares_of(part, around.ours, around.rows, around.leased, around.wanted)
        runs.append((f"\n   part {part.index}  ", PLAIN))
        runs += memory_bar(shares, SMALL)
        runs.append((f" {units.of_bytes(part.memory_used, part.memory_total)}", PLAIN))
        runs.append((f"  {clip(part.name, 40)}", QUIET))
        if shares is not None and shares.run:
            runs.append((f"  ● run {clip(around.name(shares.run), 30)}", GOOD))
    return runs


def _processes(gpu: Gpu, around: Around) -> list[Run]:
    runs: list[Run] = []
    if gpu.processes is None:
        runs.append(("\n   processes are not told here (inside a container)", QUIET))
    for process in gpu.processes or ():
        runs += [
            (f"\n   {process.pid:>7} {clip(process.name or '?', 18):<18} ", PLAIN),
            (f"{units.bytes_words(process.memory):>9}  ", PLAIN),
        ]
        if (mine := around.ours.get(process.pid)) is not None:
            whose = f"run {clip(around.name(mine.run), 30)}, {mine.kind}" if mine.run else mine.kind
            runs.append((f"● {whose}", GOOD))
        else:
            runs.append(("not ours", QUIET))
    return runs


def _memory(gpu: Gpu, around: Around, cells: int, width: int) -> list[Run]:
    """The bar and the figures, then a line that says what the bar is made of."""
    used, total = gpu.memory_used, gpu.memory_total
    shares = shares_of(gpu, around.ours, around.rows, around.leased, around.wanted)
    figures = f" {units.of_bytes(used, total)}"
    if used is not None and total:
        figures += f" ({100 * used / total:.0f} %)"
    runs: list[Run] = [("\n   memory  ", QUIET), *memory_bar(shares, cells), (figures, PLAIN)]
    if shares is None:
        return runs
    owner = around.name(shares.run) if shares.run else "playground"
    told = [
        (THIS_RUN, owner, shares.this_run),
        (OTHER_RUNS, "other runs", shares.other_runs),
        (OTHERS, "others", shares.others),
        (FREE, "free", shares.free),
    ]
    pieces = []
    for sign, words, size in told:
        if size or sign == FREE:
            figure = units.of_bytes(size, shares.total).partition("/")[0]
            pieces.append((sign, words, f" {figure}"))
    unit = f" {units.bytes_words(shares.total).split()[1]}"
    taken = sum(4 + len(figure) for _, _, figure in pieces) - 2 + len(unit)
    taken += sum(len(words) for sign, words, _ in pieces if sign != THIS_RUN)
    runs.append((f"\n{INDENT}", PLAIN))
    for sign, words, figure in pieces:
        if sign == THIS_RUN:
            words = clip(words, max(6, min(30, width - len(INDENT) - taken)))
        end = unit if sign == FREE else "  "
        runs += [(f"{sign} ", LOOKS[sign]), (f"{words}{figure}{end}", PLAIN)]
    return [*runs, *_marks(shares)]


def _marks(shares: Shares) -> list[Run]:
    if not shares.run or not (shares.peak or shares.estimate):
        return []
    runs: list[Run] = [(f"\n{INDENT}", PLAIN)]
    if shares.peak:
        runs += [(f"{PEAK} ", WARM), (f"peak {units.bytes_words(shares.peak)}   ", PLAIN)]
    if shares.estimate:
        size = units.bytes_words(shares.estimate)
        runs += [(f"{ESTIMATE} ", WARM), (f"{size} estimated before the start", PLAIN)]
    return runs


def _health(health: GpuHealth | None, width: int) -> list[Run]:
    """Clocks and traffic, in one line where it has the room; what is wrong in one of its own."""
    if health is None:
        return []
    facts = []
    if health.sm_clock is not None:
        most = f"/{health.sm_clock_most:,}" if health.sm_clock_most else ""
        memory = f", memory {health.memory_clock:,}" if health.memory_clock else ""
        facts.append(f"{health.sm_clock:,}{most} MHz{memory}")
    facts += _traffic("PCIe", health.pcie_sent, health.pcie_received)
    facts += _traffic("NVLink", health.nvlink_sent, health.nvlink_received)
    runs: list[Run] = []
    if facts:
        runs.append(("\n   clocks  ", QUIET))
        used = len(INDENT)
        for number, fact in enumerate(facts):
            if number and used + 3 + len(fact) > width:
                runs.append((f"\n{INDENT}", PLAIN))
                used = len(INDENT)
            elif number:
                runs.append(("   ", PLAIN))
                used += 3
            runs.append((fact, PLAIN))
            used += len(fact)
    wrong = []
    if health.throttled:
        wrong.append(f"held back: {health.throttled}")
    if health.memory_errors:
        count = health.memory_errors
        wrong.append(f"{count:,} memory error{'s' * (count != 1)} that could not be corrected")
    if wrong:
        runs += [("\n   ! ", WARM), ("; ".join(wrong), WARM)]
    return runs


def _traffic(name: str, sent: int | None, received: int | None) -> list[str]:
    if sent is None or received is None:
        return []
    return [f"{name} ↑{units.bytes_words(sent)}/s ↓{units.bytes_words(received)}/s"]


def _of(gpu: Gpu, around: Around) -> list[GpuEvent]:
    since = around.now - DAY
    return [event for event in around.events if event.gpu == gpu.index and event.t > since]
