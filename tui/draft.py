"""A run as the recipe form describes it: a recipe, and whose it was where it is trained again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.text import clip

if TYPE_CHECKING:
    from engine.recipe import Recipe

__all__ = ["Draft", "Repeated"]


@dataclass(frozen=True)
class Repeated:
    """The run whose recipe is edited, to be trained again."""

    id: str
    name: str
    next_name: str
    """What the new run is called where nobody calls it otherwise."""
    untold: frozenset[str] = frozenset()
    """The recipe's keys that its import did not tell: they have the defaults."""


@dataclass(frozen=True)
class Draft:
    """What would run."""

    recipe: "Recipe"
    name: str | None
    """For the run, when it was given by hand."""
    changes: list[tuple[str, str, str]]
    """(key, value in the recipe that was read, value now)."""
    untold: list[str]
    """Keys of which nobody knows what they were."""
    repeated: Repeated | None = None

    @property
    def run_words(self) -> str:
        """What the run will be called."""
        if self.name:
            return self.name
        proposed = self.repeated.next_name if self.repeated else self.recipe.name
        return f"{proposed} (a number is added when that is taken)"

    @property
    def title(self) -> str:
        """The question whether to start it."""
        if self.repeated is None:
            return f"Start {self.name or self.recipe.name}?"
        old, new = self.repeated.name, self.name or self.repeated.next_name
        return f"Train {clip(old, 22)} again, as {clip(new, 22)}?"

    @property
    def changed_words(self) -> list[str]:
        """A line for each change; of a run that is repeated also that there is none."""
        found = [f"{key}: {before} → {now}" for key, before, now in self.changes]
        if self.repeated is None or found:
            return found
        return [f"nothing: the recipe of {self.repeated.name} as it was"]

    @property
    def untold_words(self) -> str:
        """Which values nobody knows; "": none."""
        if not self.untold:
            return ""
        names = ", ".join(key.rpartition(".")[2] for key in self.untold[:6])
        more = f" and {len(self.untold) - 6} more" if len(self.untold) > 6 else ""
        return f"{names}{more}: the import did not tell them, these are the defaults"
