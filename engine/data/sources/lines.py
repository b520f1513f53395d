"""From unpacked pieces to blocks of whole lines: JSON Lines as they go to the workers."""

from collections.abc import Iterator

from engine.data.sources.encodings import BOM
from engine.data.sources.files import Cut, FileNotes

__all__ = ["MAX_LINE_BYTES", "cut_lines"]

MAX_LINE_BYTES = 32 << 20
"""A longer line is not kept: a small gzip file can hold a line larger than any memory, and cleaning
takes some 37 times a line's size (7.4 GB for one of 200 MB)."""


def cut_lines(
    pieces: Iterator[bytes], path: str, notes: FileNotes, number: int = 1, offset: int = 0
) -> Iterator[Cut]:
    """Blocks of whole lines, without the last line end; ``number``: of the line at ``offset``.

    A line that is longer than :data:`MAX_LINE_BYTES` is represented by a byte that is no JSON.
    """
    position = line_start = offset
    carried = 0
    carry: list[bytes] = []
    skipping = False
    for piece in pieces:
        if not position and piece.startswith(BOM):
            notes.repairs["bom"] += 1
            piece = piece[len(BOM) :]
            position = line_start = len(BOM)
        end = piece.rfind(b"\n")
        if end < 0:
            carried += len(piece)
            position += len(piece)
            skipping = skipping or carried > MAX_LINE_BYTES
            carry = [] if skipping else [*carry, piece]
            continue
        if skipping:
            _too_long(path, number, notes)
            skipping = False
            data = b"\xff" + piece[piece.index(b"\n") : end]
        else:
            data = b"".join([*carry, memoryview(piece)[:end]])
        lines = data.count(b"\n") + 1
        yield Cut(number, lines, _rows(data, lines), line_start, 0, data)
        number += lines
        line_start = position + end + 1
        position += len(piece)
        carry = [piece[end + 1 :]]
        carried = len(carry[0])
    if skipping:
        _too_long(path, number, notes)
        yield Cut(number, 1, 1, line_start, 0, b"\xff")
    elif carried:
        data = b"".join(carry)
        yield Cut(number, 1, _rows(data, 1), line_start, 0, data)


def _rows(data: bytes, lines: int) -> int:
    """Lines that are not blank; one look at the block for files that have no blank ones."""
    import numpy as np

    whole = np.frombuffer(data, dtype=np.uint8)
    # Searching for a line end with a space behind it takes 1 ms a megabyte, this a tenth of it.
    begins = whole[np.flatnonzero(whole[:-1] == 10) + 1]
    if not data or data[0] <= 32 or data[-1] == 10 or (begins <= 32).any():
        return sum(bool(line) and not line.isspace() for line in data.split(b"\n"))
    return lines


def _too_long(path: str, number: int, notes: FileNotes) -> None:
    notes.repairs["line_too_long"] += 1
    notes.warnings.append(
        f"{path}: line {number} is longer than {MAX_LINE_BYTES >> 20} MiB and was not read"
    )
