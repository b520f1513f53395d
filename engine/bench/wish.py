"""What a bench is asked for."""

from dataclasses import dataclass

from engine.bench.rows import ROW_SETS

__all__ = ["Wish"]


@dataclass(frozen=True)
class Wish:
    """What the user asked for; None: the bench's own choice."""

    recipe: str | None = None
    """Default: ``amazon-titles`` on a GPU, ``demo`` on a CPU."""
    shape: str | None = None
    settings: tuple[str, ...] = ()
    steps: int | None = None
    quick: bool = False
    only: str = ""
    rows: tuple[str, ...] = ROW_SETS
    device: str = "auto"
    anyway: bool = False
