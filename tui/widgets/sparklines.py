"""The last ten minutes of several devices, a line each."""

from rich.segment import Segment

from tui import words as units
from tui.history import METRICS, WINDOW_SECONDS, Track
from tui.widgets.lines import ACCENT, BOLD, GOOD, PLAIN, QUIET, WARM, Line

__all__ = ["spark", "spark_lines"]

BLOCKS, SIGNS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
"""From nothing to the most; SIGNS: where there are no such characters."""
LOOKS = {"busy": GOOD, "memory": ACCENT, "power": WARM, "temperature": PLAIN}
COLD, HOT = 20.0, 95.0
"""°C at the bottom and the top."""


def spark(track: Track, metric: str, now: float, cells: int, ascii_only: bool = False) -> str:
    """One character for each piece of the last ten minutes; a space where nothing was read.

    Of the readings of a piece the one that should not be missed: the least busy one, else the
    highest.
    """
    signs, place = SIGNS if ascii_only else BLOCKS, 1 + METRICS.index(metric)
    low, high = _range(track, metric)
    pieces: list[float | None] = [None] * cells
    for point in track.points:
        at = cells - 1 - int((now - point[0]) / WINDOW_SECONDS * cells)
        value = point[place]
        if not 0 <= at < cells or value != value:
            continue
        known = pieces[at]
        worse = min if metric == "busy" else max
        pieces[at] = value if known is None else worse(known, value)
    text = []
    for piece in _joined(pieces, track, cells):
        if piece is None:
            text.append(" ")
            continue
        share = (piece - low) / (high - low) if high > low else 0.0
        text.append(signs[max(0, min(7, int(share * 8)))])
    return "".join(text)


def _joined(pieces: list[float | None], track: Track, cells: int) -> list[float | None]:
    """A piece that is shorter than the time between two readings goes on with the one before."""
    from tui.history import GAP_SECONDS

    reach = int(GAP_SECONDS / (WINDOW_SECONDS / cells))
    made: list[float | None] = []
    last, ago = None, 0
    for piece in pieces:
        last, ago = (piece, 0) if piece is not None else (last, ago + 1)
        made.append(last if ago <= reach else None)
    return made


def _range(track: Track, metric: str) -> tuple[float, float]:
    if metric == "busy":
        return 0.0, 100.0
    if metric == "temperature":
        return COLD, HOT
    told = track.memory_total if metric == "memory" else track.power_limit
    if told:
        return 0.0, float(told)
    place = 1 + METRICS.index(metric)
    return 0.0, max((p[place] for p in track.points if p[place] == p[place]), default=1.0) or 1.0


def _now(track: Track, metric: str) -> str:
    value = track.last(metric)
    if value is None:
        return "?"
    if metric == "memory":
        return units.of_bytes(value, track.memory_total).partition("/")[0]
    return f"{value:.0f}"


def spark_lines(
    tracks: list[Track], metric: str, now: float, width: int, ascii_only: bool = False
) -> list[Line]:
    """A line for each device: its number, its ten minutes, and what it does now."""
    label = max((len(track.label) for track in tracks), default=1)
    figures = [_now(track, metric) for track in tracks]
    figure = max((len(words) for words in figures), default=1)
    cells = max(4, width - label - figure - 2)
    lines = []
    for track, words in zip(tracks, figures, strict=True):
        curve = spark(track, metric, now, cells, ascii_only)
        lines.append(
            Line(
                [
                    Segment(f"{track.label:>{label}} ", QUIET),
                    Segment(curve, LOOKS[metric]),
                    Segment(f" {words:>{figure}}", BOLD),
                ]
            )
        )
    return lines
