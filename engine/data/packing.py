"""Which rows share a sequence of ``max_length`` tokens: best fit decreasing, TRL's "bfd" strategy.

A row is never split. The same lengths always give the same sequences.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence

__all__ = ["pack", "position_ids"]


def pack(lengths: Sequence[int], size: int) -> list[list[int]]:
    """The sequences, each as the numbers of its rows in rising order.

    ``lengths`` are the rows' tokens, each at most ``size``. The longest row comes first; every row
    goes where it leaves the least room, into a new sequence where it fits nowhere.
    """
    sequences: list[list[int]] = []
    rooms: list[int] = []  # rising, every room once
    with_room: defaultdict[int, deque[list[int]]] = defaultdict(deque)
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        if length > size:
            raise ValueError(f"row {number} has {length} tokens, more than {size}")
        place = bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms[place]
            sequence = with_room[room].popleft()
            if not with_room[room]:
                del rooms[place]
        else:
            room, sequence = size, []
            sequences.append(sequence)
        sequence.append(number)
        if room := room - length:
            if not with_room[room]:
                insort(rooms, room)
            with_room[room].append(sequence)
    for sequence in sequences:
        sequence.sort()
    return sequences


def position_ids(lengths: Sequence[int]) -> list[int]:
    """The places of a sequence's tokens, each row's counted from 0: so attention stays in a row."""
    return [place for length in lengths for place in range(length)]
