"""What the viewers of the playground's worker have asked it to hold: columns, loaded or not yet."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from engine.errors import NeedsConsent, UserError
from engine.generate.columns import Column

__all__ = ["Held", "Holding", "failure", "in_words"]


@dataclass(eq=False)
class Held:
    """One column of one viewer."""

    column: Column
    voice: Any = None
    """An ``engine.generate.models.Voice``; None: not loaded (any more)."""
    error: UserError | None = None
    """Why it could not be loaded the last time."""


class _Models(Protocol):
    def voice(self, column: Column, *, used: Iterable[Any], allow_beside_training: bool) -> Any: ...
    def free(self) -> bool: ...


class Holding:
    """Columns by viewer. A column that could not be loaded is tried again when it is asked."""

    def __init__(self, models: _Models) -> None:
        self.models = models
        self.viewers: dict[Any, dict[str, Held]] = {}

    def add(self, viewer: Any, columns: Iterable[Column]) -> list[Held]:
        """Note what a viewer wants; nothing is loaded yet."""
        mine = self.viewers.setdefault(viewer, {})
        wanted = [Held(column) for column in columns]
        mine.update({held.column.id: held for held in wanted})
        return wanted

    def of(self, viewer: Any, names: Iterable[str] | None) -> list[Held]:
        """Columns of a viewer by their ids; all when None. Raises :class:`UserError`."""
        mine = self.viewers.get(viewer, {})
        names = list(mine) if names is None else list(names)
        if missing := [name for name in names if name not in mine]:
            raise UserError(f"column {missing[0]!r} is not loaded")
        return [mine[name] for name in names]

    def load(self, wanted: Iterable[Held], allow: bool, given_up: Callable[[], bool]) -> None:
        """Load what is not there; a failure is noted, and the next column tried."""
        for held in wanted:
            if held.voice is not None or given_up():
                continue
            held.error = None
            try:
                held.voice = self.models.voice(
                    held.column, used=list(self._used()), allow_beside_training=allow
                )
            except UserError as error:
                held.error = error
            except Exception as error:
                traceback.print_exc()
                held.error = UserError(f"{held.column.label}: {in_words(error)}")
        sys.stderr.flush()

    def _used(self) -> Iterator[Any]:
        for viewer, mine in self.viewers.items():
            if not viewer.gone:
                yield from (held.voice.base for held in mine.values() if held.voice is not None)

    def free(self) -> bool:
        """Let every model go, the columns stay; false when there was none."""
        held = [held for mine in self.viewers.values() for held in mine.values()]
        for one in held:
            one.voice = None
        return self.models.free()

    def forget_gone(self) -> None:
        """Drop the columns of viewers that left."""
        for left in [viewer for viewer in self.viewers if viewer.gone]:
            del self.viewers[left]


def in_words(error: Exception) -> str:
    """An exception of a library as one line."""
    words = " ".join(str(error).split())[:300]
    if type(error).__name__ == "OutOfMemoryError":
        return f"the GPU's memory is full; give some back, or leave out other columns ({words})"
    return f"{type(error).__name__}: {words}"


def failure(error: UserError) -> dict[str, Any]:
    """A failure as a message has it."""
    return {"message": str(error), "consent": isinstance(error, NeedsConsent)}
