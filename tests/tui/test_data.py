"""The Data screen over a small real dataset, with the dirt that a screen could trip over."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import ContentSwitcher, Input, Static

from engine.data import background
from engine.data.prepare import prepare
from engine.home import Home
from engine.recipe import Recipe
from tui.rowviews import Rows
from tui.rowwords import row_runs
from tui.screens.cleaning import CleanForm
from tui.screens.data import DataScreen
from tui.widgets.lines import LinesView
from tui.widgets.rowbrowser import tab_words
from tui.widgets.rowsearch import FIND_ROWS, search_order
from tui.widgets.table import PagedTable

SIZES = [(80, 24), (120, 40)]
NASTY = (
    "\x1b]52;c;cHduZWQ=\x07\x1b[2J [@click=app.quit]go[/] [/red] [bold \u202egnp.exe\u2066 ﷽"
    " 👨‍👩‍👧 漢字漢字漢字漢字 "
)
TITLES = ["Oak bench", "Copper kettle", "Wool scarf", "Steel pan", "Glass lamp", "Clay teapot"]


def lines() -> list[bytes]:
    """120 lines: good ones, duplicates, empty ones, lines that are no JSON, and nasty text."""
    made: list[bytes] = []
    for number in range(96):
        title = f"{TITLES[number % len(TITLES)]} {number}"
        row = {"title": title, "content": f"{title} is made to last. It comes in {number} parts."}
        made.append(json.dumps(row).encode())
    made[3:3] = [b'{"title": "Broken lamp", "content": "no end', b"", b"[1, 2, 3]"]
    made[9:9] = [json.dumps({"title": "Empty chair", "content": ""}).encode()]
    made.append(
        json.dumps({"title": "Twin bench", "content": json.loads(made[0])["content"]}).encode()
    )
    made.append(json.dumps({"title": NASTY + "title", "content": NASTY * 3}).encode())
    made.append(
        json.dumps({"title": "漢字 lamp", "content": "光" * 300 + " & <b>bold</b>"}).encode()
    )
    made.append(json.dumps({"title": "Long", "content": "long " * 20_000}).encode())
    return made


def recipe(source: Path, name: str = "wares") -> Recipe:
    return Recipe.model_validate(
        {
            "name": "demo",
            "data": {"source": str(source), "name": name},
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "wares.jsonl"
    path.write_bytes(b"\n".join(lines()) + b"\n")
    return path


@pytest.fixture
def filled(home: Home, source: Path) -> Home:
    """A home with one cleaned dataset."""
    prepare(home, recipe(source))
    return home


def preview(self: Rows, split: str, index: int) -> dict[str, Any]:
    """What engine.data.preview gives, for a tokeniser that cuts at spaces."""
    row = self.one(split, index)
    prompt = f"### Title:\n{row['prompt'][:60]}\n### Text:\n"
    pieces = [(piece, False) for piece in prompt.splitlines(keepends=True)]
    words = row["completion"].split()[:40]
    pieces += [(" " * bool(place) + word, True) for place, word in enumerate(words)]
    return {
        "text": prompt + " ".join(words),
        "tokens": [{"id": i, "text": t, "trained": on} for i, (t, on) in enumerate(pieces)],
        "truncated_at": len(pieces) if len(words) == 40 else None,
        "length": len(pieces) + 160,
        "eos_trained": len(words) < 40,
        "bos_count": 1,
    }


@pytest.fixture(autouse=True)
def _no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rows, "preview", preview)


async def settle(pilot: Any) -> None:
    for _ in range(4):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()


async def until(pilot: Any, true: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await pilot.pause(0.02)


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


def title(app: Any) -> str:
    return str(app.screen.query_one("#rows").border_title)


def foot(app: Any) -> str:
    return str(app.screen.query_one("#rows").border_subtitle)


def words(app: Any) -> str:
    return "\n".join(app.screen.query_one("#words", LinesView).text_lines)


def table_lines(app: Any) -> list[str]:
    table = app.screen.query_one(PagedTable)
    return [table.render_line(y).text.rstrip() for y in range(table.size.height)]


# --- looks


JOB = background.CleanState(
    "wares", "running", phase="cleaning", rows=1_234_567, fraction=0.56, rows_per_second=61_234.0
)

LOOKS: dict[str, list[str]] = {
    "empty": [],
    "raw": ["left_square_bracket"] * 3,
    "dropped": ["left_square_bracket"],
    "train": [],
    "row": ["left_square_bracket", "j", "enter"],
    "example": ["right_square_bracket"] * 3,
    "tokens": ["right_square_bracket"] * 4,
    "hostile": ["left_square_bracket", "left_square_bracket", "G"],
    "form": ["s"],
    "finding": ["slash", *"lamp"],
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", LOOKS)
def test_look(
    state: str,
    size: tuple[int, int],
    home: Home,
    source: Path,
    frozen_app: Any,
    snap_compare: Any,
) -> None:
    if state != "empty":
        prepare(home, recipe(source))

    async def before(pilot: Any) -> None:
        await settle(pilot)
        await press(pilot, *LOOKS[state])

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_look_while_cleaning(
    size: tuple[int, int], frozen_app: Any, snap_compare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "jobs", lambda home: [Path("job")])
    monkeypatch.setattr(background, "read_state", lambda folder: JOB)

    async def before(pilot: Any) -> None:
        await settle(pilot)
        pilot.app.screen.job.look()
        await settle(pilot)

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_look_after_a_failed_cleaning(
    size: tuple[int, int], frozen_app: Any, snap_compare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = background.CleanState(
        "wares", "failed", error="/data/wares.jsonl: no column 'title' in the first 1,000 rows; "
        "there are: name, text, price",
    )  # fmt: skip
    monkeypatch.setattr(background, "jobs", lambda home: [Path("job")])
    monkeypatch.setattr(background, "read_state", lambda folder: lost)
    monkeypatch.setattr(background, "forget", lambda folder: None)

    async def before(pilot: Any) -> None:
        await settle(pilot)
        pilot.app.screen.job.look()
        await settle(pilot)

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


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
                assert table_lines(app)[0].endswith(f"row 1 of {counts[view]:,}")
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
        assert app.screen.browser.view == "example" and app.screen.maximized is None
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
        for why in ("not one JSON object", "empty completion", "completion again"):
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
        assert len(pane.text_lines) > 1500
        await press(pilot, "G")
        assert pane.top > 1400
        await press(pilot, "g", "ctrl+d")
        assert 0 < pane.top < 100
        await press(pilot, "N")
        assert "光" in words(app), "N: the row before, without going back to the table"


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


async def test_the_same_row_as_example_and_tokens(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "j", "j", *["right_square_bracket"] * 3)
        first = app.screen.browser.rows.one("test", 0)["prompt"]
        assert first.split()[0] in words(app), "the split that was looked at last"
        await press(pilot, "right_square_bracket")
        assert app.screen.query_one(ContentSwitcher).current == "tokens"
        shown = "\n".join(app.screen.query_one("#tokens").text_lines)
        assert "trained: the loss counts them" in shown and "│" in shown
        await press(pilot, "n")
        assert foot(app).startswith("test row 2 of")


async def test_a_dataset_that_is_gone_says_so(filled: Home, frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        source.write_text("{}")
        await press(pilot, *["left_square_bracket"] * 3)
        assert "has changed since it was cleaned" in " ".join(words(app).split())
        await press(pilot, "right_square_bracket")
        assert "Oak bench" in table_lines(app)[1], "the cleaned rows are still there"


# --- cleaning from the screen


async def test_cleaning_a_file_by_keys(home: Home, frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "No dataset yet" in words(app)
        await press(pilot, "G", "enter")
        assert isinstance(app.screen, CleanForm)
        await press(pilot, *str(source), "enter", "enter", "enter", *"mine", "enter")
        await until(pilot, lambda: isinstance(app.screen, DataScreen))
        screen = app.screen
        await until(pilot, lambda: screen.browser.rows is not None)
        await settle(pilot)
        assert screen.browser.rows.name == "mine" and screen.query_one(PagedTable).count > 50
        assert list((home.datasets / ".jobs").iterdir()) == []


async def test_the_form_stays_and_says_what_is_wrong(frozen_app: Any, tmp_path: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "G", "enter")
        missing = tmp_path / "no[/red]such.jsonl"
        await press(pilot, *str(missing), "enter", "enter", "enter", "enter")
        assert isinstance(app.screen, CleanForm)
        assert "no[/red]such.jsonl" in str(app.screen.query_one("#wrong", Static).render())
        await press(pilot, *"bad name!", "enter")
        assert "data.name" in str(app.screen.query_one("#wrong", Static).render())
        await press(pilot, "escape")
        assert isinstance(app.screen, DataScreen)


async def test_what_the_cleaning_process_says_is_shown(
    home: Home, frozen_app: Any, tmp_path: Path
) -> None:
    """Columns are only looked at by the process itself."""
    source = tmp_path / "other.jsonl"
    source.write_text('{"name": "x", "text": "y"}\n' * 20)
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "G", "enter", *str(source), "enter", "enter", "enter", "enter")
        await until(pilot, lambda: "✗" in words(app))
        told = words(app).replace("\n", " ")
        assert "name" in told and "text" in told and "title" in told


async def test_cancelling_asks_first(frozen_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[Path] = []
    monkeypatch.setattr(background, "jobs", lambda home: [Path("job")])
    monkeypatch.setattr(background, "read_state", lambda folder: JOB)
    monkeypatch.setattr(background, "cancel", cancelled.append)
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "X", "enter")
        assert cancelled == []
        await press(pilot, "y", "enter")
        assert cancelled == [Path("job")]
        await press(pilot, "s")
        assert isinstance(app.screen, DataScreen), "one cleaning at a time"


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
