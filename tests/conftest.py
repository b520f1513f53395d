"""For all tests: those of one file of the engine share a process, and what it has set up."""

from pathlib import Path

import pytest

ENGINE = Path(__file__).parent / "engine"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A model or a run that a file's tests share takes up to 40 s, in each process again."""
    for item in items:
        if item.path.parent == ENGINE and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
