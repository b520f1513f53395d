"""For all tests: those of one file of the engine share a process, and what it has set up."""

import os
from pathlib import Path

import pytest

# Before torch: two processes of tests share the cores. See engine.train.environment.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ENGINE = Path(__file__).parent / "engine"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A model or a run that a file's tests share takes up to 40 s, in each process again."""
    for item in items:
        if item.path.parent == ENGINE and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
