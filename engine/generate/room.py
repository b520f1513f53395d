"""Whether a model may be loaded: is there memory for it, and does a training run need that memory.

Torch-free: what it knows of a model are its files.
"""

from engine.errors import NeedsConsent, UserError
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.jobs.leases import devices, run_on, visible_here
from engine.jobs.lock import is_alive
from engine.preflight.shape import read_shape
from engine.recipe import Recipe
from engine.words import bytes_words

__all__ = ["ask_leave", "bytes_needed", "check_room"]

ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}
PACKED = 0.5 + 1 / 32
"""Bytes of a weight in 4 bits with its share of the scales."""
SPARE = 1.05
"""What an allocator and the pieces in flight while loading take besides."""


def bytes_needed(recipe: Recipe, dtype: str) -> int | None:
    """What the recipe's model takes once it is loaded; None where its files do not tell."""
    try:
        shape = read_shape(recipe)
    except (UserError, OSError, ValueError):
        return None  # not fetched yet, or not a decoder: loading will say
    packed = 0
    if recipe.model.load_in_4bit:
        packed = sum(out * into for out, into in shape.linears().values())
    whole = shape.parameters - packed
    return int(SPARE * (whole * ITEM.get(dtype, 4) + packed * PACKED))


def check_room(name: str, needed: int, free: int, device: str) -> None:
    """Raises :class:`UserError` when a model does not fit into what is free."""
    if needed <= free:
        return
    where = "the GPU" if device.startswith("cuda") else "this machine"
    raise UserError(
        f"{name} needs about {bytes_words(needed)} of memory, {where} has {bytes_words(free)} free;"
        " end what else uses it, leave out other columns, or load it in 4 bits "
        "(model.load_in_4bit = true)"
    )


def ask_leave(home: Home, device: str) -> None:
    """Raises :class:`NeedsConsent` while a training run of this home holds that GPU."""
    if not device.startswith("cuda"):
        return
    number = int(device.partition(":")[2] or 0)
    seen = devices(visible_here())
    if number >= len(seen):
        return
    run = run_on(home, seen[number].uuid)
    if run is None or not is_alive(folder := RunFolder(home.runs / run)):
        return
    raise NeedsConsent(
        f"run {folder.name} is training on {seen[number].words}: a model beside it takes memory "
        "that the run may need, and slows it down"
    )
