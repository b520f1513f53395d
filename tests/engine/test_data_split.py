"""Sides: decided by the title, stable when rows come in, never leaking."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.clean import hash64
from engine.data.rules import title_key
from engine.data.split import SIDES, Sides, assign
from engine.errors import UserError
from engine.recipe import SplitSection

Rows = Sequence[tuple[str, str]]


def split(rows: Rows, section: SplitSection, unique: bool = True, first_line: int = 1) -> Sides:
    return assign(
        section,
        np.array([hash64(title_key(title)) for title, _ in rows], dtype=np.uint64),
        np.array([hash64(text) for _, text in rows], dtype=np.uint64),
        np.arange(first_line, first_line + len(rows), dtype=np.int64),
        unique,
    )


def made(count: int, start: int = 0) -> Rows:
    return [(f"title {n // 3}", f"text {n}") for n in range(start, start + count)]


SHARES = SplitSection(train=0.8, validation=0.1, test=0.1)
COUNTS = SplitSection(train=800, validation=100, test=100)


def test_shares_take_every_row_in_about_the_shares() -> None:
    sides = split(made(30_000), SHARES)
    assert sum(sides.count(name) for name in SIDES) == 30_000
    assert abs(sides.count("test") - 3000) < 400
    assert abs(sides.count("validation") - 3000) < 400


def test_shares_below_one_leave_rows_out() -> None:
    sides = split(made(30_000), SplitSection(train=0.3, validation=0.1, test=0.1))
    assert abs(sum(sides.count(name) for name in SIDES) - 15_000) < 900


def test_counts_are_met_exactly_and_the_seed_decides() -> None:
    one = split(made(6000), COUNTS)
    assert [one.count(name) for name in SIDES] == [800, 100, 100]
    assert (one.side == split(made(6000), COUNTS).side).all()
    other = split(made(6000), COUNTS.model_copy(update={"seed": 1}))
    assert (one.side != other.side).any()


def test_too_few_rows_say_how_many_there_are() -> None:
    with pytest.raises(UserError, match=r"900 in all.*train 800 of 7\d\d, validation 100 of"):
        split(made(900), COUNTS)


@pytest.mark.parametrize("section", [SHARES, COUNTS])
def test_added_rows_move_no_row_to_another_side(section: SplitSection) -> None:
    before = split(made(6000), section).side
    more = split([*made(6000), *made(9000, 50_000)], section).side[:6000]
    stayed = (before >= 0) & (more >= 0)
    assert (before[stayed] == more[stayed]).all()
    if section is SHARES:
        assert (before == more).all()
    else:
        assert (more >= 0).sum() < (before >= 0).sum()  # some are pushed out of the sample
        # What is out stays out: room comes only from rows with lower hashes.
        assert not ((before < 0) & (more >= 0)).any()


def test_one_title_is_on_one_side_whatever_its_case() -> None:
    rows = [(title, f"{title} {n}") for n in range(500) for title in (f"Item {n}", f"ITEM  {n}")]
    side = split(rows, SHARES).side
    assert (side[0::2] == side[1::2]).all()
    assert set(side.tolist()) == {0, 1, 2}


def test_the_leakage_that_lines_would_have_had() -> None:
    # Each title three times: of a test row, both others miss train with probability 0.04 only.
    sides = split(made(30_000), SHARES)
    assert 0.9 * 3000 < sides.leakage_before < 3200
    unrepeated = [(f"title {n}", f"text {n}") for n in range(3000)]
    assert split(unrepeated, SHARES).leakage_before == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("uvwxyz")), max_size=40),
    st.integers(0, 5),
)
def test_no_title_and_no_description_crosses(rows: Rows, seed: int) -> None:
    section = SplitSection(train=0.4, validation=0.3, test=0.3, seed=seed)
    sides = split(rows, section, unique=False)
    by_side = [
        [row for row, side in zip(rows, sides.side, strict=True) if side == n] for n in range(3)
    ]
    for part in (0, 1):
        for column in (0, 1):
            for later in by_side[part + 1 :]:
                assert not {row[column] for row in by_side[part]} & {row[column] for row in later}
    assert sum(map(len, by_side)) + sides.left_out == len(rows)
