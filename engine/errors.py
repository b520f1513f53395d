"""What the engine raises when the user, not the program, can put it right."""

from typing import Any


class UserError(Exception):
    """One clear line for the user: names the file, line or key, and says what to do.

    Commands print it on stderr and end with ``exit_code``; screens show it in place.
    """

    exit_code = 1


class UsageError(UserError):
    """The command line or a recipe key is wrong: exit status 2, as argparse's own errors."""

    exit_code = 2


class NeedsConsent(UserError):
    """What was asked for may harm a training run: it is done only when the user says so."""


class Diverged(UserError):
    """Training gives no usable loss any more; the run ends as failed, kind ``nan``.

    ``suggestion``: what a next run should do differently, as an ``error`` event of the journal
    carries it: ``{"words": one line, "settings": {"train.learning_rate": 1e-4, ...}}``.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int,
        loss: float,
        suggestion: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.step = step
        self.loss = loss
        self.suggestion = suggestion
