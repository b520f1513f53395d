"""What the readings of GPUs, host and installation look like as text."""

from collections.abc import Iterable

from rich.segment import Segment
from rich.style import Style

from engine.system.doctor import Check
from engine.system.gpu import Gpu, GpuState
from engine.system.gpu_health import GpuHealth
from engine.system.host import Host, OurProcess
from engine.text import clip, safe_line
from tui import words as units
from tui.widgets.lines import BAD, BOLD, GOOD, PLAIN, QUIET, WARM, Line, Run, hanging, wrap

__all__ = ["doctor_lines", "gpu_lines", "host_lines", "process_lines", "version_lines"]

NEARLY_FULL = 0.9
REST = Style(color="#585858")
SOON = 86_400.0
BAR = 24
"""Cells of a card's bars."""


def bar(share: float | None, cells: int) -> list[Run]:
    """A bar of ``cells`` cells for a share of 0 to 1; heavy and light differ without colour."""
    if share is None:
        return [("·" * cells, QUIET)]
    share = max(0.0, min(1.0, share))
    full = max(round(share * cells), 1 if share else 0)
    look = WARM if share >= NEARLY_FULL else GOOD
    return [("━" * full, look), ("─" * (cells - full), REST)]


def gpu_lines(state: GpuState, ours: dict[int, OurProcess], names: dict[str, str]) -> list[Run]:
    """Every GPU with its memory, load and processes, or the one sentence that says why not."""
    if not state.available:
        return [(safe_line(state.reason), PLAIN)]
    runs: list[Run] = []
    for gpu in state:
        if runs:
            runs.append(("\n", PLAIN))
        runs += _one_gpu(gpu, ours, names, state.driver if gpu.index == 0 else None)
    return runs


def _one_gpu(
    gpu: Gpu, ours: dict[int, OurProcess], names: dict[str, str], driver: str | None
) -> list[Run]:
    runs: list[Run] = [(f"{gpu.index}  {clip(gpu.name, 40)}", BOLD)]
    if driver:
        runs.append((f"   driver {clip(driver, 20)}", QUIET))
    runs += [("\n   memory  ", QUIET), *_memory(gpu, ours)]
    busy = None if gpu.utilisation is None else gpu.utilisation / 100
    words = "not told" if gpu.utilisation is None else f"{gpu.utilisation} %"
    runs += [("\n   busy    ", QUIET), *bar(busy, BAR), (f" {words}", PLAIN)]
    facts = []
    if gpu.power is not None:
        limit = f" of {gpu.power_limit:.0f}" if gpu.power_limit else ""
        facts.append(f"{gpu.power:.0f}{limit} W")
    if gpu.temperature is not None:
        facts.append(f"{gpu.temperature} °C")
    if facts:
        runs.append((f"   {'   '.join(facts)}", PLAIN))
    runs += _health(gpu.health)
    for part in gpu.parts:
        runs += [
            (f"\n   part {part.index}  {clip(part.name, 40)}  ", PLAIN),
            (units.of_bytes(part.memory_used, part.memory_total), PLAIN),
        ]
    if gpu.processes is None:
        runs.append(("\n   processes are not told here (inside a container)", QUIET))
    for process in gpu.processes or ():
        runs += [
            (f"\n   {process.pid:>7} {clip(process.name or '?', 18):<18} ", PLAIN),
            (f"{units.bytes_words(process.memory):>9}  ", PLAIN),
        ]
        if (mine := ours.get(process.pid)) is not None:
            runs.append((f"● {_whose(mine, names)}", GOOD))
        else:
            runs.append(("not ours", QUIET))
    return runs


def _memory(gpu: Gpu, ours: dict[int, OurProcess]) -> list[Run]:
    """A bar with our processes' share, the others' and what is free, and the figures."""
    used, total = gpu.memory_used, gpu.memory_total
    figures = f" {units.bytes_words(used)} of {units.bytes_words(total)}"
    if used is None or not total:
        return [*bar(None, BAR), (figures, PLAIN)]
    figures += f" ({100 * used / total:.0f} %)"
    mine = sum(p.memory or 0 for p in gpu.processes or () if p.pid in ours)
    if not mine:
        return [*bar(used / total, BAR), (figures, PLAIN)]
    others = max(0, used - mine)
    full = max(1, round(BAR * min(1.0, used / total)))
    own = min(full, max(1, round(BAR * mine / total)))
    look = WARM if used / total >= NEARLY_FULL else GOOD
    # Short enough for a line of 80 cells: the bar says the percentage.
    parts = [units.of_bytes(part, total).partition("/")[0] for part in (mine, others)]
    figures = f" {units.of_bytes(used, total)}, ours {parts[0]}, others {parts[1]}"
    return [
        ("━" * own, look),
        ("╍" * (full - own), BOLD),
        ("─" * (BAR - full), REST),
        (figures, PLAIN),
    ]


def _health(health: GpuHealth | None) -> list[Run]:
    """A line of clocks and traffic; what is wrong in a line of its own."""
    if health is None:
        return []
    facts = []
    if health.sm_clock is not None:
        most = f"/{health.sm_clock_most:,}" if health.sm_clock_most else ""
        memory = f", memory {health.memory_clock:,}" if health.memory_clock else ""
        facts.append(f"{health.sm_clock:,}{most} MHz{memory}")
    if health.pcie_sent is not None and health.pcie_received is not None:
        sent, received = (units.bytes_words(n) for n in (health.pcie_sent, health.pcie_received))
        facts.append(f"PCIe ↑{sent}/s ↓{received}/s")
    runs: list[Run] = []
    if facts:
        runs += [("\n   clocks  ", QUIET), ("   ".join(facts), PLAIN)]
    wrong = []
    if health.throttled:
        wrong.append(f"held back: {health.throttled}")
    if health.memory_errors:
        count = health.memory_errors
        wrong.append(f"{count:,} memory error{'s' * (count != 1)} that could not be corrected")
    if wrong:
        runs += [("\n   ! ", WARM), ("; ".join(wrong), WARM)]
    return runs


def _whose(process: OurProcess, names: dict[str, str]) -> str:
    if not process.run:
        return process.kind
    return f"run {clip(names.get(process.run, process.run), 30)}, {process.kind}"


def host_lines(host: Host, full_in: float | None = None) -> list[Run]:
    """Memory, processors and disk, each a bar with its figures; seconds until the disk is full."""
    runs: list[Run] = [
        ("memory ", QUIET),
        *bar(host.memory_used / max(1, host.memory_total), 6),
        (f" {_pair(host.memory_used, host.memory_total)}", PLAIN),
        ("\ncpu    ", QUIET),
        *bar(host.cpu_percent / 100, 6),
        (f" {host.cpu_percent:.0f} % of {host.cpu_count}", PLAIN),
    ]
    if host.disk_total and host.disk_free is not None:
        used = host.disk_total - host.disk_free
        runs += [
            ("\ndisk   ", QUIET),
            *bar(used / host.disk_total, 6),
            (f" {units.bytes_words(host.disk_free)} free", PLAIN),
        ]
        if full_in is not None:
            look = WARM if full_in < SOON else PLAIN
            runs.append((f", full in {units.duration(full_in)}", look))
    if host.load is not None:
        runs.append((f"\nload   {host.load:.1f}", QUIET))
    if host.limited:
        runs.append(("\nmemory is the container's", QUIET))
    return runs


def _pair(used: float, total: float) -> str:
    """ "3.1/23.4 GiB": short enough for a narrow pane."""
    if total < 2**30:
        return f"{used / 2**20:.0f}/{total / 2**20:.0f} MiB"
    return f"{used / 2**30:.1f}/{total / 2**30:.1f} GiB"


def process_lines(processes: Iterable[OurProcess], names: dict[str, str], width: int) -> list[Line]:
    """Our processes in at most ``width`` cells, grouped by run, or that there is none."""
    listed = sorted(processes, key=lambda process: (process.run, KINDS.index(process.kind)))
    if not listed:
        return wrap([("No run is going on.", QUIET)], width)
    room = max(6, min(40, width - 30))
    lines = []
    for process in listed:
        name = clip(names.get(process.run, process.run) or "Play", room)
        memory = units.bytes_words(process.memory)
        facts = f" {process.kind:<10} {process.pid:>7} {memory:>9}"
        space = " " * max(0, room - Segment(name).cell_length)
        lines.append(Line([Segment(name, BOLD), Segment(space + facts)]))
    return lines


def version_lines(python: str, versions: dict[str, str | None]) -> list[Run]:
    runs: list[Run] = [(f"{'python':<13} ", QUIET), (python, PLAIN)]
    for package, version in versions.items():
        runs.append((f"\n{package:<13} ", QUIET))
        runs.append((clip(version, 24), PLAIN) if version else ("not installed", QUIET))
    return runs


KINDS = ("supervisor", "worker", "child", "playground")
MARKS = {"fail": ("✗ ", BAD), "note": ("! ", WARM), "ok": ("✓ ", GOOD)}


def doctor_lines(found: Iterable[Check], width: int) -> list[Line]:
    """Problems first; what to do about each on lines of its own."""
    lines: list[Line] = []
    for check in sorted(found, key=lambda check: list(MARKS).index(check.mark)):
        name = clip(check.name, 13)
        look = BAD if check.mark == "fail" else BOLD if check.mark == "note" else PLAIN
        head: list[Run] = [MARKS[check.mark], (f"{name:<13} ", look)]
        lines += hanging(head, safe_line(check.words), PLAIN, width)
        if check.advice:
            lines += hanging([("  → ", WARM)], safe_line(check.advice), WARM, width)
    return lines or [Line([Segment("")])]
