"""Pictures of the Data screen's views, and of the strangest rows in each of them."""

from pathlib import Path
from typing import Any

import pytest

from engine.data import background
from engine.home import Home
from tests.tui.conftest import SIZES, settle
from tests.tui.wares import JOB, MARKED_LINE, check_borders, line_of, press, title, to_line, to_view
from tests.variants import slow_but
from tui.rowviews import TABLES

pytestmark = pytest.mark.usefixtures("no_tokenizer")
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")

LOOKS: dict[str, list[str]] = {
    "train": [],
    "row": ["left_square_bracket", "j", "enter"],
    "finding": ["slash", *"lamp"],
    "filtered": ["F", *"kettle", "enter"],
    "reason": ["#funnel", "j", "enter"],
    "examples": ["#funnel", "G", "k", "k", "enter"],
    "lengths": ["H"],
    "form": ["s"],
    "rules": ["u"],
    "rule-options": ["u", *"jjjjjj", "space", "enter"],
    "rule-row": ["u", "tab", "enter"],
}


@sizes
@pytest.mark.parametrize("state", LOOKS)
def test_look(
    state: str, size: tuple[int, int], filled: Home, frozen_app: Any, snap_compare: Any
) -> None:
    async def before(pilot: Any) -> None:
        await settle(pilot)
        for key in LOOKS[state]:
            if key.startswith("#"):  # a pane: how many tabs away it is depends on the size
                pilot.app.screen.query_one(key).focus()
            else:
                await press(pilot, key)
        if state.startswith("rule"):
            # How long a trial took differs.
            pilot.app.screen.query_one("#rules").border_subtitle = "100 rows in 0.01 s"
        if state == "form":
            _without_folder(pilot.app)
        await settle(pilot)
        check_borders(pilot.app)

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


def _without_folder(app: Any) -> None:
    """The folder of a test is another one every time."""
    field = app.screen.field("source")
    field.put(Path(field.value).name)


VIEWS = ["raw", "cleaned", "dropped", "train", "validation", "test", "formatted", "tokens"]


@pytest.mark.parametrize("size", slow_but(SIZES, (80, 24)), ids=str)
@pytest.mark.parametrize("kind", ["cjk", "emoji", "rtl", "long-changed", "markup"])
async def test_strange_rows_break_no_border(
    kind: str, size: tuple[int, int], filled: Home, frozen_app: Any
) -> None:
    """In one app, for the ten ways to see a row: what one leaves behind is checked as well."""
    app = frozen_app(mode="data")
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await to_view(pilot, "raw")
        await to_line(pilot, line_of(kind))
        for key, whole in (("enter", "row"), ("b", "compare")):
            await press(pilot, key)
            assert app.screen.browser.whole == whole
            check_borders(app)
            await press(pilot, "G")
            check_borders(app)
            await press(pilot, "escape")
        for view in VIEWS:  # all of them follow the line
            await to_view(pilot, view)
            assert f"[{view}]" in title(app)
            check_borders(app)
            if view not in TABLES:
                await press(pilot, "G")
                check_borders(app)
        for view in TABLES:
            await to_view(pilot, view)
            await press(pilot, "G")
            check_borders(app)


@sizes
@pytest.mark.parametrize("view", [*VIEWS, "row", "compare"])
def test_look_of_strange_rows(
    view: str, size: tuple[int, int], filled: Home, frozen_app: Any, snap_compare: Any
) -> None:
    """The last rows of the source, CJK, right-to-left, emoji, 100,000 characters and escapes."""

    async def before(pilot: Any) -> None:
        await settle(pilot)
        await to_view(pilot, "raw")
        await to_line(pilot, line_of("markup"))
        if view in VIEWS:
            await to_view(pilot, view)
        else:
            await press(pilot, "enter" if view == "row" else "b")
        check_borders(pilot.app)

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


@sizes
def test_look_of_a_changed_row(
    size: tuple[int, int], filled: Home, frozen_app: Any, snap_compare: Any
) -> None:
    async def before(pilot: Any) -> None:
        await settle(pilot)
        await to_view(pilot, "cleaned")
        await to_line(pilot, MARKED_LINE)
        await press(pilot, "b")

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


@sizes
def test_look_without_a_dataset(size: tuple[int, int], frozen_app: Any, snap_compare: Any) -> None:
    async def before(pilot: Any) -> None:
        await settle(pilot)

    assert snap_compare(frozen_app(mode="data"), terminal_size=size, run_before=before)


@sizes
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


@sizes
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
