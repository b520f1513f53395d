"""Charts as plain text: what is drawn, never how it is coloured; and what a frame costs."""

import time

import numpy as np
import pytest

from engine.charts.ticks import nice_ticks, tick_labels
from tui.plotting import draw, ema
from tui.raster import Line, Options, charset_for

ASCII = Options("ascii")


def plot(*lines: Line, width: int = 40, height: int = 8, options: Options = ASCII) -> str:
    return draw(lines, width, height, options).text()


def values(*y: float) -> Line:
    return Line("loss", np.arange(len(y), dtype=float), np.array(y, dtype=float))


def test_a_straight_line_in_ascii() -> None:
    assert plot(values(*range(10)), width=30, height=6).splitlines() == [
        " |                       ..:''",
        " |                 ..:''''",
        "5+           ..:''''",
        " |     ..:''''",
        "0+.:''''",
        "  0              5",
    ]


def test_braille_and_quadrants_draw_the_same_curve() -> None:
    line = values(*(5 * 0.9**step for step in range(40)))
    rows = {}
    for charset in ("braille", "quadrant", "ascii"):
        frame = draw([line], 40, 10, Options(charset, guides=False))
        drawn = frame.styles[:-1] == 0
        rows[charset] = drawn.argmax(axis=0)[drawn.any(axis=0)]
        assert drawn.any(axis=0).sum() >= 36
    assert np.abs(rows["braille"] - rows["quadrant"]).max() <= 1
    assert np.abs(rows["braille"] - rows["ascii"]).max() <= 1


def test_a_spike_of_one_point_in_100_000_survives() -> None:
    y = np.full(100_000, 2.0)
    y[43_210] = 9.0
    frame = draw([Line("loss", np.arange(100_000.0), y)], 110, 36)
    top = frame.row(0)
    assert frame.y_ticks[-1] == 9
    assert frame.styles[0].tolist().count(0) == 1, top
    assert abs(frame.styles[0].tolist().index(0) / 110 - 0.432) < 0.03


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_gap_with_a_cross(bad: float) -> None:
    y = np.linspace(1, 2, 40)
    y[15:25] = bad
    frame = draw([Line("loss", np.arange(40.0), y)], 42, 9, Options("ascii", guides=False))
    series = (frame.styles[:-1] == 0).any(axis=0)
    left = max(frame.row(0).find("|"), frame.row(0).find("+")) + 1
    assert not series[left + 16 : left + 23].any(), frame.text()
    assert series[left + 2 : left + 13].all() and series[left + 28 : left + 38].all()
    assert frame.row(7).count("x") >= 8


def test_one_missing_point_breaks_the_line() -> None:
    whole = draw([values(1, 1, 1, 1, 1)], 42, 6, Options("ascii", guides=False))
    broken = draw([values(1, 1, np.nan, 1, 1)], 42, 6, Options("ascii", guides=False))
    assert (whole.styles[:-1] == 0).any(axis=0).sum() >= 38
    assert (broken.styles[:-1] == 0).any(axis=0).sum() < 26


def test_log_y_leaves_out_what_is_not_positive() -> None:
    frame = draw([values(100, 10, 1, 0, -5, 0.1)], 40, 12, Options("ascii", log_y=True))
    assert {0.1, 1, 10, 100} <= {round(tick, 3) for tick in frame.y_ticks}
    assert draw([values(0, -1)], 40, 12, Options(log_y=True)).note == "no positive values"


def test_nothing_to_draw_is_said() -> None:
    assert draw([], 40, 8).note == "no points yet"
    assert "no points yet" in plot()
    assert draw([values(np.nan, np.inf)], 40, 8).note == "no finite values"
    assert draw([values(1, 2)], 5, 2).note == "too small"


def test_a_constant_and_a_single_value_are_seen() -> None:
    assert (draw([values(3, 3, 3, 3)], 40, 8).styles[:-1] == 0).sum() >= 30
    assert "•" in draw([values(3)], 40, 8).text()


def test_series_differ_without_colour() -> None:
    x = np.arange(200.0)
    drawn = {}
    for mark in ("solid", "dashed", "dotted", "dots", "points"):
        frame = draw([Line("a", x, np.sin(x / 9), mark)], 60, 12, Options(guides=False))  # type: ignore[arg-type]
        drawn[mark] = "\n".join(frame.row(y) for y in range(11))
    assert len(set(drawn.values())) == 5
    assert "◆" in drawn["points"] and "◆" not in drawn["solid"]


def test_the_last_series_owns_the_cell() -> None:
    frame = draw([values(1, 2, 3), values(1, 2, 3)], 40, 8)
    assert 0 not in frame.styles and 1 in frame.styles


def test_points_outside_the_given_range_are_not_drawn() -> None:
    line = Line("a", np.arange(100.0), np.arange(100.0))
    frame = draw([line], 40, 8, Options("ascii", x_range=(40.0, 60.0)))
    assert frame.y_ticks[0] >= 38 and frame.y_ticks[-1] <= 62


@pytest.mark.parametrize("weight", [0.01, 0.6, 0.9, 0.99, 0.999])
def test_ema_equals_the_recursion(weight: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(2, 1, 3000)
    y[100], y[200] = np.nan, np.inf
    expected, past, count = [], 0.0, 0
    for value in y:
        if not np.isfinite(value):
            expected.append(np.nan)
            continue
        past, count = weight * past + (1 - weight) * value, count + 1
        expected.append(past / (1 - weight**count))
    assert np.allclose(ema(y, weight), expected, equal_nan=True, atol=1e-9)


def test_ema_of_nothing() -> None:
    assert len(ema(np.empty(0), 0.9)) == 0
    assert np.isnan(ema(np.array([np.nan]), 0.9)).all()
    assert ema(np.array([1.0, 2.0]), 0.0).tolist() == [1, 2]


def test_ticks_are_round_and_their_labels_differ() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        low = float(rng.normal() * 10.0 ** rng.integers(-6, 7))
        high = low + float(rng.random() + 1e-3) * 10.0 ** rng.integers(-6, 7)
        ticks = nice_ticks(low, high, 6)
        assert len(ticks) <= 8
        if abs(low) > 1e5 * (high - low):
            continue  # more digits than a label has room for
        labels = tick_labels(ticks)
        assert len(set(labels)) == len(labels), (low, high, labels)
    assert tick_labels([0, 1e-4, 2e-4, 3e-4]) == ["0", "1e-4", "2e-4", "3e-4"]
    assert tick_labels([0, 20_000, 40_000]) == ["0", "20k", "40k"]
    assert tick_labels([2.0, 2.5]) == ["2.0", "2.5"]


@pytest.mark.parametrize("width", [8, 20, 60, 200])
@pytest.mark.parametrize("height", [3, 4, 9, 50])
def test_every_size_is_filled_exactly(width: int, height: int) -> None:
    for options in (Options(), ASCII, Options("quadrant", log_y=True)):
        frame = draw([values(5, 3, 8, np.nan, 1)], width, height, options)
        assert frame.chars.shape == (height, width)
        for y in range(height):
            assert sum(len(text) for text, _ in frame.runs(y)) == width


def test_what_a_terminal_can_show() -> None:
    assert charset_for({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}) == "braille"
    assert charset_for({"TERM": "linux", "LANG": "en_US.UTF-8"}) == "ascii"
    assert charset_for({"TERM": "xterm", "LC_ALL": "C"}) == "ascii"
    assert charset_for({"TERM": "linux", "TUNEBENCH_CHART": "quadrant"}) == "quadrant"


def test_a_frame_of_100_000_points_takes_at_most_10_ms() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(100_000.0)
    line = Line("loss", x, 2 + rng.normal(0, 0.1, 100_000))
    draw([line], 110, 36)
    best = min(_cpu_seconds(line) for _ in range(7))
    assert best < 0.010, f"{best * 1000:.1f} ms"


def _cpu_seconds(line: Line) -> float:
    began = time.process_time()
    draw([line], 110, 36)
    return time.process_time() - began
