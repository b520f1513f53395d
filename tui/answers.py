"""What the Play screen needs of the engine: columns, and the session that answers.

Everything is imported when it is first used; torch lives in the client's worker only.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from engine.errors import UserError
from engine.home import Home
from engine.jobs.folder import RunFolder

__all__ = [
    "Session",
    "can_answer",
    "column",
    "formatted",
    "open_session",
]


class Session(Protocol):
    """What this screen uses of ``engine.generate.session.Session``."""

    allow_beside_training: bool

    def ask(
        self, prompt: Any, sampling: Mapping[str, Any], *, probabilities: bool = False
    ) -> AsyncIterator[Any]: ...
    async def add(self, columns: list[Any]) -> None: ...
    async def cancel(self) -> None: ...
    async def free(self) -> None: ...
    async def stay(self, seconds: float) -> None: ...


def can_answer(home: Home, run_id: str) -> bool:
    """Whether a run left something that can be loaded: its result, or a whole checkpoint."""
    from engine.generate.columns import run_column

    try:
        run_column(RunFolder(home.runs / run_id))
    except (UserError, OSError, ValueError):
        return False
    return True


def column(home: Home, ref: str) -> Any:
    """The column of ``engine.generate`` that a reference names; ``RUN@base`` is a run's base.

    Raises :class:`UserError` for what is neither a run, a model nor an endpoint.
    """
    from engine.generate.columns import column_for

    return column_for(home, ref)


def open_session(
    home: Home,
    columns: list[Any],
    say: Callable[[str | None, str], None],
) -> AbstractAsyncContextManager[Session]:
    """What answers, started or joined. ``say`` gets a column's id (None: all) and words."""
    from engine.generate.session import Session as EngineSession

    return EngineSession.open(home, columns, say)


def formatted(column: Any, prompt: Any) -> Any:
    """What the column's model is given: ``text``, ``tokens`` (id and text), ``context``."""
    from engine.generate.formatted import formatted as made

    return made(column, prompt)
