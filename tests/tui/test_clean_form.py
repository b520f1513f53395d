"""The form that starts a cleaning, and the cleaning that it starts."""

import json
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from engine.data import background
from engine.home import Home
from tests.tui.conftest import settle
from tests.tui.wares import JOB, check_borders, press, until, words
from tui.screens.cleaning import CleanForm
from tui.screens.data import DataScreen
from tui.sourcelook import field_of
from tui.widgets.table import PagedTable

pytestmark = pytest.mark.usefixtures("no_tokenizer")


def looked(app: Any) -> str:
    return str(app.screen.query_one("#look", Static).render())


def wrong(app: Any, key: str) -> str:
    field = app.screen.field(key)
    return str(field.query_one(".wrong", Static).render()) if field.has_class("-wrong") else ""


async def open_form(pilot: Any, source: object) -> None:
    """On the last line of the list: any file."""
    pilot.app.screen.set_focus(pilot.app.screen.datasets)
    await press(pilot, "G", "enter")
    assert isinstance(pilot.app.screen, CleanForm)
    if source:
        # A path has a hundred letters, and each pressed key waits for the screen: 12 s.
        field = pilot.app.screen.focused
        assert isinstance(field, Input)
        field.value = str(source)
        await press(pilot, "tab")


async def test_cleaning_a_file_by_keys(home: Home, frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert "No dataset yet" in words(app)
        await open_form(pilot, source)
        await press(pilot, *"mine", "ctrl+j")
        await until(pilot, lambda: isinstance(app.screen, DataScreen))
        screen = app.screen
        await until(pilot, lambda: screen.browser.rows is not None)
        await settle(pilot)
        assert screen.browser.rows.name == "mine" and screen.query_one(PagedTable).count > 50
        assert list((home.datasets / ".jobs").iterdir()) == []


async def test_the_source_is_shown_before_it_is_used(frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await open_form(pilot, source)
        told = looked(app)
        for piece in ("jsonl", "layout columns", "title -> prompt", "Oak bench 0", "dataset wares"):
            assert piece in told
        check_borders(app)


async def test_columns_are_named_when_nothing_is_recognised(
    frozen_app: Any, tmp_path: Path
) -> None:
    source = tmp_path / "odd.jsonl"
    source.write_text("".join(json.dumps({"a": f"x {n}", "b": f"y {n}"}) + "\n" for n in range(9)))
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await open_form(pilot, source)
        assert "there are: a, b" in wrong(app, "prompt_column") and not looked(app)
        assert "--set" not in wrong(app, "prompt_column")
        await press(pilot, "ctrl+j")
        assert isinstance(app.screen, CleanForm), "it cannot be started like this"
        app.screen.set_focus(app.screen.field("prompt_column").box)
        await press(pilot, "a", "tab", "b", "tab")
        assert "a -> prompt, b -> completion" in looked(app)
        assert not wrong(app, "prompt_column")


async def test_a_form_may_begin_with_a_dataset(filled: Home, frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "s")
        values = {key: app.screen.field(key).value for key in ("source", "name", "train")}
        assert values == {"source": str(source), "name": "wares", "train": "0.8"}
        assert "is there: it is replaced" in looked(app)


async def test_what_is_wrong_stands_beside_its_field(frozen_app: Any, tmp_path: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await open_form(pilot, tmp_path / "no[/red]such.jsonl")
        assert "no[/red]such.jsonl" in wrong(app, "source")
        await press(pilot, *"bad name!", "tab")
        assert "pattern" in wrong(app, "name")
        app.screen.set_focus(app.screen.field("test").box)
        await press(pilot, "ctrl+u", *"0.5", "tab")
        assert "add up" in wrong(app, "test")
        await press(pilot, "shift+tab", "ctrl+u", *"many", "tab")
        assert "number" in wrong(app, "test")
        check_borders(app)
        await press(pilot, "escape")
        assert isinstance(app.screen, DataScreen)


async def test_sizes_are_read_as_people_write_them(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "s")
        for key, value in (("train", "1,000"), ("validation", "2_0"), ("test", "30")):
            app.screen.field(key).put(value)
        split = app.screen.filled().split
        assert (split.train, split.validation, split.test) == (1000, 20, 30)
        for key, value in (("train", "80 %"), ("validation", "10%"), ("test", ".1")):
            app.screen.field(key).put(value)
        assert app.screen.filled().split.train == pytest.approx(0.8)


async def test_standard_input_is_refused_here(frozen_app: Any) -> None:
    """It is the keyboard."""
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await open_form(pilot, "-")
        assert "tunebench clean -" in wrong(app, "source")


async def test_what_the_cleaning_process_says_is_shown(frozen_app: Any, tmp_path: Path) -> None:
    """That no row is usable only the whole source tells."""
    source = tmp_path / "other.jsonl"
    source.write_text('{"title": "x", "content": ""}\n' * 20)
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await open_form(pilot, source)
        await press(pilot, "ctrl+j")
        await until(pilot, lambda: isinstance(app.screen, DataScreen) and "✗" in words(app))
        assert "no usable row among 20" in " ".join(words(app).split())


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


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ("/x: no such file", "source"),
        ("/x: no column 'a' in the first 9 rows; there are: b; name the columns with --set "
         "data.prompt_column=... --set data.completion_column=...", "prompt_column"),
        ("/x: set data.completion_column as well; there are: b", "completion_column"),
        ("/x: layout 'alpaca' needs a column output; there are: b; choose another data.layout",
         "layout"),
        ("data.name: '.x' begins with a dot; choose another name", "name"),
        ("data.delimiter: give one character", "source"),
    ],
)  # fmt: skip
def test_an_error_goes_to_its_field(message: str, key: str) -> None:
    assert field_of(message) == key
