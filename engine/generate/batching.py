"""Answers any number of prompts with a fixed number of slots: one that is done takes the next.

Prompts are sorted by length, the longest first, and those that need about as much room share one
set of slots. How many slots there are follows from the memory that is free.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import torch

from engine.generate.mixing import Mixture
from engine.generate.sampling import Cancelled, picking
from engine.generate.stepper import Made, Stepper
from engine.recipe import GenerateSection

if TYPE_CHECKING:
    from engine.generate.models import Base

__all__ = ["MOST_ROWS", "MOST_ROWS_CPU", "Asked", "answer_in_slots", "free_memory", "most_room"]

MOST_ROWS = 256
MOST_ROWS_CPU = 32

FEW_ROWS = 8
"""So few answers are somebody's who waits. On a GPU they get slots of one size for every prompt,
which are kept: recording a step takes longer than a short answer."""

FEW_CAPACITY = 1024
LEAST_CAPACITY = 64

PREFILL_TOKENS = 8192
"""Prompts are read together up to this many tokens, padding included."""

REFILL_SHARE = 4
"""New prompts are read when a quarter of the slots is free: reading a few costs as much as reading
many, and an idle slot costs little meanwhile."""

MEMORY_SHARE = 0.5
"""Of the memory that is free: what others on the same card may want soon is theirs."""


Picked = tuple[float, ...]
GREEDY = GenerateSection()


@dataclass(eq=False)
class Asked:
    """One prompt and what became of it so far."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    adapter: str
    seed: int
    room: int
    """Tokens that the answer may have, at least one."""
    ends: frozenset[int]
    """Tokens that end the answer."""
    settings: GenerateSection = GREEDY
    """How its tokens are picked; those that are picked for alike share slots."""
    probabilities: bool = False
    """Whether :attr:`odds` are wanted."""
    ids: list[int] = field(default_factory=list)
    """The answer's tokens."""
    odds: list[float] = field(default_factory=list)
    """How likely the model itself found each of them, where that was asked for."""

    @property
    def how(self) -> Picked:
        """What a set of slots has in common: how tokens are picked, and whether odds are kept."""
        return (*picking(self.settings), self.probabilities)

    @property
    def need(self) -> int:
        """Tokens that it takes in a slot."""
        return len(self.prompt) + self.room


OnToken = Callable[[Asked, int | None, str | None], bool | None]
"""(whose, its next token or None, None or why it ends: "eos", "length", "cancelled").

True: the answer ends with this token all the same."""


def most_room(base: "Base", asked: Sequence[Asked]) -> int:
    """Tokens of the slots that hold the longest of these."""
    return max(_groups(base, asked))


def answer_in_slots(
    base: "Base",
    asked: Sequence[Asked],
    on_token: OnToken,
    cancelled: Cancelled,
    *,
    mixed: bool = True,
) -> None:
    """Answer them all, in whatever order is fastest; a few side by side.

    Each slot is picked for by its own answer's settings; many are sorted by them. ``mixed``:
    whether their adapters can share a batch (:func:`engine.generate.mixing.can_mask`). The base's
    attention must be that of slots (:func:`engine.generate.fit.take_slots`).
    """
    few = len(asked) <= FEW_ROWS
    parts: dict[tuple[str, Picked], list[Asked]] = {}
    for one in asked:
        alike = () if few and _fits(base, asked) else one.how
        parts.setdefault(("" if mixed else one.adapter, alike), []).append(one)
    groups = [group for part in parts.values() for group in _groups(base, part).items()]
    kept = few and not base.borrowed
    for side_by_side in [groups] if few else [[group] for group in groups]:
        try:
            _answer_side_by_side(base, side_by_side, on_token, cancelled)
        finally:
            if not kept:
                base.steppers = []  # freed before those of the next size are made


def _fits(base: "Base", few: Sequence[Asked]) -> bool:
    """Whether a few can have a slot each at the same time, whatever their settings."""
    return _rows(base, len(few), most_room(base, few)) == len(few)


Group = tuple[int, list[Asked]]
"""Size of a slot, and who gets one of that size: in the order of the slots, where all have one."""


def _answer_side_by_side(
    base: "Base",
    groups: Sequence[Group],
    on_token: OnToken,
    cancelled: Cancelled,
) -> None:
    """A step of each group in turn."""
    with base.without_gradients():
        steppers = _steppers(base, groups)
        batches = [
            _Batch(stepper, group, on_token, cancelled).steps()
            for stepper, (_, group) in zip(steppers, groups, strict=True)
        ]
        # With several, each step changes the adapters.
        with steppers[0].mixture.active() if len(steppers) == 1 else contextlib.nullcontext():
            while batches:
                batches = [batch for batch in batches if next(batch, "done") != "done"]


def _groups(base: "Base", asked: Sequence[Asked]) -> dict[int, list[Asked]]:
    """Size of a slot -> who gets one of that size; the largest size first."""
    few = len(asked) <= FEW_ROWS
    kept = few and not base.borrowed and base.device.startswith("cuda")
    most = base.context or max(one.need for one in asked)

    def rounded(need: int) -> int:
        size = FEW_CAPACITY if kept else LEAST_CAPACITY
        while size < need:
            size *= 2
        return max(min(size, most), need)

    if few:  # side by side; those that are picked for alike in neighbouring slots
        ordered = sorted(asked, key=lambda one: one.how)
        return {rounded(max(one.need for one in asked)): ordered}
    groups: dict[int, list[Asked]] = {}
    for one in sorted(asked, key=lambda one: -len(one.prompt)):
        groups.setdefault(rounded(one.need), []).append(one)
    return dict(sorted(groups.items(), reverse=True))


class _Batch:
    def __init__(
        self, stepper: Stepper, asked: Sequence[Asked], on_token: OnToken, cancelled: Cancelled
    ) -> None:
        self.stepper = stepper
        self.waiting = deque(asked)
        self.on_token, self.cancelled = on_token, cancelled
        self.slots: list[Asked | None] = [None] * stepper.rows

    def steps(self) -> Iterator[None]:
        """Fill, step, hand on, until nobody waits; yields after each step.

        On a GPU a step is begun before the tokens of the one before are looked at, so that the GPU
        never waits; the price is one token too many for an answer that has just ended.
        """
        behind = 1 if self.stepper.device.startswith("cuda") else 0
        begun: deque[tuple[list[Asked | None], Callable[[], Made]]] = deque()
        while not self.cancelled.requested:
            self._refill()
            if any(self.slots):
                begun.append((list(self.slots), self.stepper.step()))
            elif not begun:
                break
            while begun and (len(begun) > behind or not any(self.slots)):
                owners, read = begun.popleft()
                self._hand_on(owners, *read())
            yield
        for one in (*self.slots, *self.waiting):
            if one is not None:
                self.on_token(one, None, "cancelled")

    def _refill(self) -> None:
        free = deque(number for number, one in enumerate(self.slots) if one is None)
        if len(free) < len(self.waiting) and len(free) * REFILL_SHARE < len(self.slots):
            return
        while free and self.waiting and not self.cancelled.requested:
            slots: list[int] = []
            chosen: list[Asked] = []
            longest = 0
            while free and self.waiting:
                longest = max(longest, len(self.waiting[0].prompt))
                if chosen and longest * (len(chosen) + 1) > PREFILL_TOKENS:
                    break
                slots.append(free.popleft())
                chosen.append(self.waiting.popleft())
            self.stepper.fill(
                slots,
                [one.prompt for one in chosen],
                [one.adapter for one in chosen],
                [one.seed for one in chosen],
            )
            for number, one in zip(slots, chosen, strict=True):
                self.slots[number] = one

    def _hand_on(
        self, owners: list[Asked | None], tokens: list[int], odds: list[float] | None
    ) -> None:
        for number, (one, token) in enumerate(zip(owners, tokens, strict=True)):
            if one is None or self.slots[number] is not one:
                continue  # nobody's, or a step too many
            end = None
            if token in one.ends:
                end = "eos"
            else:
                one.ids.append(token)
                if odds is not None:
                    one.odds.append(odds[number])
                if len(one.ids) >= one.room:
                    end = "length"
            if end:
                self.slots[number] = None
            if self.on_token(one, None if end == "eos" else token, end):
                self.slots[number] = None


def _steppers(base: "Base", groups: Sequence[Group]) -> list[Stepper]:
    """Slots for each of these groups; those of the last prompt again where they are the same."""
    wanted = []
    for capacity, group in groups:
        hows = [one.how for one in group]
        if len(set(hows)) == 1:
            hows = hows[:1] * _rows(base, len(group), capacity)
        wanted.append((len(hows), capacity, sorted({one.adapter for one in group}), hows))
    kept: dict[int, Stepper] = {}
    for stepper in base.steppers:
        held = (stepper.rows, stepper.capacity, stepper.mixture.adapters, stepper.how)
        # One each: two groups may want slots of the same kind (adapters that cannot be mixed).
        fits = [n for n, want in enumerate(wanted) if want == held and n not in kept]
        if fits:
            kept[fits[0]] = stepper
    base.steppers = []  # what is not needed again is free before more is taken
    for number, (rows, capacity, adapters, hows) in enumerate(wanted):
        if number not in kept:
            mixture = Mixture(base, adapters, rows)
            by_how = {one.how: one.settings for one in groups[number][1]}
            settings = [by_how[how] for how in hows]
            kept[number] = Stepper(base, rows, capacity, settings, mixture, bool(hows[0][-1]))
            kept[number].capture()
    base.steppers = [kept[number] for number in range(len(wanted))]
    return list(base.steppers)


def _rows(base: "Base", wanted: int, capacity: int) -> int:
    """As many as are wanted and have room in memory; of many on a GPU a power of two."""
    room = int(MEMORY_SHARE * free_memory(base.device) / _slot_bytes(base, capacity))
    most = MOST_ROWS_CPU
    if base.device.startswith("cuda"):
        most = MOST_ROWS
        if wanted > FEW_ROWS:
            wanted = 1 << (wanted - 1).bit_length()
    return max(1, min(most, room, wanted))


def free_memory(device: str) -> int:
    """Bytes: what the GPU has left (with what PyTorch holds unused), or this machine."""
    if not device.startswith("cuda"):
        return psutil.virtual_memory().available
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _slot_bytes(base: "Base", capacity: int) -> int:
    """What one slot takes: its keys and values, and logits a few times over."""
    config = base.bare.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_each = base.bare.get_input_embeddings().weight.element_size()
    cache = 2 * config.num_hidden_layers * heads * size * capacity * bytes_each
    return int(cache + 6 * 4 * config.vocab_size)
