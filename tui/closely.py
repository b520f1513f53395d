"""A close look at answers that are whole: what repeats itself, what is copied from training."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tui import promptrows
from tui.answertext import Answer

if TYPE_CHECKING:
    from engine.home import Home

__all__ = ["build_copies", "look", "open_copies"]


def open_copies(home: "Home", run_id: str | None) -> Any:
    """The index of the run's training rows; None: there is no run, or it is not built yet."""
    from engine.errors import UserError
    from engine.generate.copying import CopyIndex

    if run_id is None:
        return None
    try:
        return CopyIndex.open(home, promptrows.train_rows(home, run_id))
    except UserError:  # the dataset is gone: said when somebody asks for the copies
        return None


def build_copies(
    home: "Home", run_id: str, say: Callable[[str], None], cancelled: Callable[[], bool]
) -> Any:
    """The index, built where there is none; blocking. Raises :class:`UserError`."""
    from engine.generate.copying import CopyIndex

    return CopyIndex.open_or_build(home, promptrows.train_rows(home, run_id), say, cancelled)


def look(answers: Sequence[Answer], copies: Any) -> None:
    """Say in the answers what there is to say; in a thread: some ms an answer."""
    from engine.generate.repeating import repetition

    for answer in answers:
        if answer.text and not answer.error:
            answer.repeats = repetition(answer.text).words
            answer.copied = copies.spans(answer.text) if copies is not None else None
