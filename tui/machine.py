"""The gauge of the Train screen: the devices that the run uses, or those of this machine."""

from typing import Any

from tui.acts import Reading
from tui.feed import RunDetail
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
            Bar("memory", share, of_bytes(memory, total)),
            Bar("busy", busy / 100 if busy is not None else None, busy_words),
        ]
    else:
        title, bars = "no GPU: host memory", _host(reading)
    row = detail.row if detail else None
    if len(used) <= 1 and row is not None and (row.memory_bytes or row.peak_memory_bytes):
        peak = f", peak {bytes_words(row.peak_memory_bytes)}" if row.peak_memory_bytes else ""
        bars.append(Bar("run", None, f"{bytes_words(row.memory_bytes)}{peak}"))
    return title, bars


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


def _host(reading: Reading) -> list[Bar]:
    bars = []
    used, total = reading.host_used, reading.host_total
    if total and used is not None:
        bars.append(Bar("memory", used / total, of_bytes(used, total)))
    if reading.cpu is not None:
        bars.append(Bar("CPU", reading.cpu / 100, f"{reading.cpu:.0f} %"))
    return bars
