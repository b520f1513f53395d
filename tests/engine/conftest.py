"""What several tests of the engine share: a really tiny model, and rows for it."""

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of 2 layers x 64 with a tokenizer and a chat template."""
    return tiny.build_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON Lines file with 400 invented products (``title``, ``content``)."""
    return tiny.write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")
