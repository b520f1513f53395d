"""No bytes crash the reader, and every line or record of them is accounted for."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.reading import DEFECTS, TOKENS, Mutator, check_reading, good_files

PARTS = st.one_of(st.sampled_from([*TOKENS, *DEFECTS]), st.binary(max_size=40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=30))
def test_pieces_of_formats_in_any_order(folder: Path, parts: list[bytes]) -> None:
    check_reading(folder / "rows", b"".join(parts) or b"\n")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**64))
def test_mutated_files_of_every_format(folder: Path, seed: int) -> None:
    check_reading(folder / "rows", Mutator().make(seed))


def test_good_files_are_read(folder: Path) -> None:
    ends = {check_reading(folder / "rows", data) for data in good_files()}
    assert {"jsonl", "json", "csv", "parquet", "arrow"} <= ends
