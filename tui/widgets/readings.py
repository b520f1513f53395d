"""What the readings of host and installation look like as text."""

from collections.abc import Iterable

from rich.segment import Segment

from engine.system.doctor import Check
from engine.system.host import Host, OurProcess
from engine.text import clip, safe_line
from tui import words as units
from tui.widgets.gpulines import bar
from tui.widgets.lines import BAD, BOLD, GOOD, PLAIN, QUIET, WARM, Line, Run, hanging, wrap

__all__ = ["doctor_lines", "host_lines", "process_lines", "version_lines"]

SOON = 86_400.0


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
