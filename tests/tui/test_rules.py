"""The Rules screen: rules switched, ordered and set, with what they do to the first rows."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from engine.data.trial import Trial
from engine.home import Home
from engine.recipe import read_recipe
from engine.sections.data import DEFAULT_RULES, ROW_RULES, SET_RULES, TEXT_RULES, CleanSection
from tests.tui.conftest import settle
from tests.tui.wares import MARKED_LINE, NASTY, check_borders, press, recipe, until
from tui import keymap
from tui.rulesheet import READING, RuleSheet, rule_of
from tui.ruletrial import try_rules
from tui.screens.cleaning import CleanForm
from tui.screens.confirm import ConfirmScreen
from tui.screens.data import DataScreen
from tui.screens.rules import RulesScreen
from tui.widgets.compare import CompareView
from tui.widgets.field import Field
from tui.widgets.rulelist import RuleList
from tui.widgets.ruleoptions import RuleOptions
from tui.widgets.table import PagedTable
from tui.widgets.touched import TouchedRows

pytestmark = pytest.mark.usefixtures("no_tokenizer")


# --- the sheet


def test_a_sheet_gives_back_what_it_was_made_of() -> None:
    for clean in (
        CleanSection(),
        CleanSection(rules=["whitespace", "html", "length", "empty"], length={"max": 9}),
        CleanSection(rules=[], placeholder={"phrases": ["a, b", "c"]}),
    ):
        assert RuleSheet(clean).checked() == (clean, {})


def test_every_rule_is_there_once_in_its_stage() -> None:
    sheet = RuleSheet(CleanSection(rules=["control", "html", "echo"]))
    names = [rules for _, rules in sheet.stages]
    assert [sorted(rules) for rules in names] == [
        sorted(rules) for rules in (TEXT_RULES, ROW_RULES, SET_RULES)
    ]
    assert names[0][:2] == ["control", "html"], "those that are on, in their order"


def test_moving_stays_within_a_stage() -> None:
    sheet = RuleSheet(CleanSection())
    assert not sheet.move("html", -1) and not sheet.move("duplicates", -1)
    assert sheet.move("html", 1)
    clean, _ = sheet.checked()
    assert clean is not None and clean.rules[:2] == ["unicode", "html"]
    while sheet.move("empty", 1):
        pass
    assert sheet.checked()[0] is not None, "the recipe takes any order within the stages"


@pytest.mark.parametrize(
    ("rule", "key", "text", "place", "words"),
    [
        ("length", "min", "many", ("length", "min"), "valid integer"),
        ("length", "max", "-1", ("length", "max"), "greater than or equal to 0"),
        ("near_duplicates", "threshold", "1.5", ("near_duplicates", "threshold"), "less than 1"),
        ("personal_data", "kinds", "email, iban", ("personal_data", "kinds"), "'card'"),
        ("language", "languages", " , ", ("language", "languages"), "at least 1"),
        ("python", "function", "no name", ("python", "function"), "pattern"),
    ],
)
def test_what_is_wrong_is_said_of_its_option(
    rule: str, key: str, text: str, place: tuple[str, str], words: str
) -> None:
    sheet = RuleSheet(CleanSection())
    assert sheet.put(rule, key, text) and not sheet.put(rule, key, text)
    clean, wrong = sheet.checked()
    assert clean is None and words in wrong[place]


def test_what_is_wrong_between_options_is_said_of_the_rule() -> None:
    sheet = RuleSheet(CleanSection())
    sheet.put("length", "min", "10")
    sheet.put("length", "max", "5")
    assert sheet.checked()[1] == {("length", ""): "max (5) is below min (10)"}
    sheet = RuleSheet(CleanSection())
    sheet.toggle("python")
    assert "needs a file" in sheet.checked()[1]["python", "file"]


def test_every_reason_belongs_to_a_rule() -> None:
    reasons = ["malformed", "missing_field", "not_text", "empty_prompt", "too_long", "echo",
               "wrong_language", "duplicate_both", "near_duplicate", "personal_data"]  # fmt: skip
    known = {READING, *TEXT_RULES, *ROW_RULES, *SET_RULES}
    assert {rule_of(reason) for reason in reasons} <= known


# --- trials


def rows_of(*contents: str) -> list[dict[str, str]]:
    return [{"title": f"row {n}", "content": text} for n, text in enumerate(contents)]


def trial_of(home: Home, folder: Path, rows: list[dict[str, str]]) -> tuple[Trial, Any]:
    source = folder / "few.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe(source)
    return Trial.read(home, made.data), made


def with_clean(made: Any, **values: Any) -> Any:
    return made.model_copy(update={"clean": CleanSection.model_validate(values)})


def test_what_every_rule_did(home: Home, tmp_path: Path) -> None:
    trial, made = trial_of(home, tmp_path, rows_of("a <b>x</b>  y", "", "a x y", "plain"))
    seen = try_rules(trial, made)
    counts = {rule: (touch.changed, touch.dropped) for rule, touch in seen.touched.items()}
    assert counts == {"html": (1, 0), "whitespace": (1, 0), "empty": (0, 1), "duplicates": (0, 1)}
    assert [row.line for row in seen.touch("duplicates").rows] == [3]
    assert seen.touch("lowercase").rows == []


@pytest.mark.parametrize(
    ("action", "outcome"), [("flag", (0, 0, 1)), ("mask", (1, 0, 0)), ("drop", (0, 1, 0))]
)
def test_personal_data_is_counted_whatever_is_done_with_it(
    action: str, outcome: tuple[int, int, int], home: Home, tmp_path: Path
) -> None:
    trial, made = trial_of(home, tmp_path, rows_of("write to someone@example.com", "plain"))
    rules = [*DEFAULT_RULES[:-1], "personal_data"]
    seen = try_rules(trial, with_clean(made, rules=rules, personal_data={"action": action}))
    touch = seen.touch("personal_data")
    assert (touch.changed, touch.dropped, touch.found) == outcome
    assert [row.line for row in touch.rows] == [1]


def test_what_an_own_function_changes_is_counted(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def rule(prompt, completion):\n    return prompt, completion + '!'\n")
    trial, made = trial_of(home, tmp_path, rows_of("one", "two"))
    seen = try_rules(trial, with_clean(made, rules=["python"], python={"file": str(file)}))
    assert seen.touch("python").changed == 2 and len(seen.touch("python").rows) == 2


# --- the screen


def rules_list(app: Any) -> list[str]:
    return app.screen.query_one(RuleList).text_lines


def line_of_rule(app: Any, rule: str) -> str:
    return next(line for line in rules_list(app) if f"] {rule} " in f"{line} ")


async def open_rules(pilot: Any) -> None:
    await settle(pilot)
    await press(pilot, "u")
    assert isinstance(pilot.app.screen, RulesScreen)


async def test_switching_a_rule_tries_it_at_once(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        rules = app.screen.query_one(RuleList)
        assert line_of_rule(app, "html").startswith("[x] html")
        before = app.screen.seen.touch("html").changed
        assert before >= 3 and f"~{before}" in line_of_rule(app, "html")
        await press(pilot, "space")
        assert line_of_rule(app, "html") == "[ ] html".ljust(len(line_of_rule(app, "html")))
        assert app.screen.seen.touch("html").changed == 0
        rules.choose("echo")
        await press(pilot, "space")
        assert "[x] echo" in line_of_rule(app, "echo")
        check_borders(app)


async def test_the_rows_that_a_rule_touched(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        table = app.screen.query_one(PagedTable)
        lines = [table.render_line(y).text for y in range(4)]
        assert str(MARKED_LINE) in lines[1] and "<b>" in lines[1]
        await press(pilot, "b")
        told = "\n".join(app.screen.query_one("#compare", CompareView).text_lines)
        assert "[-<b>-]" in told
        await press(pilot, "n")
        after = "\n".join(app.screen.query_one("#compare", CompareView).text_lines)
        assert after != told
        check_borders(app)
        await press(pilot, "escape")
        app.screen.query_one(RuleList).choose("duplicates")
        await settle(pilot)
        assert "completion again" in table.render_line(1).text


async def test_options_are_edited_in_place(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        app.screen.query_one(RuleList).choose("length")
        await press(pilot, "space", "enter")
        options = app.screen.query_one(RuleOptions)
        fields = {field.key: field for field in options.query(Field)}
        assert list(fields) == ["of", "unit", "min", "max"]
        app.screen.set_focus(fields["max"].box)
        await press(pilot, "ctrl+u", *"60")
        long = app.screen.seen.touch("length").dropped
        assert long >= 5
        await press(pilot, "ctrl+u", *"6x")
        assert fields["max"].has_class("-wrong")
        assert app.screen.recipe() is None
        assert app.screen.seen.touch("length").dropped >= long, "the last trial stays in sight"
        await press(pilot, "ctrl+u", "0")
        assert not fields["max"].has_class("-wrong")
        assert app.screen.seen.touch("length").dropped == 0
        app.screen.set_focus(fields["of"].box)
        await press(pilot, "space")
        assert app.screen.recipe().clean.length.of == "prompt"
        check_borders(app)


async def test_order_is_changed_within_a_stage(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        await press(pilot, "plus")
        assert app.screen.recipe().clean.rules[:2] == ["unicode", "html"]
        assert app.screen.query_one(RuleList).chosen == "html", "the cursor goes with it"
        await press(pilot, "minus", "minus")
        assert app.screen.recipe().clean.rules[:2] == ["html", "unicode"]


async def test_only_the_last_of_many_changes_is_tried(
    filled: Home, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, tried = threading.Event(), []

    def slow(trial: Trial, made: Any) -> Any:
        tried.append(made.clean.rules)
        assert gate.wait(20)
        return try_rules(trial, made)

    monkeypatch.setattr("tui.screens.rules.try_rules", slow)
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle_but(pilot, tried)
        for _ in range(5):
            await pilot.press("space")
            await pilot.pause()
        await until(pilot, lambda: app.screen.query_one(RuleList).border_subtitle == "trying …")
        gate.set()
        await settle(pilot)
        assert len(tried) == 2 and "html" not in tried[-1]


async def settle_but(pilot: Any, tried: list[Any]) -> None:
    """Open the screen and wait until its first trial has begun."""
    await settle(pilot)
    await pilot.press("u")
    await until(pilot, lambda: bool(tried))


async def test_a_function_that_fails_is_said(filled: Home, frozen_app: Any, tmp_path: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        app.screen.query_one(RuleList).choose("python")
        await press(pilot, "space")
        told = "\n".join(app.screen.query_one(TouchedRows).query_one("#words").text_lines)
        assert "cannot be tried yet" in told
        await press(pilot, "enter", *str(tmp_path / "no.py"))
        told = "\n".join(app.screen.query_one(TouchedRows).query_one("#words").text_lines)
        assert "no.py" in told.replace("\n", "")
        check_borders(app)


async def test_the_recipe_is_written_and_never_over_another_file(
    filled: Home, frozen_app: Any, tmp_path: Path
) -> None:
    app = frozen_app(mode="data")
    file = tmp_path / "mine.toml"
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        await press(pilot, "space", "w", "ctrl+u", "end", "ctrl+u", *str(file), "enter")
        written = read_recipe(file)
        assert "html" not in written.clean.rules and written.data.name == "wares"
        file.write_text("precious")
        await press(pilot, "w", "end", "ctrl+u", *str(file), "enter")
        assert isinstance(app.screen, ConfirmScreen)
        await press(pilot, "escape")
        assert file.read_text() == "precious"
        await press(pilot, "end", "ctrl+u", *str(tmp_path / "no" / "x.toml"), "enter")
        field = app.screen._file_field
        assert field.has_class("-wrong"), "a folder that is not there"
        await press(pilot, "end", "ctrl+u", *str(file), "enter", "y", "enter")
        assert read_recipe(file) == written


async def test_cleaning_by_these_rules(
    filled: Home, frozen_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(
        "tui.widgets.cleaningjob.CleaningJob.start", lambda self, home, made: started.append(made)
    )
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        await press(pilot, "space", "s")
        assert isinstance(app.screen, CleanForm)
        assert app.screen.field("name").value == "wares" and not app.screen.query("#rules")
        await press(pilot, "ctrl+j")
        assert isinstance(app.screen, DataScreen)
        assert "html" not in started[0].clean.rules and started[0].split.train == 0.8


async def test_from_the_form_to_the_rules_of_a_new_source(frozen_app: Any, source: Path) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "G", "enter", *str(source), "tab")
        app.screen.set_focus(app.screen.query_one("#rules"))
        await press(pilot, "enter")
        assert isinstance(app.screen, RulesScreen)
        assert app.screen.seen is not None and app.screen.seen.tried.kept > 80
        await press(pilot, "escape")
        assert isinstance(app.screen, DataScreen)


async def test_a_source_that_cannot_be_read_is_said(
    filled: Home, frozen_app: Any, source: Path
) -> None:
    source.unlink()
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        told = "\n".join(app.screen.query_one(TouchedRows).query_one("#words").text_lines)
        assert "✗" in told and "wares.jsonl" in told.replace("\n", "")
        await press(pilot, "escape")
        assert isinstance(app.screen, DataScreen)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40)])
async def test_nasty_rows_break_nothing(
    size: tuple[int, int], filled: Home, frozen_app: Any
) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=size) as pilot:
        await open_rules(pilot)
        names = [READING, *TEXT_RULES, *ROW_RULES, *SET_RULES]
        for rule in names:
            app.screen.query_one(RuleList).choose(rule)
            await settle(pilot)
            check_borders(app)
            await press(pilot, "N", "b")
            check_borders(app)
            if app.screen.query_one(TouchedRows).comparing:
                await press(pilot, "escape")
        assert NASTY[:4] not in "".join(rules_list(app))


async def test_every_action_of_the_screen_is_done(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(120, 40)) as pilot:
        await open_rules(pilot)
        for action in [*keymap.of_screen("rules"), *keymap.of_screen("")]:
            owner = app if action.app else app.screen
            assert hasattr(owner, f"action_{action.id}") or action.id.endswith("_view"), action
        mine = [key for action in keymap.of_screen("rules") for key in action.keys]
        common = [key for action in keymap.of_screen("") for key in action.keys]
        assert len(set(mine)) == len(mine) and not set(mine) & set(common) - {"escape", "enter"}
        await press(pilot, "question_mark", "escape", "1")
        assert isinstance(app.screen, DataScreen), "its own key leaves what lies over a screen"
        await press(pilot, "u", "3", "1")
        assert isinstance(app.screen, RulesScreen), "other screens are left and come back to"


async def test_letters_are_text_in_the_options(filled: Home, frozen_app: Any) -> None:
    app = frozen_app(mode="data")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_rules(pilot)
        app.screen.query_one(RuleList).choose("language")
        await press(pilot, "enter", "ctrl+u", *"wsq1")
        box = app.screen.focused
        assert isinstance(box, Input) and box.value.endswith("wsq1")
