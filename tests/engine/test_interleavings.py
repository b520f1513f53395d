"""Renaming, tagging, deleting, restoring, noting, reading: in any order, by two viewers at once."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.interleaving import LOG, Interleaving


def run(examples: int, steps: int, seed_free: bool) -> int:
    """Returns the number of steps made, with all that must hold after each."""
    LOG.clear()
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not seed_free,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
    return sum(LOG)


def test_a_few_interleavings_keep_store_and_folders_consistent() -> None:
    assert run(examples=8, steps=12, seed_free=False) >= 50


@pytest.mark.slow
def test_two_hundred_interleavings_keep_store_and_folders_consistent() -> None:
    steps = run(examples=200, steps=40, seed_free=True)
    print(f"\n{len(LOG)} interleavings, {steps} steps")
    assert len(LOG) >= 200
