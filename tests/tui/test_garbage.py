"""The garbage collector's full passes come when nobody types."""

import gc

import pytest

from tui import garbage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(garbage.time, "monotonic", lambda: now[0])
    return now


def test_a_pass_after_work_and_a_pause(clock: list[float]) -> None:
    idle = garbage.IdleCollector()
    clock[0] = 101.0
    idle.typed()
    assert not idle.look()
    clock[0] = 104.0
    assert idle.look()
    clock[0] = 110.0
    assert not idle.look(), "nothing was done since"
    idle.typed()
    clock[0] = 113.0
    assert idle.look()


def test_full_passes_by_themselves_become_rare() -> None:
    before = gc.get_threshold()
    try:
        garbage.collect_rarely()
        assert gc.get_threshold() == (before[0], before[1], garbage.RARELY)
    finally:
        gc.set_threshold(*before)
