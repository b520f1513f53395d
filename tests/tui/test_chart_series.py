"""Series that grow: whatever was appended and truncated, they say what all their points say."""

import itertools
import time

import numpy as np
import pytest

from engine.charts.series import Series, ema
from tui.plotting import draw
from tui.raster import Line, Options


def wild(count: int, seed: int) -> np.ndarray:
    """Values of both signs, some of them not finite, alone and in long runs."""
    rng = np.random.default_rng(seed)
    y = rng.normal(0.5, 1, count)
    y[rng.random(count) < 0.05] = np.nan
    y[rng.random(count) < 0.01] = np.inf
    if count > 40:
        begin = int(rng.integers(count - 30))
        y[begin : begin + 30] = -np.inf
    return y


def grown(y: np.ndarray, seed: int) -> Series:
    """The same points in pieces, with readings and a resume between them."""
    rng = np.random.default_rng(seed)
    x, series, at = np.arange(float(len(y))), Series(), 0
    while at < len(y):
        step = int(rng.choice([1, 2, 63, 64, 65, 700]))
        series.append(x[at : at + step], y[at : at + step])
        at = min(len(y), at + step)
        if rng.random() < 0.3:
            series.bounds()
            series.bounds(positive=True)
            series.smooth(0.9)
        if rng.random() < 0.15:
            back = int(rng.integers(max(0, at - 400), at))
            assert series.truncate(back) == at - back
            at = back
    return series


@pytest.mark.parametrize("seed", range(6))
def test_extremes_of_any_slices_are_those_of_their_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = wild(int(rng.integers(1, 30_000)), seed)
    series = grown(y, seed)
    assert np.array_equal(series.y, y, equal_nan=True)
    assert series.bad == (~np.isfinite(y)).sum()
    for slices in (1, 7, 200):
        for positive in (False, True):
            borders = np.sort(rng.integers(0, len(y) + 1, slices + 1))
            low, high = series.usable(positive).of(borders[:-1], borders[1:])
            for index, (a, b) in enumerate(itertools.pairwise(borders)):
                part = y[a:b][np.isfinite(y[a:b])]
                part = part[part > 0] if positive else part
                assert low[index] == part.min(initial=np.inf)
                assert high[index] == part.max(initial=-np.inf)


def test_slices_of_a_million_points_go_through_every_level() -> None:
    y = np.zeros(1_000_000)
    y[[0, 77_777, 500_032, 999_999]] = [3, -5, 9, np.nan]
    series = Series.of(np.arange(1_000_000.0), y)
    assert series.bounds() == (-5, 9)
    assert series.bounds(77_778, 500_032) == (0, 0)
    assert series.bounds(77_777, 500_033) == (-5, 9)
    assert series.bounds(999_999) is None


@pytest.mark.parametrize("seed", range(4))
def test_gaps_are_known_wherever_they_lie(seed: int) -> None:
    y = wild(5000, seed)
    usable = grown(y, seed).usable()
    good = np.isfinite(y)
    places = np.arange(5000)
    after = [next((at for at in range(i, 5000) if good[at]), 5000) for i in range(5000)]
    before = [next((at for at in range(i, -1, -1) if good[at]), -1) for i in range(5000)]
    assert usable.next(places).tolist() == after
    assert usable.previous(places).tolist() == before
    firsts = np.flatnonzero(good)
    joined = np.diff(usable.gaps_before(firsts)) == 0
    assert joined.tolist() == (np.diff(firsts) == 1).tolist()
    assert usable.any_gap(places, places + 1).tolist() == (~good).tolist()


@pytest.mark.parametrize("weight", [0.3, 0.9, 0.999])
def test_an_average_carried_on_is_the_average_of_all_points(weight: float) -> None:
    y = wild(3000, 5)
    rng, series, at = np.random.default_rng(1), Series(), 0
    while at < len(y):
        step = int(rng.choice([1, 20, 300]))
        series.append(np.arange(float(at), min(at + step, len(y))), y[at : at + step])
        at += step
        series.smooth(weight)
        if rng.random() < 0.2:
            at = max(0, at - 150)
            series.truncate(at)
    found = series.smooth(weight)
    assert np.allclose(found.y, ema(y, weight), equal_nan=True, rtol=1e-9, atol=1e-12)
    assert np.array_equal(found.x, series.x) and series.smooth(weight) is found
    assert series.smooth(0) is series


def test_points_over_a_clock_wait_for_it() -> None:
    loss, tokens = Series(), Series()
    loss.append([1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0])
    assert len(loss.over(tokens)) == 0
    tokens.append([1, 3], [100, 300])
    assert loss.over(tokens).x.tolist() == [100, 200, 300]
    tokens.append([4, 5], [350, 420])
    loss.append(5, 0.5)
    assert loss.over(tokens).x.tolist() == [100, 200, 300, 350, 420]
    assert loss.over(tokens).y.tolist() == [4, 3, 2, 1, 0.5]
    for series in (loss, tokens):
        series.truncate(4)
    tokens.append(4, 900)
    loss.append(4, 7.0)
    assert loss.over(tokens).x.tolist() == [100, 200, 300, 900]
    assert loss.over(tokens).y.tolist()[-1] == 7


def test_what_does_not_ascend_is_refused() -> None:
    series = Series()
    series.append([1, 1, 2], [1, 2, 3])
    for x, y in (([1.5], [1]), ([3, 2.5], [1, 2]), ([np.nan], [1]), ([3, 4], [1])):
        with pytest.raises(ValueError, match=r"ascend|shape"):
            series.append(x, y)
    assert len(series) == 3
    assert series.truncate(1) == 3 and len(series) == 0
    series.append(0, 5)
    assert series.bounds() == (5, 5)


@pytest.mark.parametrize("charset", ["braille", "ascii"])
@pytest.mark.parametrize("window", [None, (1000.0, 1400.0), (17.2, 17.9)])
def test_a_grown_series_is_drawn_like_its_arrays(charset: str, window: object) -> None:
    y = wild(20_000, 3)
    options = Options(charset, x_range=window)  # type: ignore[arg-type]
    arrays = draw([Line("a", np.arange(20_000.0), y)], 90, 20, options)
    assert arrays.text() == draw([Line.of("a", grown(y, 3))], 90, 20, options).text()
    assert (arrays.styles == 0).any() or window == (17.2, 17.9)


@pytest.mark.parametrize(("count", "lines"), [(100_000, 6), (1_000_000, 1)])
def test_a_frame_takes_at_most_10_ms_and_20_added_points_2(count: int, lines: int) -> None:
    rng = np.random.default_rng(0)
    grown = [Series() for _ in range(lines)]
    for series in grown:
        series.append(np.arange(float(count)), rng.normal(2, 0.1, count))
        series.smooth(0.9)
    adding, drawing = [], []
    for step in range(9):
        x = count + step * 20 + np.arange(20.0)
        began = time.process_time()
        for series in grown:
            series.append(x, x / count)
            series.smooth(0.9)
        added = time.process_time()
        draw([Line.of("", series.smooth(0.9)) for series in grown], 120, 40)
        drawing.append(time.process_time() - added)
        adding.append(added - began)
    assert min(adding) < 0.002, f"{min(adding) * 1000:.1f} ms"
    assert min(drawing) < 0.010, f"{min(drawing) * 1000:.1f} ms"
