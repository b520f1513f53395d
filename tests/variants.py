"""Which variants of a long test every change must pass, and which wait for a release."""

from collections.abc import Iterable
from typing import Any

import pytest

__all__ = ["slow_but"]


def slow_but(variants: Iterable[Any], *quick: Any) -> list[Any]:
    """Values of one argument of a test, all but the ``quick`` ones marked slow.

    Raises ValueError for a quick one that is not among them.
    """
    known = list(variants)
    if unknown := [one for one in quick if one not in known]:
        raise ValueError(f"no such variant: {unknown}")
    return [one if one in quick else pytest.param(one, marks=pytest.mark.slow) for one in known]
