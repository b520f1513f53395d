"""What several tests of the engine share: a really tiny model, and rows for it."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "tiny.py")
assert _spec and _spec.loader
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of 2 layers x 64 with a tokenizer and a chat template."""
    return tiny.build_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON Lines file with 400 invented products (``title``, ``content``)."""
    return tiny.write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")
