"""What the workbench remembers of the machine, and how ten minutes of it are drawn."""

import math
from dataclasses import replace
from typing import Any

import pytest

from engine.system.gpu import Gpu, GpuState
from engine.system.gpu_events import GpuEvent
from tests.tui.conftest import NOW, READING, settle
from tests.tui.test_system import GIB, HOST, NO_GPU
from tui import app as workbench
from tui.history import HOST as MACHINE
from tui.history import History
from tui.widgets.sparklines import spark, spark_lines

CARD = Gpu(0, "GPU-0", "NVIDIA H200", 140 * GIB, 29 * GIB, 111 * GIB, 97, 64, 512.0, 700.0)


def state(*cards: Gpu) -> GpuState:
    return GpuState(True, gpus=cards)


def error(t: float, xid: int | None = 94, gpu: int | None = 0) -> GpuEvent:
    return GpuEvent(t, gpu, xid, f"Xid {xid}", True)


def test_tracks_of_cards_their_parts_and_the_machine() -> None:
    part = replace(CARD, uuid="MIG-1", index=1, utilisation=None, power=None)
    history = History()
    history.add(NOW, state(replace(CARD, parts=(part,)), replace(CARD, uuid="G", index=10)), HOST)
    tracks = history.tracks
    assert [track.label for track in tracks] == ["0", "0.1", "10", ""]
    assert [tracks[0].last(metric) for metric in ("busy", "memory", "power", "temperature")] == [
        *(97, 29 * GIB),
        *(512, 64),
    ]
    assert tracks[1].last("busy") is None and tracks[1].last("memory") == 29 * GIB
    assert tracks[-1].key == MACHINE and tracks[-1].last("busy") == 61


def test_only_ten_minutes_are_kept_and_a_card_that_went_is_forgotten() -> None:
    history = History()
    for second in range(0, 2000, 2):
        history.add(NOW + second, state(CARD) if second < 1000 else NO_GPU, HOST)
    (machine,) = history.tracks
    assert len(machine.points) == 301 and machine.points[0][0] == NOW + 1998 - 600


def test_what_nobody_read_is_a_gap() -> None:
    history = History()
    for second in (0, 2, 4, 100, 102):
        history.add(NOW + second, state(CARD), HOST)
    x, y = history.tracks[0].series("busy", NOW + 102)
    assert list(x) == pytest.approx([minutes / 60 for minutes in (-102, -100, -98, -50, -2, 0)])
    assert [math.isnan(value) for value in y] == [False, False, False, True, False, False]


def test_a_clock_that_is_set_back_begins_anew() -> None:
    history = History()
    history.add(NOW, state(CARD), HOST)
    history.add(NOW - 3600, state(CARD), HOST)
    assert [len(track.points) for track in history.tracks] == [1, 1]


def test_the_log_and_the_driver_tell_an_error_once() -> None:
    history = History()
    history.add(NOW, NO_GPU, HOST, [error(NOW - 1), error(NOW, None), error(NOW, None)])
    history.add_events([error(NOW - 3), error(NOW - 3, gpu=1), error(NOW - 900)])
    assert [(event.xid, event.gpu, NOW - event.t) for event in history.events] == [
        (None, 0, 0),
        (None, 0, 0),
        (94, 0, 1),
        (94, 1, 3),
        (94, 0, 900),
    ]


def test_a_line_of_a_card_misses_neither_idle_moments_nor_peaks() -> None:
    history = History()
    for second in range(0, 601, 2):
        busy, hot = (0, 90) if second == 300 else (100, 40)
        history.add(NOW + second, state(replace(CARD, utilisation=busy, temperature=hot)), HOST)
    card = history.tracks[0]
    assert spark(card, "busy", NOW + 600, 10) == "█████▁████" or (
        spark(card, "busy", NOW + 600, 10) == "████▁█████"
    )
    assert spark(card, "temperature", NOW + 600, 10).count("█") == 1
    assert spark(card, "busy", NOW + 600, 10, ascii_only=True).count("@") == 9
    assert spark(card, "busy", NOW + 900, 10).endswith("     "), "nothing was read since"
    (line,) = spark_lines([card], "memory", NOW + 600, 40)
    assert line.text.startswith("0 ") and line.text.endswith(" 29.0") and len(line.text) == 40


async def test_the_machine_is_read_where_no_screen_does(
    frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbench, "SAMPLE_SECONDS", 0.02)
    app = frozen_app(mode="runs", reading=replace(READING, whole=(state(CARD), HOST)))
    clock = iter(range(1_000_000))
    app.clock = lambda: NOW + next(clock)
    async with app.run_test(size=(80, 24)) as pilot:
        while app.history.count < 3:
            await pilot.pause(0.01)
        assert [track.label for track in app.history.tracks] == ["0", ""]
        await settle(pilot)


async def test_a_screen_that_reads_fills_the_history(frozen_app: Any) -> None:
    app = frozen_app(mode="train", reading=replace(READING, whole=(NO_GPU, HOST)))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert app.history.count >= 1 and app.history.last == NOW
        app.read_system()
        assert app.history.tracks[0].last("memory") == 9 * GIB
