"""What went wrong with the GPUs, as text."""

import time
from collections.abc import Sequence

from engine.system.gpu import GpuState
from engine.system.gpu_events import GpuEvent
from engine.text import safe_line
from tui.widgets.lines import BAD, PLAIN, QUIET, WARM, Run

__all__ = ["event_lines"]


def event_lines(events: Sequence[GpuEvent], state: GpuState) -> list[Run]:
    """Every error of a GPU with its time, the newest first; or that there was none."""
    if not events:
        if not state.available and not state.lost:
            return [(f"No error of a GPU can be heard of. {safe_line(state.reason)}", QUIET)]
        words = "No error (Xid) and no memory error (ECC) of a GPU was heard of."
        return [(words, PLAIN)]
    runs: list[Run] = []
    for event in events:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
        card = "a GPU" if event.gpu is None else f"GPU {event.gpu}"
        look = BAD if event.grave else WARM
        whose = "hardware or driver" if event.grave else "a program"
        runs += [
            (("\n" if runs else "") + stamp, QUIET),
            (f"  {card:<6} ", PLAIN),
            (f"{'✗' if event.grave else '!'} {event.words}", look),
            (f"  ({whose})", QUIET),
        ]
    return runs
