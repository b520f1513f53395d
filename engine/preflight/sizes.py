"""What another recipe would take of memory, for whoever has to find one that fits."""

from collections.abc import Callable

from engine.errors import UserError
from engine.preflight.memory import Setup, estimate
from engine.preflight.place import find_place
from engine.preflight.shape import read_shape
from engine.recipe import Recipe

__all__ = ["peak_bytes"]


def peak_bytes(recipe: Recipe) -> Callable[[Recipe], int] | None:
    """A function: the estimated peak in bytes of a variant of ``recipe``, by arithmetic alone.

    Every row counts as ``max_length`` long. None where the model's shape is not known here.
    """
    try:
        shape = read_shape(recipe)
        setup: Setup = find_place(recipe).setup
    except UserError:
        return None

    def peak(variant: Recipe) -> int:
        tokens = variant.train.max_length
        return estimate(variant, shape, setup, tokens, tokens).peak

    return peak
