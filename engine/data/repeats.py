"""Which rows repeat an earlier one: exactly, or nearly. Sees all rows, in the source's order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.data.rules.near import NearIndex, Signatures
from engine.sections.data import CleanSection

if TYPE_CHECKING:
    from engine.data.clean import Marks

__all__ = ["Repeats"]


class Repeats:
    """The rules ``duplicates`` and ``near_duplicates`` over one stream of candidates.

    Holds a hash and a line number for every row that is kept: some 180 bytes each.
    """

    def __init__(self, clean: CleanSection) -> None:
        self._exact = clean.has("duplicates")
        self._exact_reason = f"duplicate_{clean.duplicates.by}"
        self._first: dict[int, int] = {}
        near = clean.near_duplicates
        self._near = NearIndex(near) if clean.has("near_duplicates") else None
        self._drop_near = near.action == "drop"
        self.near_pairs: list[tuple[int, int]] = []
        """(line, earlier line) of kept rows that are nearly the same, when only counted."""

    def sift(self, lines: Sequence[int], marks: "Marks") -> list[tuple[int, str, str]]:
        """(place among the candidates, reason, evidence) of those to drop, in order."""
        dropped: dict[int, tuple[str, int]] = {}
        if self._exact:
            first_of = self._first.setdefault
            for place, (key, line) in enumerate(zip(marks.keys, lines, strict=True)):
                first = first_of(key, line)
                if first != line:
                    dropped[place] = (self._exact_reason, first)
        if self._near is not None:
            places = [place for place in range(len(lines)) if place not in dropped]
            signatures = Signatures(*(values[places] for values in marks.signatures))
            nears = self._near.add([lines[place] for place in places], signatures)
            for place, near in zip(places, nears, strict=True):
                if near and self._drop_near:
                    dropped[place] = ("near_duplicate", near)
                elif near:
                    self.near_pairs.append((lines[place], near))
        return [
            (place, reason, f"{'nearly ' * (reason == 'near_duplicate')}repeats line {first}")
            for place, (reason, first) in sorted(dropped.items())
        ]
