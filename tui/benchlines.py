"""The last bench as a small table: the contestants on one set of rows, the fastest first."""

import time
from collections.abc import Mapping
from typing import Any

from rich.segment import Segment

from engine.text import clip, safe_line
from tui.widgets.lines import BAD, BOLD, PLAIN, QUIET, Line, wrap
from tui.words import NOTHING

__all__ = ["NONE_YET", "bench_day", "bench_lines", "bench_title"]

NONE_YET = "none yet: tunebench bench"
LABEL = 22
COLUMNS = (("tok/s", 8), ("x best", 7), ("limit", 6), ("s/step", 8), ("GB", 7))
"""As many as there is room for, after the contestant's name."""
SETS = ("corpus", "full")


def bench_title(bench: Mapping[str, Any] | None) -> str:
    """The pane's title: who was the fastest, and how fast, however little room there is below."""
    shown = _shown(bench) if bench else []
    if not shown:
        return "Last bench"
    return (
        f"Last bench: {clip(str(shown[0].get('label')), LABEL)} {_figure(shown[0], 'tok/s')} tok/s"
    )


def bench_day(bench: Mapping[str, Any] | None) -> str:
    """When it was, as 2026-11-24; empty without one."""
    if bench is None:
        return ""
    return time.strftime("%Y-%m-%d", time.localtime(bench.get("t") or 0))


def bench_lines(bench: Mapping[str, Any] | None, gpus: set[str], width: int) -> list[Line]:
    """The table in at most ``width`` cells, or how to make one.

    It names its device when that is not one of these GPUs (none: the CPU).
    """
    if bench is None:
        return wrap([(NONE_YET, QUIET)], width)
    columns, room = [], width - LABEL
    for name, cells in COLUMNS:
        if (room := room - cells) >= 0:
            columns.append((name, cells))
    label = min(LABEL, width)
    gpu = bench.get("gpu")
    here = gpu in gpus if gpus else gpu is None
    device = "" if here else clip(str(gpu or "CPU"), label)
    head = f"{device:<{label}}" + "".join(f"{name:>{cells}}" for name, cells in columns)
    lines = [Line([Segment(head, QUIET)])]
    for one in _shown(bench):
        name = f"{clip(str(one.get('label')), label):<{label}}"
        if not one.get("step_seconds"):
            why = safe_line(str(one.get("reason") or one.get("state")))
            words = clip(why, max(1, width - label - 1))
            lines.append(Line([Segment(name, PLAIN), Segment(f" {words}", BAD)]))
            continue
        figures = "".join(f"{_figure(one, name):>{cells}}" for name, cells in columns)
        look = BOLD if one.get("to_best") == 1 else PLAIN
        lines.append(Line([Segment(name, look), Segment(figures, look)]))
    return lines


def _shown(bench: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results on the first set of rows that has any, by speed."""
    results = bench.get("results") or []
    for name in SETS:
        own = [one for one in results if isinstance(one, dict) and one.get("rows") == name]
        if any(one.get("step_seconds") for one in own):
            return sorted(own, key=lambda one: one.get("step_seconds") or float("inf"))
    return []


def _figure(one: Mapping[str, Any], column: str) -> str:
    key, form, scale = {
        "tok/s": ("tokens_per_second", ",.0f", 1.0),
        "x best": ("to_best", ".2f", 1.0),
        "limit": ("to_limit", ".0%", 1.0),
        "s/step": ("step_seconds", ".3f", 1.0),
        "GB": ("peak_memory_bytes", ".1f", 1e9),
    }[column]
    value = one.get(key)
    return format(value / scale, form) if isinstance(value, int | float) else NOTHING
