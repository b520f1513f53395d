"""The Data screen over a small real dataset, with the dirt that a screen could trip over."""

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import ContentSwitcher, Input

from engine.home import Home
from tests.tui.conftest import settle
from tests.tui.wares import (
    press,
    table_lines,
    title,
    words,
)
from tui.rowviews import Rows
from tui.rowwords import row_runs
from tui.screens.data import DataScreen
from tui.tabs import tab_words
from tui.widgets.lines import LinesView
from tui.widgets.rowsearch import FIND_ROWS, search_order
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.usefixtures("no_tokenizer")

# --- what it does


async def test_every_view_shows_its_rows(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        report = app.screen.browser.rows.dataset.report
        counts = {
            "train": report.train,
            "validation": report.validation,
            "test": report.test,
            "raw": report.rows_read,
            "cleaned": report.rows_kept,
            "dropped": report.rows_read - report.rows_kept,
        }
        seen = {}
        for _ in range(8):
            view = app.screen.browser.view
            if view in counts:
                seen[view] = app.screen.query_one(PagedTable).count
                assert table_lines(app)[0].endswith(f" of {counts[view]:,}")
            assert f"[{view}]" in title(app)
            await press(pilot, "right_square_bracket")
        assert seen == counts and app.screen.browser.view == "train"


async def test_a_pane_on_the_whole_screen_never_hides_the_view_that_follows(
    filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "z", "right_square_bracket")
        assert app.screen.maximized is app.screen.query_one(PagedTable)  # it shows the next split
        for _ in range(2):
            await press(pilot, "right_square_bracket")
        assert app.screen.browser.view == "formatted" and app.screen.maximized is None
        assert app.screen.query_one("#words").region.height > 10
        await press(pilot, "left_square_bracket", "tab", "z")
        assert app.screen.maximized is app.screen.query_one("#detail")
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert app.screen.maximized is None
        assert app.screen.query_one(PagedTable).region.height > 10


async def test_dropped_rows_say_why(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "left_square_bracket")
        shown = "\n".join(table_lines(app))
        for why in ("not readable", "empty completion", "completion again"):
            assert why in shown
        await press(pilot, "G", "enter")
        assert "completion again: repeats line 1" in words(app).replace("\n", " ")
        await press(pilot, "escape")
        assert app.screen.query_one(ContentSwitcher).current == "browse"
        assert app.screen.focused is app.screen.query_one(PagedTable)


async def test_a_long_row_is_shown_whole_and_scrolls(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "left_square_bracket", "left_square_bracket", "G")
        assert "Long" in table_lines(app)[-1] or "Long" in "\n".join(table_lines(app))
        await press(pilot, "enter")
        pane = app.screen.query_one("#words", LinesView)
        assert len(pane.text_lines) > 1300
        await press(pilot, "G")
        assert pane.top > 1200
        await press(pilot, "g", "ctrl+d")
        assert 0 < pane.top < 100
        await press(pilot, "N")
        assert "long long" in words(app), "N: the row before, without going back to the table"


async def test_hostile_rows_break_nothing_in_any_view(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for _ in range(8):
            for keys in (("G",), ("k",), ("enter",), ("escape",), ("g",)):
                await press(pilot, *keys)
                for strip in app.screen._compositor.render_strips():
                    assert strip.cell_length == 80
                    assert all(s.text.isprintable() or not s.text for s in strip)
                    assert "\u202e" not in strip.text
            await press(pilot, "right_square_bracket")
        assert isinstance(app.screen, DataScreen)


async def test_finding_goes_on_round_the_end(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "left_square_bracket", "left_square_bracket")
        await press(pilot, "slash", *"KETTLE", "enter")
        table = app.screen.query_one(PagedTable)
        places = [table.cursor]
        while True:
            await press(pilot, "n")
            if table.cursor == places[0]:
                break
            places.append(table.cursor)
        assert places == sorted(places) and len(places) == 16
        await press(pilot, "N")
        assert table.cursor == places[-1]
        before = table.cursor
        await press(pilot, "slash", "end", "ctrl+u", *"no such text", "enter")
        assert table.cursor == before


async def test_letters_in_the_search_field_are_text(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "slash", *"q5Xs")
        assert app.screen.query_one("#ask", Input).value == "q5Xs"
        await press(pilot, "escape")
        assert isinstance(app.screen, DataScreen) and not app.screen.query_one("#ask").display


@pytest.mark.parametrize("view", ["raw", "cleaned", "dropped"])
async def test_jumping_to_a_line(view: str, filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        while app.screen.browser.view != view:
            await press(pilot, "left_square_bracket")
        rows = app.screen.browser.rows
        all_lines = [row["line"] for row in rows.page(view, 0, 1000)]
        table = app.screen.query_one(PagedTable)
        for line in (all_lines[-1], all_lines[len(all_lines) // 2], 1, 99_999):
            await press(pilot, "number_sign", *str(line), "enter")
            wanted = min((each for each in all_lines if each >= line), default=all_lines[-1])
            assert all_lines[table.cursor] == wanted
        await press(pilot, "number_sign", *"abc", "enter")
        assert table.cursor == len(all_lines) - 1


async def test_a_dataset_that_is_gone_says_so(filled: Home, frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        source.write_text("{}")
        await press(pilot, *["left_square_bracket"] * 3)
        assert "has changed since it was cleaned" in " ".join(words(app).split())
        await press(pilot, "right_square_bracket")
        assert "Oak bench" in table_lines(app)[1], "the cleaned rows are still there"


# --- parts


@pytest.mark.parametrize("here", [0, 1, 4_999, 9_999])
@pytest.mark.parametrize("by", [1, -1])
def test_search_visits_every_other_row_once(here: int, by: int) -> None:
    count = 10_000
    visited: list[int] = []
    for start, stop in search_order(here, count, by):
        piece = list(range(start, stop))
        assert 0 < len(piece) <= FIND_ROWS
        visited += piece if by > 0 else piece[::-1]
    assert sorted(visited) == [place for place in range(count) if place != here]
    assert visited[0] == (here + by) % count


@pytest.mark.parametrize("cells", range(8, 100, 7))
def test_tabs_fit_their_place(cells: int) -> None:
    for view in ("raw", "validation", "tokens"):
        line = tab_words(view, cells)
        assert cell_len(line) <= cells
        assert cells < 30 or "[" in line


def test_a_row_in_words() -> None:
    runs = row_runs("dropped", {"line": 1234, "rule": "new_rule", "evidence": "\x1b", "raw": "x"})
    told = "".join(text for text, _ in runs)
    assert told.startswith("line 1,234 of the source") and "new rule: ␛" in told
    long = "".join(text for text, _ in row_runs("raw", {"line": 1, "raw": "x" * 500_000}))
    assert "100,000 more characters are not shown" in long


@pytest.mark.parametrize("view", ["raw", "cleaned", "dropped", "train"])
def test_rows_are_the_same_after_a_rest(view: str, filled: Home) -> None:
    rows = Rows.open(filled, "wares")
    rows.rest()
    before = rows.page(view, 0, 4)
    rows.rest()
    assert len(before) == 4 and rows.page(view, 0, 4) == before
