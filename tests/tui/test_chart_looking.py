"""Events, cursor, windows, looks, and charts as files."""

import csv
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from textual.app import App, ComposeResult

from engine.charts.series import Series
from engine.charts.svg import csv_of, svg_of
from engine.text import UNSAFE
from tui.chartview import LOOKS, look_of, looks, moved, panned, value_at, x_at, zoomed
from tui.plotting import draw
from tui.raster import CURSOR, MARKER, Line, Marker, Options
from tui.widgets.chart import Chart

X = np.arange(1000.0)
FALL = Line("loss", X, 3 * np.exp(-X / 300) + 1)
PLAIN = Options("ascii", guides=False)
HOSTILE = "a\x1b]52;c;x\x07<b>&\"'\u202e[@click=app.quit]\x9b\uffff\ud800\n=1"


def test_events_are_letters_above_the_plot() -> None:
    markers = (
        Marker(500, "checkpoint"),
        Marker(500, "evaluation"),
        Marker(200, "resume"),
        Marker(800, "note"),
        Marker(5000, "note"),
    )
    frame = draw([FALL], 80, 12, Options("ascii", markers=markers))
    letters = {letter: frame.row(0).find(letter) for letter in "cern"}
    assert frame.row(0).replace(" ", "") == "rcen"
    assert letters["e"] == letters["c"] + 1
    assert frame.area is not None
    assert letters["c"] == frame.area.left + int(frame.area.cell_of(np.float64(500)))
    lined = [x for x in range(80) if (frame.styles[1:11, x] == MARKER).sum() > 5]
    assert lined == [letters["r"], letters["n"]]
    assert (frame.styles[1:11] == 0).any(axis=0).sum() > 70, "the line goes on through them"
    outside = draw([FALL], 80, 12, Options("ascii", markers=markers[-1:]))
    assert outside.text() == draw([FALL], 80, 12, Options("ascii")).text()


def test_a_pinned_line_lies_on_top_and_tags_stand_at_the_right_end() -> None:
    same = [Line("a", X, X, pinned=True, tag="1"), Line("b", X, X), Line("c", X, X + 900, tag="3")]
    frame = draw(same, 60, 12, PLAIN)
    assert 1 not in frame.styles
    ends = {frame.row(y)[-1]: frame.styles[y, -1] for y in range(11)}
    assert (ends["1"], ends["3"]) == (0, 2), frame.text()
    for tag, seen in (("\x1b", "\u241b"), ("漢", "…")):
        assert seen in draw([Line("a", X, X, tag=tag)], 60, 12, PLAIN).text()


def test_the_cursor_reads_what_stands_under_it() -> None:
    spike = np.ones(100_000)
    spike[43_210] = 9.0
    spike[60_000:70_000] = np.nan
    lines = [Line("a", np.arange(100_000.0), spike), Line("few", np.array([0.0]), np.array([4.0]))]
    frame = draw([*lines, Line("none", np.empty(0), np.empty(0))], 100, 20, PLAIN)
    assert frame.area is not None
    column = frame.area.left + int(frame.area.cell_of(np.float64(43_210)))
    found, few = value_at(frame, lines, column)
    assert found and (found.low, found.high) == (1, 9) and abs(found.x - 43_210) < 1100
    assert few and (few.x, few.y, few.low, few.high) == (0, 4, 4, 4)
    gap = value_at(frame, lines, frame.area.left + int(frame.area.cell_of(np.float64(65_000))))[0]
    assert gap and math.isnan(gap.y)
    assert value_at(frame, lines, 0) == [None, None] and x_at(frame, 0) is None
    assert value_at(draw([], 40, 8), lines, 20) == [None, None]
    for at in range(frame.area.left, 100):
        x = x_at(frame, at)
        assert x is not None and frame.area.left + frame.area.cell_of(np.float64(x)) == at


@pytest.mark.parametrize("log_x", [False, True])
def test_the_cursor_moves_over_points(log_x: bool) -> None:
    few = Line("few", np.array([1.0, 10, 11, 400, 1000]), np.ones(5))
    frame = draw([few], 60, 10, Options("ascii", log_x=log_x))
    x, seen = 1.0, [1.0]
    while (new := moved(frame, [few], x, 1)) != x:
        x = new
        seen.append(x)
    assert seen[-1] == 1000 and set(seen) <= set(few.x.tolist()) and 400 in seen
    back = [x]
    while (new := moved(frame, [few], back[-1], -1)) != back[-1]:
        back.append(new)
    assert back[-1] == 1 and 400 in back
    drawn = draw([few], 60, 10, Options("ascii", log_x=log_x, cursor=400.0))
    assert (drawn.styles == CURSOR).any(axis=0).sum() == 1


def test_windows_stay_inside_and_keep_what_is_looked_at() -> None:
    whole = (0.0, 1000.0)
    window = zoomed(whole, whole, 0.5)
    assert window == (250, 750)
    assert zoomed(window, whole, 0.5, around=250.0) == (250, 500)
    assert panned(window, whole, 0.5) == (500, 1000) == panned((500, 1000), whole, 0.5)
    assert panned(window, whole, -9) == (0, 500)
    assert zoomed(window, whole, 2) is None
    low, high = zoomed((1.0, 10_000.0), (1.0, 10_000.0), 0.5, log=True) or (0, 0)
    assert (round(low, 6), round(high, 6)) == (10, 1000)
    narrow = whole
    for _ in range(200):
        narrow = zoomed(narrow, whole, 0.5) or narrow
    assert narrow[1] > narrow[0]
    assert draw([FALL], 80, 12, Options(x_range=narrow)).area is not None


def test_between_two_points_the_line_is_still_seen() -> None:
    two = Line("a", np.array([0.0, 100.0]), np.array([0.0, 1.0]))
    frame = draw([two], 60, 10, Options("ascii", x_range=(40.0, 60.0)))
    assert (frame.styles == 0).any(axis=0).sum() > 50
    broken = Line("a", np.array([0.0, 50, 100]), np.array([0.0, np.nan, 1]))
    assert (draw([broken], 60, 10, Options("ascii", x_range=(40.0, 60.0))).styles != 0).all()
    assert draw([two], 60, 10, Options(x_range=(200.0, 300.0))).note == "nothing in this window"


def test_log_x_gives_decades_the_same_room() -> None:
    line = Line("a", np.array([0.0, 1, 10, 100, 1000]), np.array([9.0, 0, 1, 2, 3]))
    frame = draw([line], 67, 10, Options("ascii", log_x=True))
    labels = {label: frame.row(9).find(label) for label in ("10", "100")}
    assert abs((labels["100"] - labels["10"]) - 21) <= 1, frame.text()
    assert frame.y_ticks[-1] <= 3, "a step 0 has no place there"


def test_looks_follow_from_the_ids_alone_and_differ() -> None:
    ids = [f"run-{number}" for number in range(LOOKS)]
    made = looks(ids)
    assert len(set(made.values())) == LOOKS == len({look_of(one) for one in made.values()})
    assert looks(ids[:5]) == {one: made[one] for one in ids[:5]}, "a new run changes no other"
    assert looks(ids[3:], kept=made) == {one: made[one] for one in ids[3:]}
    assert len(looks([*ids, "more"])) == LOOKS + 1


def svg(*lines: Line, **given: object) -> ElementTree.Element:
    return ElementTree.fromstring(svg_of(lines, str(given.pop("title", "t")), **given))  # type: ignore[arg-type]


def paths(root: ElementTree.Element) -> list[str]:
    inner = root.find("{http://www.w3.org/2000/svg}svg")
    assert inner is not None
    return [path.get("d", "") for path in inner.iter("{http://www.w3.org/2000/svg}path")]


def test_an_svg_has_every_spike_and_every_gap_and_few_points() -> None:
    y = np.ones(200_000)
    y[123_456] = 9
    y[150_000:160_000] = np.nan
    made = [path for path in paths(svg(Line("a", np.arange(200_000.0), y))) if "L" in path]
    assert len(made) == 2
    places = [tuple(map(float, place.split())) for path in made for place in path[1:].split("L")]
    assert len(places) <= 4 * 960
    x, top = min(places, key=lambda place: place[1])
    assert top == 0 and abs(x / 880 - 123_456 / 200_000) < 0.002
    assert any("l6 6" in path for path in paths(svg(Line("a", np.arange(200_000.0), y))))
    few = paths(svg(Line("a", X[:10], X[:10])))
    assert few[0].count("L") == 9


def test_hostile_names_do_no_harm_in_an_svg() -> None:
    text = svg_of([Line(HOSTILE, X, X, tag="<")], HOSTILE, x_label=HOSTILE)
    root = ElementTree.fromstring(text.encode())
    tags = {one.tag.rpartition("}")[2] for one in root.iter()}
    assert tags == {"svg", "title", "rect", "text", "path", "line"}
    words = "".join(root.itertext()).replace("\n", "")
    assert "<b>&\"'" in words and "href" not in text
    assert not re.search(f"[{UNSAFE}\ufffe\uffff]", words)


def test_an_svg_without_points_says_why() -> None:
    assert "no points yet" in "".join(svg().itertext())
    nan = Line("a", X[:2], np.array([np.nan, np.inf]))
    assert "no finite values" in "".join(svg(nan).itertext())


def test_an_svg_names_its_events() -> None:
    options = Options(markers=(Marker(500, "checkpoint"), Marker(501, "evaluation")), log_y=True)
    words = list(svg(FALL, options=options).itertext())
    assert "ce" in words and "c checkpoint · e evaluation" in words


def test_csv_holds_every_point_of_every_line() -> None:
    first = Line("=HYPERLINK(1)", np.array([0.0, 1, 2]), np.array([1.5, np.nan, np.inf]))
    second = Line('b,"\n\x1b', np.array([1.0, 2.0, 2.0, 1e6]), np.array([0.1, 7, 8, 1 / 3]))
    rows = list(csv.reader(csv_of([first, second, Line("none", X[:0], X[:0])])))
    assert rows[0] == ["step", "'=HYPERLINK(1)", 'b,"\u2424\u241b', "none"]
    assert rows[1:] == [
        ["0", "1.5", "", ""],
        ["1", "nan", "0.1", ""],
        ["2", "inf", "8.0", ""],
        ["1000000", "", "0.3333333333333333", ""],
    ]
    assert list(csv_of([])) == ["step\r\n"]
    assert (
        sum(1 for _ in csv_of([Line.of("a", Series.of(np.arange(1e4), np.arange(1e4)))])) == 10_001
    )


async def test_the_widget_draws_events_and_cursor_and_only_when_something_changed() -> None:
    chart = Chart("loss")

    class Screen(App[None]):
        def compose(self) -> ComposeResult:
            yield chart

    async with Screen().run_test(size=(80, 14)) as pilot:
        line = Line("a", X, FALL.y, "dashdot", pinned=True, tag="1")
        markers = (Marker(500, "checkpoint"),)
        chart.show([line, FALL], "same", markers=markers, cursor=300.0)
        await pilot.pause()
        drawn = [chart.render_line(y).text for y in range(chart.size.height)]
        assert "c" in drawn[0] and chart.frame is not None and chart.frame.area is not None
        column = drawn[1].find("┃")
        reading = value_at(chart.frame, [line], column)[0]
        assert reading and abs(reading.x - 300) < 10
        frames = chart.frames
        chart.show([line, FALL], "same", markers=markers, cursor=300.0)
        await pilot.pause()
        assert chart.frames == frames
        chart.show([line, FALL], "same", markers=markers, cursor=600.0, x_range=(400.0, 800.0))
        await pilot.pause()
        assert chart.frames == frames + 1
        assert "┃" not in chart.render_line(1).text[column - 2 : column + 3]
