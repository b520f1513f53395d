"""What the Play screen needs of the engine: columns, the client, rows of the test split.

Everything is imported when it is first used; torch lives in the client's worker only.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from engine.errors import UserError
from engine.home import Home
from engine.jobs.folder import RunFolder
from engine.recipe import Recipe

__all__ = [
    "Client",
    "HeldOutRow",
    "can_answer",
    "columns_of",
    "open_client",
    "recipe_of",
    "test_row",
]


class Client(Protocol):
    """What this screen uses of ``engine.generate.client.GenerationClient``."""

    def generate(self, prompt: str, sampling: Any, columns: Any) -> AsyncIterator[Any]: ...
    async def cancel(self) -> None: ...


@dataclass(frozen=True)
class HeldOutRow:
    """One row of the test split of a run's dataset."""

    number: int
    count: int
    prompt: str
    reference: str
    changed: bool = False
    """The dataset of this name was made anew since: the run may have trained on this row."""


def can_answer(home: Home, run_id: str) -> bool:
    """Whether a run left something that can be loaded: its result, or a whole checkpoint."""
    from engine.generate.columns import run_column

    try:
        run_column(RunFolder(home.runs / run_id))
    except (UserError, OSError, ValueError):
        return False
    return True


def recipe_of(home: Home, run_id: str) -> Recipe:
    """The recipe as resolved when the run was made. Raises :class:`UserError`."""
    folder = RunFolder(home.runs / run_id)
    try:
        return folder.read_recipe()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.recipe_file}: cannot be read: {error}") from None


def columns_of(home: Home, run_id: str) -> list[Any]:
    """The run's base model and the run itself, as columns of ``engine.generate``.

    Raises :class:`UserError` when the run has saved nothing.
    """
    from engine.generate.columns import base_column, run_column

    tuned = run_column(RunFolder(home.runs / run_id))
    return [base_column(tuned), tuned]


def open_client(
    home: Home, columns: list[Any], say: Callable[[str], None]
) -> AbstractAsyncContextManager[Client]:
    """The worker that answers, started or joined. ``say`` gets words while it loads."""
    from engine.generate.client import GenerationClient

    return GenerationClient.start(home, columns, on_status=say, warm_up=True)


def test_row(home: Home, run_id: str, number: int) -> HeldOutRow:
    """Row ``number`` (counted from 0, going round) of the test split of the run's dataset.

    The run kept it aside unless the row says ``changed``.
    """
    from engine.data.dataset import open_dataset
    from engine.data.sources import dataset_name

    name = dataset_name(recipe_of(home, run_id).data)
    trained = RunFolder(home.runs / run_id).fingerprint()
    dataset = open_dataset(home, name)
    count = dataset.count("test")
    if not count:
        raise UserError(f"dataset {name}: its test split is empty")
    number %= count
    row = dataset.page("test", number, 1)[0]
    changed = trained is not None and trained != dataset.fingerprint
    return HeldOutRow(number, count, row["prompt"], row["completion"], changed)
