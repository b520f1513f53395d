"""Every view of one source line; before and after; filters; lengths; the funnel's lines."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import ContentSwitcher

from engine.data.prepare import prepare
from engine.errors import UserError
from engine.home import Home
from tests.tui.conftest import settle
from tests.tui.wares import (
    MARKED_LINE,
    check_borders,
    foot,
    press,
    recipe,
    stats,
    table_lines,
    title,
    to_line,
    to_view,
    until,
    words,
)
from tui.rowlist import FilteredRows, RowList
from tui.rowplace import find_row
from tui.rowviews import SPLITS, TABLES, Rows
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.usefixtures("no_tokenizer")

EMPTY_LINE = 10
"""A row without a completion: dropped."""


def shown(app: Any) -> str:
    return str(app.screen.query_one("#views", ContentSwitcher).current)


def cursor_line(app: Any) -> int:
    """The source line of the row under the table's cursor."""
    table = app.screen.query_one(PagedTable)
    return int(table.row(table.cursor)[0])


# --- the same line in every view


async def test_every_view_shows_the_same_line(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        rows: Rows = app.screen.browser.rows
        await to_view(pilot, "raw")
        await to_line(pilot, MARKED_LINE)
        split = next(each for each in SPLITS if rows.has_line(each, MARKED_LINE) is not None)
        for view in ("cleaned", split):
            await to_view(pilot, view)
            assert cursor_line(app) == MARKED_LINE
            assert "Marked lamp" in table_lines(app)[app.screen.query_one(PagedTable).cursor + 1]
        await to_view(pilot, "formatted")
        assert "Marked lamp" in words(app) and f"line {MARKED_LINE}" in foot(app)
        await to_view(pilot, "tokens")
        assert shown(app) == "tokens" and foot(app).startswith(f"{split} row")
        assert "Marked lamp" in words(app, "tokens").replace("·", " ")
        await to_view(pilot, "raw")
        assert cursor_line(app) == MARKED_LINE, "all the way round"


async def test_where_a_line_is_not_the_nearest_is_shown_and_said(
    filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await to_view(pilot, "raw")
        await to_line(pilot, EMPTY_LINE)
        await press(pilot, "right_square_bracket")
        assert f"line {EMPTY_LINE} was dropped, empty completion · nearest: 11" in foot(app)
        assert cursor_line(app) == 11
        await press(pilot, "right_square_bracket")
        assert cursor_line(app) == EMPTY_LINE and "nearest" not in foot(app)
        await press(pilot, "left_square_bracket", "left_square_bracket")
        assert cursor_line(app) == EMPTY_LINE, "what was followed is still known"
        await press(pilot, "right_square_bracket", "j")
        assert "nearest" not in foot(app), "moved by hand: another line is followed"
        moved = cursor_line(app)
        await press(pilot, "left_square_bracket")
        assert cursor_line(app) == moved != EMPTY_LINE


async def test_a_whole_row_stays_whole_from_view_to_view(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "raw")
        await to_line(pilot, MARKED_LINE)
        await press(pilot, "enter")
        assert '"content": "A <b>bold</b>' in words(app)
        await press(pilot, "right_square_bracket")
        assert shown(app) == "words" and "[cleaned]" in title(app)
        assert "A bold lamp & more" in words(app)
        await press(pilot, "escape")
        assert shown(app) == "browse" and cursor_line(app) == MARKED_LINE


async def test_n_goes_on_through_the_split_as_the_model_sees_it(
    filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "test")
        await press(pilot, "j", "k")
        await to_view(pilot, "tokens")
        assert "trained: the loss counts them" in words(app, "tokens")
        assert foot(app).startswith("test row 1 of")
        await press(pilot, "n")
        assert foot(app).startswith("test row 2 of")


def test_a_line_is_looked_for_in_every_split(filled: Home) -> None:
    rows = Rows.open(filled, "wares")
    lists = {view: RowList(rows, view) for view in TABLES}
    for split in SPLITS:
        line = rows.one(split, 0)["line"]
        for first in SPLITS:
            found = find_row(rows, lists, "tokens", first, line, 0)
            assert (found.view, found.place, found.note) == (split, 0, "")
    nowhere = find_row(rows, lists, "tokens", "train", EMPTY_LINE, 0)
    assert "was dropped" in nowhere.note and nowhere.line == EMPTY_LINE


# --- before and after


@pytest.mark.parametrize("view", ["raw", "cleaned"])
@pytest.mark.parametrize(("size", "beside"), [((80, 24), False), ((120, 40), True)])
async def test_a_changed_row_before_and_after(
    view: str, size: tuple[int, int], beside: bool, filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await to_view(pilot, view)
        await to_line(pilot, MARKED_LINE)
        await press(pilot, "b")
        told = words(app, "compare")
        assert "kept, changed by html, whitespace" in " ".join(told.split())
        assert "[-<b>-]" in told and "lamp" in told and "{+" in told
        assert any("before" in line and "after" in line for line in told.splitlines()) is beside
        check_borders(app)
        await press(pilot, "n")
        assert f"line {MARKED_LINE + 1} of the source" in words(app, "compare")
        await press(pilot, "b")
        assert shown(app) == "browse"


async def test_a_dropped_row_before_and_after(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "dropped")
        seen = []
        count = app.screen.query_one(PagedTable).count
        await press(pilot, "g", "b")
        for _ in range(count):
            seen.append(" ".join(words(app, "compare").split()))
            await press(pilot, "n")
        assert any("could not be read" in told and "Broken lamp" in told for told in seen)
        assert any("empty completion" in told for told in seen)
        assert any("completion again: repeats line 1" in told for told in seen)


async def test_a_source_that_is_gone_is_said(filled: Home, frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "cleaned")
        source.write_text("{}")
        await press(pilot, "b")
        assert "has changed since it was cleaned" in " ".join(words(app).split())
        await press(pilot, "escape")
        assert shown(app) == "browse"


def test_every_row_can_be_retraced(filled: Home) -> None:
    """As the engine cleaned them: what is kept comes out as it is in the cleaned rows."""
    rows = Rows.open(filled, "wares")
    for row in rows.page("raw", 0, 1000):
        tried = rows.retrace(row["line"])
        place = rows.has_line("cleaned", row["line"])
        if place is None:
            dropped = rows.one("dropped", rows.at_line("dropped", row["line"]))
            assert (tried.reason, tried.evidence) == (dropped["rule"], dropped["evidence"])
        else:
            kept = rows.one("cleaned", place)
            assert tried.reason is None
            assert tried.after[:2] == (kept["prompt"], kept["completion"])
    with pytest.raises(UserError, match="blank or not there"):
        rows.retrace(5)


# --- filters


async def test_only_rows_with_a_text(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "cleaned")
        whole = app.screen.query_one(PagedTable).count
        await to_line(pilot, MARKED_LINE)
        await press(pilot, "F", *"KETTLE", "enter")
        table = app.screen.query_one(PagedTable)
        assert table.count == 16 and all("ettle" in line for line in table_lines(app)[1:16])
        assert f"16 of {whole}" in foot(app)
        await press(pilot, "G")
        line = cursor_line(app)
        await press(pilot, "slash", *"kettle 31", "enter")
        assert "Copper kettle 31" in table_lines(app)[table.cursor - table.top + 1]
        await press(pilot, "G", "left_square_bracket")
        assert cursor_line(app) == line, "the line of the filtered row"
        await press(pilot, "right_square_bracket", "escape")
        assert table.count == whole and cursor_line(app) == line


async def test_a_filter_that_lets_nothing_through_gives_the_row_back(
    filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "cleaned")
        await to_line(pilot, MARKED_LINE)
        await press(pilot, "F", *"no such text", "enter")
        assert "No row with “no such text”." in "\n".join(table_lines(app))
        await press(pilot, "escape")
        assert cursor_line(app) == MARKED_LINE


async def test_only_one_reason(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "dropped")
        await press(pilot, "F", *"malformed", "enter")
        table = app.screen.query_one(PagedTable)
        assert table.count == app.screen.browser.rows.dataset.report.dropped["malformed"] == 2
        await press(pilot, "F", "ctrl+u", "enter")
        assert table.count == app.screen.browser.rows.count("dropped")


class ManyRows:
    """2.2 million rows that are made when they are asked for; counts how many were."""

    name, shape, seen_by = "many", "pair", "recipe demo"

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.made = 0
        self.gate = gate

    def count(self, view: str) -> int:
        return 2_200_000

    def page(self, view: str, start: int, count: int) -> list[dict[str, Any]]:
        if self.gate is not None:
            assert self.gate.wait(20)
        self.made += count
        return [
            {"line": n + 1, "prompt": f"title {n}", "completion": "needle" if n == 7777 else "hay"}
            for n in range(start, min(start + count, 2_200_000))
        ]

    one = Rows.one
    at_line = Rows.at_line
    cells = Rows.cells


def test_a_line_among_millions_is_found_by_few_rows() -> None:
    rows: Any = ManyRows()
    place, line = RowList(rows, "cleaned").closest(1_234_567)
    assert (place, line) == (1_234_566, 1_234_567) and rows.made < 50


def test_a_filter_reads_pieces_and_pages_what_it_found() -> None:
    rows: Any = ManyRows()
    found = FilteredRows(rows, "cleaned", "NEEDLE")
    while found.count == 0:
        assert found.scan()
    assert rows.made == 8_000 and not found.done
    assert [row["line"] for row in found.page(0, 100)] == [7778]
    assert found.closest(5) == (0, 7778)


async def test_esc_stops_a_filter_and_keeps_what_it_found(
    filled: Home, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = frozen_app(mode="data")
    gate = threading.Event()
    scans: list[int] = []

    def scan(self: FilteredRows) -> bool:
        scans.append(1)
        if len(scans) > 1:
            assert gate.wait(20)
        self.scanned += 10
        self._places.append(len(scans))
        self._lines.append(len(scans) + 1)
        return True

    monkeypatch.setattr(FilteredRows, "scan", scan)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_view(pilot, "cleaned")
        await press(pilot, "F")
        await pilot.press("x", "enter")
        await until(pilot, lambda: len(scans) == 2 and "esc stops" in foot(app))
        await pilot.press("escape")
        gate.set()
        await settle(pilot)
        assert len(scans) == 2 and "in the first" in foot(app)
        assert app.screen.query_one(PagedTable).count == 1
        await press(pilot, "escape")
        assert app.screen.query_one(PagedTable).count > 50


# --- lengths


async def test_lengths_at_once_and_the_whole_split_on_request(
    filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "H")
        told = words(app, "lengths")
        assert "the first 2,000 of 18,000 rows, an estimate" in told.replace("\n", " ")
        assert "max_length 128 cuts 900 rows (45 %)" in told
        check_borders(app)
        await press(pilot, "enter")
        assert "all 18,000 rows" in words(app, "lengths")
        await press(pilot, "n")
        assert words(app, "lengths").count("validation: ") == 1
        await press(pilot, "escape")
        assert shown(app) == "browse"


async def test_counting_a_split_tells_how_far_it_is_and_stops(
    filled: Home, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.data.progress import Cancelled

    ended: list[str] = []

    def slow(self: Rows, split: str, sample: int, progress: Any, cancelled: Any) -> Any:
        if sample:
            return stats(self, split, sample, progress, cancelled)
        progress(1_000, 18_000)
        wait = threading.Event()
        while not cancelled():
            wait.wait(0.01)
        ended.append(split)
        raise Cancelled("given up")

    monkeypatch.setattr(Rows, "lengths", slow)
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "H")
        await pilot.press("enter")
        await until(pilot, lambda: "1,000 of 18,000 rows counted" in foot(app))
        await press(pilot, "escape")
        assert ended == ["train"] and shown(app) == "lengths"
        assert "an estimate" in words(app, "lengths")
        await press(pilot, "escape")
        assert shown(app) == "browse"


async def test_a_tokenizer_that_is_missing_is_said(
    filled: Home, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise UserError("no/such-model: is not in the cache")

    monkeypatch.setattr(Rows, "lengths", fail)
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "H")
        assert "✗ no/such-model" in words(app, "lengths")


# --- the funnel


async def test_the_funnels_lines_open_what_they_count(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        funnel = app.screen.query_one("#funnel")
        report = app.screen.browser.rows.dataset.report
        for name, view, count in (
            ("dropped.malformed", "dropped", report.dropped["malformed"]),
            ("rows_read", "raw", report.rows_read),
            ("validation", "validation", report.validation),
        ):
            app.screen.set_focus(funnel)
            funnel.choose(name)
            await press(pilot, "enter")
            assert app.screen.browser.view == view
            assert app.screen.query_one(PagedTable).count == count
        app.screen.set_focus(funnel)
        funnel.choose("changed.html")
        await press(pilot, "enter")
        assert f"line {MARKED_LINE}, before" in words(app, "compare")
        assert "[-<b>-]" in words(app, "compare")
        await press(pilot, "escape")
        assert shown(app) == "browse"


async def test_warnings_are_told_whole(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.screen.browser.rows.dataset.report.warnings.append("a long [/red] warning " * 5)
        await app.screen._open("wares")
        report = app.screen.browser.rows.dataset.report
        report.warnings.append("a long [/red] warning \x1b[2J" * 5)
        funnel = app.screen.query_one("#funnel")
        app.screen.set_focus(funnel)
        from engine.data.report import funnel as rows_of

        funnel.show_funnel(rows_of(report), len(report.warnings))
        funnel.choose("warnings")
        await press(pilot, "enter")
        assert words(app).count("[/red]") == 5
        check_borders(app)


async def test_the_funnels_cursor_is_seen_without_colour(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        funnel = app.screen.query_one("#funnel")
        app.screen.set_focus(funnel)
        await settle(pilot)
        seen = set()
        for _ in range(len(funnel._names)):
            lines = [funnel.render_line(y).text for y in range(funnel.size.height)]
            marked = [line for line in lines if "›" in line]
            assert len(marked) == 1
            seen.add(marked[0])
            await press(pilot, "j")
        assert len(seen) == sum(bool(name) for name in funnel._names)


# --- other shapes of rows

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "instruction": (
        {"instruction": "Say <i>it</i>", "input": "some {n}", "output": "{n}  it is"},
        "instruction",
    ),
    "conversation": (
        {
            "messages": [
                {"role": "system", "content": "Be [/red] short."},
                {"role": "user", "content": "What is <b>{n}</b>?"},
                {"role": "assistant", "content": "{n}  it is."},
            ]
        },
        "assistant",
    ),
    "text": ({"text": "Once  upon <b>{n}</b> times"}, "completion"),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_rows_of_every_shape(shape: str, home: Home, tmp_path: Path, frozen_app: Any) -> None:
    pattern, name = SHAPES[shape]
    source = tmp_path / "rows.jsonl"
    text = json.dumps(pattern)
    source.write_text("".join(text.replace("{n}", str(n)) + "\n" for n in range(40)))
    dataset = prepare(home, recipe(source))
    assert dataset.shape == shape
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for view in TABLES:
            await to_view(pilot, view)
            check_borders(app)
        await to_view(pilot, "cleaned")
        await to_line(pilot, 7)
        await press(pilot, "enter")
        assert name in words(app) and "6" in words(app)
        await press(pilot, "escape", "b")
        told = words(app, "compare")
        assert f"{name}, before" in told and "line 7 of the source" in told
        check_borders(app)
        await press(pilot, "u")
        assert app.screen.seen.touch("whitespace").changed == 40
        check_borders(app)
