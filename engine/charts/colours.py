"""Colours of charts; apart from the lines, so that whoever only names them needs no numpy."""

from dataclasses import dataclass

__all__ = ["DARK", "LIGHT", "PAGE", "SERIES_COLOURS", "Palette"]

SERIES_COLOURS = ("#5fafff", "#ffd75f", "#87d787", "#ff87d7", "#87d7d7", "#ffaf5f")
"""Colours of series on a dark ground, each also told apart by its line mark."""


@dataclass(frozen=True)
class Palette:
    """Whatever SVG takes as a colour."""

    back: str
    fore: str
    quiet: str
    grid: str
    wrong: str
    series: tuple[str, ...] = SERIES_COLOURS


DARK = Palette("#121212", "#d0d0d0", "#9e9e9e", "#303030", "#ff8787")
LIGHT = Palette(
    "#ffffff",
    "#202124",
    "#5f6368",
    "#e3e5e8",
    "#c5221f",
    series=("#1a66c2", "#b06000", "#1e7e34", "#b0207a", "#00757d", "#7a4fbf"),
)
"""For paper, and pages whose ground is not known: at least 4.5:1 on white, but for the grid."""
PAGE = Palette(
    "var(--back)",
    "var(--fore)",
    "var(--quiet)",
    "var(--grid)",
    "var(--wrong)",
    series=tuple(f"var(--series{number})" for number in range(6)),
)
"""Custom properties of the page that the SVG stands in: the page decides."""
