"""What the preflight would have said of this run's memory, now that all it asks for is known."""

from typing import Any

from engine.jobs.ranks import is_sharded
from engine.preflight.memory import Setup, estimate
from engine.preflight.shape import read_shape
from engine.recipe import Recipe
from engine.train.backend import Loaded
from engine.train.rows import Encoded, row_lengths

__all__ = ["estimated_peak_bytes"]


def estimated_peak_bytes(
    recipe: Recipe, backend: str, loaded: Loaded, splits: dict[str, Encoded]
) -> int | None:
    """The peak by arithmetic, to stand beside the measured one; a few milliseconds.

    None where it says nothing: sharded weights, a model whose files do not tell its shape. An
    estimate is not worth a run, so nothing is raised.
    """
    try:
        return None if is_sharded(recipe) else _estimate(recipe, backend, loaded, splits)
    except Exception:
        return None


def _estimate(recipe: Recipe, backend: str, loaded: Loaded, splits: dict[str, Any]) -> int:
    lengths = row_lengths(splits["train"].dataset)
    setup = Setup(
        backend=backend,
        device=loaded.device.partition(":")[0],
        dtype=loaded.dtype,
        padding=not recipe.train.packing and int(lengths.min()) != int(lengths.max()),
        fused=loaded.flat,
        unpacked=loaded.unpacked,
    )
    evaluated = max(
        int(row_lengths(splits[name].dataset).max(initial=0)) for name in ("validation", "test")
    )
    return estimate(recipe, read_shape(recipe), setup, int(lengths.max()), evaluated).peak
