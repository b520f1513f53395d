"""Charts on the screens: all metrics in a grid, several runs over each other, and their keys."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.home import Home
from tests.tui.conftest import NOW, FrozenFeed, detail, finished, row, running, settle, snapshot_of
from tests.tui.test_hostile import HOSTILE, check
from tui.app import WorkbenchApp
from tui.chartset import ChartSet
from tui.curvebook import CurveBook, RunCurves
from tui.feed import RunDetail
from tui.metrics import LOSS, drawing, metrics_of
from tui.widgets.chart import Chart
from tui.widgets.chartgrid import ChartGrid

MakeApp = Callable[..., WorkbenchApp]


def full(shown: RunDetail) -> RunDetail:
    """With everything that a run journals."""
    x = shown.series["loss"][0]
    count = len(x)
    more = {
        "grad_norm": (x, 1 + np.exp(-x / 30)),
        "tokens_per_second": (x, 3000 + 100 * np.sin(x)),
        "mean_token_accuracy": (x, 0.6 - 0.3 * np.exp(-x / 25)),
        "memory_bytes": (x, np.full(count, 4.0 * 2**30)),
        "peak_memory_bytes": (x, np.full(count, 5.0 * 2**30)),
        "used_bytes cuda:0": (x[::5], np.full(len(x[::5]), 6.0 * 2**30)),
        "utilisation cuda:0": (x[::5], np.full(len(x[::5]), 93.0)),
        "tokens": (x, np.full(count, 2500.0)),
        "t": (x, NOW - 3000 + x * 6),
        "epoch": (x, x / 60),
        "reward/mean": (x, np.log(x)),
    }
    return replace(shown, series=shown.series | more)


def grid(app: WorkbenchApp) -> ChartGrid:
    return next(found for found in app.screen.query(ChartGrid) if found.size.height)


def charts(app: WorkbenchApp) -> ChartSet:
    found = app.screen.charts  # type: ignore[attr-defined]
    assert isinstance(found, ChartSet)
    return found


def titles(app: WorkbenchApp) -> list[str]:
    return [chart.title for chart, _ in charts(app).cells]


def told(app: WorkbenchApp) -> str:
    return str(grid(app).query_one("#charts-told").render())


# ---- the curves of runs


def test_curves_grow_and_are_not_looked_at_again() -> None:
    book = CurveBook()
    [first] = book.of([full(detail(running().row, 57))])
    version, loss = first.version, first.series("loss")
    [same] = book.of([full(detail(running().row, 57))])
    assert same is first and same.version == version, "nothing is drawn when nothing changed"
    [grown] = book.of([full(detail(replace(running().row, step=60), 60))])
    assert grown.series("loss") is loss and loss is not None and len(loss) == 60
    assert grown.version > version
    resumed = replace(running().row, attempt=2, step=45)
    [again] = book.of([full(detail(resumed, 45))])
    assert again.series("loss") is not loss and len(again.series("loss") or ()) == 45
    assert book.of([]) == []


def test_axes_count_tokens_minutes_and_epochs() -> None:
    run = RunCurves(full(finished()))
    loss = run.series("loss")
    assert loss is not None
    assert run.over(loss, "tokens").x[-1] == 120 * 2500
    assert run.over(loss, "minutes").x[-1] == pytest.approx((120 - 1) * 6 / 60)
    assert run.over(loss, "epoch").x[-1] == 2.0
    assert run.place([40.0], "tokens") == [100_000.0]
    bare = RunCurves(finished())
    assert not bare.has("tokens") and bare.over(loss, "tokens") is loss


def test_time_between_attempts_is_no_training() -> None:
    def started(t: float, step: int) -> dict[str, Any]:
        event = {"type": "state", "state": "running", "max_steps": 120, "resume_step": step}
        return {"t": t, "type": "state", "text": "running", "event": event}

    x = np.arange(1.0, 121)
    t = NOW + x * 6 + np.where(x > 60, 3600, 0)
    events = [started(NOW, 0), started(NOW + 60 * 6 + 3600, 60)]
    shown = replace(finished(), series={"loss": (x, x), "t": (x, t)}, events=events)
    run = RunCurves(shown)
    assert run.place([60.0, 61.0, 120.0], "minutes") == pytest.approx([6.0, 6.1, 12.0])
    assert [mark.x for mark in run.markers("step") if mark.kind == "resume"] == [60.0]


def test_notes_stand_where_they_were_written() -> None:
    noted = replace(full(finished()), notes=[{"id": "1", "t": NOW - 3000 + 240, "text": "here"}])
    marks = RunCurves(noted).markers("step")
    assert [mark.x for mark in marks if mark.kind == "note"] == [40.0]
    assert [mark.x for mark in marks if mark.kind == "checkpoint"] == [40.0, 80.0, 120.0]


def test_every_metric_of_the_journal_has_a_chart() -> None:
    found = [metric.id for metric in metrics_of([RunCurves(full(finished()))])]
    assert found == [
        *("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second"),
        *("mean_token_accuracy", "memory", "utilisation", "step_seconds", "reward/mean"),
    ]


def test_memory_has_its_lines() -> None:
    from tui.metrics import KNOWN

    memory = next(metric for metric in KNOWN if metric.id == "memory")
    run = RunCurves(full(finished()))
    made = drawing(memory, [run], "step", 0.9, looks={}, names={})
    assert {line.name: float(line.y[-1]) for line in made.lines} == {
        "this run": 4.0, "peak": 5.0, "device": 6.0,
    }  # fmt: skip


def test_the_baseline_is_drawn_above_the_others() -> None:
    one, two = RunCurves(full(running())), RunCurves(full(finished()))
    made = drawing(LOSS, [one, two], "step", 0.6, looks={}, names={}, pinned=two.id)
    assert [line.name for line in made.lines] == ["loss", "smoothed", "validation", "★ demo"]
    assert made.lines[-1].pinned
    many = drawing(LOSS, [one, two], "step", 0.6, looks={one.id: 3, two.id: 7}, names={})
    assert [(line.name, line.tag) for line in many.lines if not line.quiet] == [
        ("demo-2", "a"), ("demo", "b"),
    ]  # fmt: skip


# ---- the keys


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)], ids=str)
async def test_the_grid_shows_all_charts_in_pages(size: Any, frozen_app: MakeApp) -> None:
    app = frozen_app(full(running()))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        while not app.screen.on_charts:  # type: ignore[attr-defined]
            await pilot.press("right_square_bracket")
            await settle(pilot)
        seen: list[str] = []
        for _ in range(10):
            seen += titles(app)
            for chart, _ in charts(app).cells:
                assert chart.size.width >= 34 and chart.size.height >= 5
            await pilot.press("ctrl+d")
            await settle(pilot)
        assert {"loss", "gradient norm", "memory, GiB", "reward/mean"} <= set(seen)
        await pilot.press("g")
        await settle(pilot)
        assert titles(app)[0] == "loss" and charts(app).cells[0][0].has_focus


async def test_reading_values_under_a_cursor(frozen_app: MakeApp) -> None:
    app = frozen_app(full(running()))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket", "v")
        await settle(pilot)
        state = charts(app).state
        assert state.cursor == 57.0 and "reading at step 57" in told(app)
        await pilot.press("g")
        assert state.cursor == 1.0
        await pilot.press("l")
        await settle(pilot)
        assert state.cursor is not None and state.cursor > 1.0
        rate = next(chart for chart, metric in charts(app).cells if metric.id == "learning_rate")
        step = int(state.cursor)
        assert f"{3e-3 * (1 - (step - 1) / 120):.4g}" in str(rate.border_subtitle)
        await pilot.press("escape")
        assert state.cursor is None
        assert app.screen.on_charts, "esc ends the reading first"  # type: ignore[attr-defined]


async def test_zoom_and_pan(frozen_app: MakeApp) -> None:
    app = frozen_app(full(finished()))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket", "plus", "plus")
        await settle(pilot)
        state = charts(app).state
        assert state.window is not None
        width = state.window[1] - state.window[0]
        assert width == pytest.approx(30, rel=0.05)
        before = state.window
        await pilot.press("l")
        assert state.window[0] == pytest.approx(before[0] + width / 4)
        await pilot.press(*"hhhhhhhhhhhhhhhh")
        assert state.window[0] == 0.0
        await pilot.press("minus")
        assert state.window[1] - state.window[0] == pytest.approx(2 * width)
        await pilot.press("0")
        assert state.window is None


async def test_the_x_axis_goes_round(frozen_app: MakeApp) -> None:
    app = frozen_app(full(finished()))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket")
        seen = []
        for _ in range(5):
            seen.append(charts(app).state.axis)
            await pilot.press("x")
        assert seen == ["step", "tokens", "minutes", "epoch", "step"]


async def test_a_chart_on_the_whole_screen_and_back(frozen_app: MakeApp) -> None:
    app = frozen_app(full(finished()), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("enter", "l", "z")
        await settle(pilot)
        assert isinstance(app.screen.maximized, Chart)
        assert app.screen.maximized.title == "validation loss"
        assert app.screen.maximized.size.width > 70
        await pilot.press("L")
        await settle(pilot)
        assert charts(app).state.log == {"eval_loss"}, "only the chart in the lead"
        await pilot.press("l")
        await settle(pilot)
        assert app.screen.maximized.title == "learning rate"
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen.maximized is None


async def test_marked_runs_are_compared(frozen_app: MakeApp) -> None:
    third = full(detail(row("third", "finished", step=90, max_steps=90), 90))
    app = frozen_app(full(running()), full(finished()), third, mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("space", "space", "c")
        await settle(pilot)
        assert [run.name for run in charts(app).runs] == ["demo-2", "demo"]
        looks = dict(charts(app)._looks)
        await pilot.press("escape", "space", "c")
        await settle(pilot)
        assert len(charts(app).runs) == 3
        assert {id: charts(app)._looks[id] for id in looks} == looks, "a run keeps its look"
        assert len({*charts(app)._looks.values()}) == 3


async def test_one_run_is_compared_with_the_baseline(frozen_app: MakeApp) -> None:
    app = frozen_app(full(running()), full(finished()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("c")
        await settle(pilot)
        assert app.screen.charts is None, "one alone is no comparison"  # type: ignore[attr-defined]
        await pilot.press("j", "p", "k", "c")
        await settle(pilot)
        assert app.pinned == finished().row.id
        assert [run.name for run in charts(app).runs] == ["demo-2", "demo"]
        await pilot.press("2")
        await settle(pilot)
        names = [line.name for line in app.screen.query_one("#loss", Chart).lines]
        assert names[-1] == "★ demo"
        await pilot.press("3", "escape", "j", "p")
        await settle(pilot)
        assert app.pinned is None


async def test_a_deleted_run_leaves_the_comparison(frozen_app: MakeApp) -> None:
    feed = FrozenFeed(snapshot_of(full(running()), full(finished())))
    app = frozen_app(feed=feed, mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("space", "space", "c")
        await settle(pilot)
        feed.say(snapshot_of(full(running())))
        await settle(pilot)
        assert [run.name for run in charts(app).runs] == ["demo-2"]
        feed.say(snapshot_of())
        await settle(pilot)
        assert app.is_running


async def test_saving_a_chart(frozen_app: MakeApp, home: Home, tmp_path: Path) -> None:
    app = frozen_app(full(finished()))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)

        async def save(name: str) -> None:
            await pilot.press("Y")
            await settle(pilot)
            app.screen.query_one("#line").value = str(tmp_path / name)  # type: ignore[attr-defined]
            await pilot.press("enter")
            await app.workers.wait_for_complete()
            await settle(pilot)

        await pilot.press("right_square_bracket")
        for name in ("loss.csv", "loss.svg", "loss.txt", "no/such/loss.csv"):
            await save(name)
        rows = list(csv.reader((tmp_path / "loss.csv").open()))
        assert rows[0][:2] == ["step", "loss"] and len(rows) > 120
        svg = (tmp_path / "loss.svg").read_text()
        assert svg.startswith("<?xml") and "validation" in svg
        assert not (tmp_path / "loss.txt").exists()
        (tmp_path / "loss.csv").write_text("kept")
        await save("loss.csv")
        assert (tmp_path / "loss.csv").read_text() == "kept", "nothing is written over"


async def test_hostile_names_of_metrics_and_runs(frozen_app: MakeApp) -> None:
    name = f"EVIL{HOSTILE}"
    shown = full(detail(row("x", "finished", step=90, max_steps=90), 90))
    shown = replace(shown, row=replace(shown.row, name=name))
    series = shown.series | {name: shown.series["loss"], "y" * 100_000: shown.series["loss"]}
    app = frozen_app(replace(shown, series=series), full(running()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for keys in (["enter"], ["ctrl+d"], ["v"], ["z"], ["z"], ["escape"], ["escape"], ["p"],
                     ["space"], ["space"], ["c"], ["ctrl+d"], ["2"]):  # fmt: skip
            await pilot.press(*keys)
            await settle(pilot)
            check(app)
        await pilot.press("3")
        await settle(pilot)
        assert "EVIL" in check(app)


async def test_a_run_without_points_says_so(frozen_app: MakeApp) -> None:
    app = frozen_app(RunDetail(row("new", "starting")))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("right_square_bracket", "v", "plus", "x", "S", "L", "z", "Y", "escape")
        await settle(pilot)
        assert app.is_running
