"""Imports what the playground's worker needs; separate, so that the server can say so first."""

from collections.abc import Callable
from typing import Any

from engine.home import Home

__all__ = ["prepare"]


def prepare(home: Home, tell: Callable[[str], None]) -> tuple[Any, Any]:
    """(module with ``answer`` and ``Cancelled``, an empty ``Models``); takes seconds."""
    from engine.train.environment import set_environment

    set_environment(home, "")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    from engine.generate import answering
    from engine.generate.models import Models

    return answering, Models(tell, home)
