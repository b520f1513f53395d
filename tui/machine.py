"""The gauge of the Train screen: the devices that the run uses, or those of this machine."""

from dataclasses import replace
from typing import Any

from engine.history.row import ENDS
from tui.acts import Reading
from tui.feed import RunDetail
from tui.stackedbar import ESTIMATE, FREE, OTHERS, PEAK, THIS_RUN
from tui.widgets.gauge import Bar
from tui.words import bytes_words, of_bytes

__all__ = ["machine_bars"]

MOST_DEVICES = 16


def machine_bars(reading: Reading, detail: RunDetail | None) -> tuple[str, list[Bar]]:
    """(title, bars): memory and load of one device, or a line a device where there are several."""
    used = _devices(detail)
    if len(used) > 1:
        title, bars = f"{len(used)} GPUs of the run", [_of_run(*one) for one in used]
    elif len(reading.gpus) > 1:
        title, bars = f"{len(reading.gpus)} GPUs", [_compact(*gpu) for gpu in reading.gpus]
    elif reading.gpus:
        index, name, memory, total, busy = reading.gpus[0]
        title = f"GPU {index} {name}"
        share = memory / total if memory is not None and total else None
        busy_words = f"{busy} %" if busy is not None else "not told"
        bars = [
            _with_run(Bar("memory", share, of_bytes(memory, total)), memory, total, detail, "cuda"),
            Bar("busy", None if busy is None else busy / 100, busy_words, full_is_bad=False),
        ]
    else:
        title, bars = "no GPU: host memory", _host(reading, detail)
    if len(used) <= 1 and detail is not None:
        bars += _run_lines(detail)
    return title, bars


def _with_run(
    bar: Bar, used: int | None, total: int | None, detail: RunDetail | None, device: str
) -> Bar:
    """The bar with the run's part told from the others', its peak and what was estimated."""
    row = detail.row if detail else None
    if row is None or not used or not total or not row.memory_bytes or row.state in ENDS:
        return bar
    if not (row.device or "").startswith(device):
        return bar
    held = min(used, row.memory_bytes)
    parts = ((THIS_RUN, held / total), (OTHERS, (used - held) / total), (FREE, 1 - used / total))
    marks = (
        (mark, size / total)
        for mark, size in ((PEAK, row.peak_memory_bytes), (ESTIMATE, row.estimated_peak_bytes))
        if size
    )
    return replace(bar, parts=parts, marks=tuple(marks))


def _run_lines(detail: RunDetail) -> list[Bar]:
    """What the run holds, and its peak beside the estimate: words that explain the bar's signs."""
    row = detail.row
    ended = row.state in ENDS
    peak, estimate = row.peak_memory_bytes, row.estimated_peak_bytes
    bars = []
    if row.memory_bytes:
        sign = "" if ended else THIS_RUN
        bars.append(Bar("run", None, bytes_words(row.memory_bytes), sign=sign))
    if peak:
        words = marked = bytes_words(peak)
        if estimate:
            figure = of_bytes(estimate, peak).partition("/")[0]
            words, marked = f"{words}, est. {figure}", f"{words}, est. {ESTIMATE} {figure}"
        bars.append(Bar("peak", None, words, sign="" if ended else PEAK, marked=marked))
    return bars


def _devices(detail: RunDetail | None) -> list[tuple[str, dict[str, Any]]]:
    """The GPUs that the run told of, in the order of their numbers."""
    if detail is None:
        return []
    found = [(name, one) for name, one in detail.memory.items() if name.startswith("cuda")]
    return sorted(found, key=lambda one: (len(one[0]), one[0]))[:MOST_DEVICES]


def _of_run(name: str, reading: dict[str, Any]) -> Bar:
    return _compact(
        name.rpartition(":")[2] or name,
        "",
        reading.get("used_bytes"),
        reading.get("total_bytes"),
        reading.get("utilisation"),
    )


def _compact(index: object, name: str, used: Any, total: Any, busy: Any) -> Bar:
    share = used / total if isinstance(used, int) and isinstance(total, int) and total else None
    load = f" {busy:.0f} %" if isinstance(busy, int | float) else ""
    return Bar(str(index)[:4], share, of_bytes(used, total) + load)


def _host(reading: Reading, detail: RunDetail | None) -> list[Bar]:
    bars = []
    used, total = reading.host_used, reading.host_total
    if total and used is not None:
        bar = Bar("memory", used / total, of_bytes(used, total))
        bars.append(_with_run(bar, used, total, detail, "cpu"))
    if reading.cpu is not None:
        words = f"{reading.cpu:.0f} %"
        bars.append(Bar("CPU", reading.cpu / 100, words, full_is_bad=False))
    return bars
