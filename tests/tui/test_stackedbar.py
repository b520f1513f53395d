"""Bars of several parts, with marks."""

import pytest

from tui.stackedbar import stacked


@pytest.mark.parametrize(
    ("shares", "marks", "cells", "expected"),
    [
        ((0.5, 0.25), (), 8, "━━━━╍╍──"),
        ((0.0, 0.0), (), 4, "────"),
        ((1.0, 0.0), (), 4, "━━━━"),
        ((0.001, 0.001), (), 8, "━╍──────"),
        ((0.99, 0.5), (), 4, "━━━━"),
        ((0.5, 0.0), (("P", 0.75), ("E", 1.0)), 8, "━━━━─P─E"),
        ((0.5, 0.0), (("P", 0.75), ("E", 0.75)), 8, "━━━━─PE─"),
        ((0.5, 0.0), (("P", 9.0), ("E", -1.0)), 8, "E━━━───P"),
        ((0.5, 0.0), (("P", 0.5),), 0, ""),
    ],
)
def test_parts_and_marks(
    shares: tuple[float, float], marks: tuple[tuple[str, float], ...], cells: int, expected: str
) -> None:
    parts = [*zip("━╍", shares, strict=True), ("─", 0.0)]
    pieces = stacked(parts, marks, cells)
    assert "".join(pieces) == expected
    assert all(len(set(piece)) == 1 for piece in pieces), "one look each"
