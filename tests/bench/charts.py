"""What a frame of a chart costs, ours beside textual-plotext and textual-plot on the same points.

``pip install --target DIR textual-plotext textual-plot`` (not a part of the project), then
``python -m tests.bench.charts --rivals DIR``; without ``--rivals`` only ours. CPU milliseconds
(``time.process_time``) of one frame of 120 x 40 cells with axes, the median of several:

cold: from arrays that were never drawn. warm: the same series again. added: 20 points to each
series, and its moving average carried on. frame: the frame of the smoothed lines after that.
Of the rivals only the drawing is timed, without Textual's layout and without output.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.charts.series import Series
from tui.plotting import draw
from tui.raster import Line

SIZE = (120, 40)
CASES = ((10_000, 6), (100_000, 6), (1_000_000, 1))


def points(count: int, lines: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    x = np.arange(float(count))
    fall = 3 * np.exp(-x / count * 5)
    return x, [2 + 0.2 * line + fall + rng.normal(0, 0.1, count) for line in range(lines)]


def cpu(act: Callable[[], object], times: int) -> float:
    """Median CPU milliseconds of ``act``."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        act()
        taken.append((time.process_time() - began) * 1000)
    return statistics.median(taken)


def ours(x: np.ndarray, ys: list[np.ndarray], times: int) -> tuple[float, ...]:
    cold = cpu(lambda: draw([Line("", x, y) for y in ys], *SIZE), times)
    grown = [Series() for _ in ys]
    for series, y in zip(grown, ys, strict=True):
        series.append(x, y)
        series.smooth(0.9)

    def warm() -> None:
        draw([Line.of("", series) for series in grown], *SIZE)

    warm()
    again = cpu(warm, times)
    rng = np.random.default_rng(1)
    added, frames = [], []
    for step in range(times):
        new = len(x) + 20 * step + np.arange(20.0), rng.normal(2, 0.1, 20)

        def add(new: tuple[np.ndarray, np.ndarray] = new) -> None:
            for series in grown:
                series.append(*new)
                series.smooth(0.9)

        added.append(cpu(add, 1))
        frames.append(cpu(lambda: draw([Line.of("", one.smooth(0.9)) for one in grown], *SIZE), 1))
    return cold, again, statistics.median(added), statistics.median(frames)


def plotext(x: np.ndarray, ys: list[np.ndarray], times: int) -> float:
    """textual-plotext: the text that its widget's render builds."""
    from rich.text import Text
    from textual_plotext.plot import Plot

    lists = x.tolist(), [y.tolist() for y in ys]

    def frame() -> None:
        plot = Plot()
        plot.plotsize(*SIZE)
        for y in lists[1]:
            plot.plot(lists[0], y, marker="braille")
        Text.from_ansi(plot.build())

    return cpu(frame, times)


def textual_plot(x: np.ndarray, ys: list[np.ndarray], times: int) -> float:
    """textual-plot: ``_render_plot`` of a mounted widget of that size."""
    from textual.app import App, ComposeResult
    from textual_plot import HiResMode, PlotWidget

    class Screen(App[None]):
        def compose(self) -> ComposeResult:
            yield PlotWidget()

    async def measured() -> float:
        app = Screen()
        async with app.run_test(size=SIZE) as pilot:
            widget: Any = app.query_one(PlotWidget)
            for y in ys:
                widget.plot(x, y, hires_mode=HiResMode.BRAILLE)
            await pilot.pause()
            return cpu(widget._render_plot, times)

    return asyncio.run(measured())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rivals", metavar="DIR", help="where the two packages were installed")
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--most", type=int, default=1_000_000, help="points given to the rivals")
    given = parser.parse_args()
    if given.rivals:
        sys.path.append(given.rivals)
    print("CPU ms a frame | cold | warm | added | frame | textual-plotext | textual-plot")
    for count, lines in CASES:
        x, ys = points(count, lines)
        cells = [f"{value:.2f}" for value in ours(x, ys, given.times)]
        for rival in (plotext, textual_plot):
            if count * lines > given.most:
                cells.append(f"over {given.most:,} points")
                continue
            try:
                cells.append(f"{rival(x, ys, 3 if count * lines < 100_000 else 1):,.0f}")
            except ImportError as missing:
                cells.append(f"not installed ({missing.name})")
        print(f"{count:,} x {lines} | " + " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
