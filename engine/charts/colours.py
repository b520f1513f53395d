"""The colours of series; apart from the lines, so that whoever only names them needs no numpy."""

__all__ = ["SERIES_COLOURS"]

SERIES_COLOURS = ("#5fafff", "#ffd75f", "#87d787", "#ff87d7", "#87d7d7", "#ffaf5f")
"""Colours of series on a dark ground, each also told apart by its line mark."""
