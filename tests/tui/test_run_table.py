"""The Runs screen's table: questions, columns, groups, order; marks, trash, repeating."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.events import Key
from textual.widgets import Input

from engine.cli import main
from engine.errors import UserError
from engine.history import marks
from engine.history.question import parse
from engine.history.settings import Settings
from engine.home import Home
from engine.jobs import trash
from engine.jobs.folder import RunFolder
from engine.recipe import load_recipe
from tests.compared import write
from tests.engine.fakes import runs
from tests.tui.conftest import (
    HOSTILE,
    NOW,
    SIZES,
    FrozenFeed,
    row,
    running,
    settle,
)
from tests.tui.test_runs import texts
from tui import acts, historyacts
from tui.app import WorkbenchApp
from tui.draft import Repeated
from tui.feed import Snapshot, StoreFeed
from tui.runcolumns import DIFFERS, USUAL, columns_file, load_columns
from tui.screens.confirm import ConfirmScreen
from tui.screens.descent import DescentScreen
from tui.screens.runcolumns import RunColumnsScreen
from tui.screens.train import TrainScreen
from tui.widgets.runlist import RunList

MakeApp = Callable[..., WorkbenchApp]


def recipe(rate: float, r: int) -> str:
    return f'{{"train.learning_rate": {rate}, "lora.r": {r}, "train.seed": 1}}'


def several() -> Snapshot:
    """Six runs whose recipes differ in two keys, one of them starred, one put away."""
    rows = [
        replace(
            row(f"amazon-{n}", "finished", ended=NOW - 60 * n, created=NOW - 3600 * (n + 1)),
            best_eval_loss=2.2 + 0.1 * (n * 7 % 5),
            model="meta-llama/Llama-3.2-3B" if n % 2 else "meta-llama/Llama-3.2-1B",
            step=120,
            max_steps=120,
        )
        for n in range(6)
    ]
    rows[4] = replace(rows[4], parent=rows[5].id)
    rows[3] = replace(rows[3], repeats=rows[5].id)
    made = [(one.id, recipe(1e-4 * 3 ** (n % 3), 8 << n % 2)) for n, one in enumerate(rows)]
    return Snapshot(
        rows,
        loaded=True,
        tags={rows[0].id: ("keep",), rows[1].id: ("keep", "paper")},
        starred=frozenset({rows[1].id}),
        archived=frozenset({rows[5].id}),
        settings=Settings().updated(made),
    )


def test_a_question_may_use_the_headings_of_the_table() -> None:
    facts = several().facts
    titles = [one.column.title for _, one in USUAL if one.name != DIFFERS]
    for title in titles:
        if title.isalpha():  # "best val" and "tok/s" are no words of a question
            assert parse(f"{title}!=none", facts.settings.keys).parts
    assert {"best val", "tok/s"} == {title for title in titles if not title.isalpha()}
    found = parse("test!=none or step=120", facts.settings.keys).select(several().rows, facts)
    assert len(found) == 5


def names(app: App[Any]) -> list[str]:
    shown = app.screen.query_one(RunList)._lines
    return [line.name if hasattr(line, "name") else f"[{line.sweep.id}]" for line in shown]


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


LOOKS = {
    "table": (),
    "question": ("slash", *"best<2.5 and mod"),
    "wrong": ("slash", *"bst<2", "enter"),
    "groups": ("b", "b", "l"),
    "columns": ("C", *"lora", "enter"),
    "descent": ("d", "a"),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", LOOKS)
def test_look(state: str, size: tuple[int, int], frozen_app: MakeApp, snap_compare: Any) -> None:
    async def before(pilot: Any) -> None:
        await settle(pilot)
        await press(pilot, *LOOKS[state])

    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    assert snap_compare(app, terminal_size=size, run_before=before)


async def test_a_question_is_completed_and_answered(frozen_app: MakeApp) -> None:
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert names(app) == [f"amazon-{n}" for n in range(5)], "what was put away is not there"
        assert "5 of 6, 1 put away" in texts(app) and "* amazon-1" in texts(app)
        await press(pilot, "slash", *"best_ev")
        field = app.screen.query_one("#wanted", Input)
        assert "lowest validation loss" in texts(app)
        await press(pilot, "tab")
        assert field.value == "best_eval_loss", "tab takes the suggestion"
        await press(pilot, *"<2.35 tag:k")
        await press(pilot, "right")
        assert field.value == "best_eval_loss<2.35 tag:keep"
        await press(pilot, "enter")
        assert names(app) == ["amazon-0"]
        await press(pilot, "escape")
        assert len(names(app)) == 5
        await press(pilot, "slash", *"is:archived", "enter")
        assert names(app) == ["amazon-5"]
        await press(pilot, "escape", "slash", *"nope=1", "enter")
        assert "no field 'nope'" in texts(app)
        assert names(app) == [f"amazon-{n}" for n in range(5)] or names(app) == []


async def test_columns_are_chosen_ordered_kept_and_reset(
    frozen_app: MakeApp,
) -> None:
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "C")
        assert isinstance(app.screen, RunColumnsScreen)
        await press(pilot, *"lora.r", "enter", "ctrl+p", "ctrl+p", "escape")
        head = texts(app).splitlines()[2]
        assert head.index(" r ") < head.index("name") and "differs" in head
        chosen = load_columns(columns_file())
        assert chosen is not None and chosen.index("lora.r") == len(chosen) - 3
        for _ in range(10):
            await press(pilot, "o")
            if "by r" in texts(app):
                break
        assert names(app) == ["amazon-0", "amazon-2", "amazon-4", "amazon-1", "amazon-3"]
        await press(pilot, "O")
        assert names(app) == ["amazon-1", "amazon-3", "amazon-0", "amazon-2", "amazon-4"]
        assert "turned round" in texts(app)
    again = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with again.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert " r " in texts(again).splitlines()[2], "kept for the next session"
        await press(pilot, "C", "ctrl+r")
        assert " r " not in texts(again).splitlines()[2] and not columns_file().exists()


async def test_a_narrow_screen_keeps_the_name_of_the_columns_that_were_chosen(
    frozen_app: MakeApp,
) -> None:
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "C", *"lora.r", "enter", "escape")
        assert "tok/s" in texts(app).splitlines()[2]
    narrow = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with narrow.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        head = texts(narrow).splitlines()[2]
        assert head.index("best val") < head.index("name") < head.index(" r ")
        assert "tok/s" not in head and "amazon-0" in texts(narrow)


async def test_a_damaged_columns_file_is_said_and_left_alone(frozen_app: MakeApp) -> None:
    columns_file().parent.mkdir(parents=True)
    columns_file().write_text("columns = 3")
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        told = " ".join(notice.message for notice in app._notifications)
        assert "columns.toml: a list is wanted" in told and len(names(app)) == 5
    assert columns_file().read_text() == "columns = 3"


async def test_groups_open_and_close_and_a_run_may_be_in_several(frozen_app: MakeApp) -> None:
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "b", "b")
        assert names(app) == ["[meta-llama/Llama-3.2-1B]", "[meta-llama/Llama-3.2-3B]"]
        await press(pilot, "j", "enter")
        assert names(app)[2:] == ["amazon-1", "amazon-3"], "by enter too: it has no page"
        await press(pilot, "j", "h")
        assert len(names(app)) == 2
        await press(pilot, "b")
        assert sorted(names(app)) == ["[keep]", "[paper]", "[–]"]
        await press(pilot, "D")
        assert not isinstance(app.screen, ConfirmScreen), "no action is about a group of a tag"
        await press(pilot, "b")
        assert names(app) == [f"amazon-{n}" for n in range(5)] and "no groups" in texts(app)


async def test_the_tree_leads_to_a_run(frozen_app: MakeApp) -> None:
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "j", "j", "j", "d")
        assert isinstance(app.screen, DescentScreen)
        shown = texts(app)
        assert "├─ > amazon-4" in shown and "└─ = amazon-3" in shown and "amazon-1" not in shown
        assert "lr 9e-4 → 3e-4" in shown
        await press(pilot, "a")
        assert "amazon-1" in texts(app)
        await press(pilot, "a", "home", "enter")
        assert app.screen.chosen().name == "amazon-5"  # type: ignore[attr-defined]


async def test_hostile_names_break_no_table(frozen_app: MakeApp) -> None:
    snapshot = several()
    rows = [replace(one, name=HOSTILE, model=HOSTILE, dataset=HOSTILE) for one in snapshot.rows]
    tags = {rows[0].id: (HOSTILE,)}
    made = [(one.id, recipe(n, 8)[:-1] + ', "x.y": "[/red]"}') for n, one in enumerate(rows)]
    snapshot = replace(snapshot, rows=rows, tags=tags, settings=Settings().updated(made))
    app = frozen_app(feed=FrozenFeed(snapshot), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for keys in (("b",), ("b",), ("b", "l"), ("b", "d", "a"), ("escape",), ("C", "escape")):
            await press(pilot, *keys)
            for strip in app.screen._compositor.render_strips():
                assert strip.cell_length == 80 and "\x1b" not in strip.text
        await press(pilot, "slash", *"tag:")
        assert "\x1b" not in texts(app)


async def test_ten_thousand_runs_are_asked_sorted_and_grouped_in_time(frozen_app: MakeApp) -> None:
    rows = [replace(several().rows[n % 6], id=f"{n:05}", name=f"run-{n}") for n in range(10_000)]
    made = [(one.id, recipe(1e-4 * (n % 7), 8)) for n, one in enumerate(rows)]
    snapshot = Snapshot(rows, loaded=True, settings=Settings().updated(made))
    app = frozen_app(feed=FrozenFeed(snapshot), mode="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        table = app.screen.query_one(RunList)
        for text, count in (("best<2.35 and model~3B", 3333), ("lora.r=8 and r<9", 10_000)):
            began = time.process_time()
            table.asked.write(text, snapshot)
            table.show(snapshot, 120, NOW)
            spent = time.process_time() - began
            assert len(table._lines) == count and spent < 0.4, spent


@pytest.fixture
def kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home with two runs, over the real store."""
    for name in ("one", "two"):
        runs.write_run(home, name, steps=2)
    yield home


async def on_runs(pilot: Any, true: Callable[[], bool]) -> None:
    for _ in range(200):
        await settle(pilot)
        if true():
            return
        await pilot.pause(0.05)
    raise AssertionError(texts(pilot.app))


async def test_star_rename_archive_trash_by_keys(kept: Home) -> None:
    app = WorkbenchApp(kept, feed=StoreFeed(kept), start="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await on_runs(pilot, lambda: names(app) == ["two", "one"])
        await press(pilot, "s")
        await on_runs(pilot, lambda: "* two" in texts(app))
        await press(pilot, "s")
        await on_runs(pilot, lambda: "* two" not in texts(app))
        await press(pilot, "r", "ctrl+u", *"better", "enter")
        await on_runs(pilot, lambda: names(app) == ["better", "one"])
        await press(pilot, "r", "ctrl+u", *"one", "enter")
        await on_runs(pilot, lambda: "is taken" in _told(app))
        await press(pilot, "a")
        await on_runs(pilot, lambda: names(app) == ["one"])
        await press(pilot, "slash", *"is:archived", "enter")
        await on_runs(pilot, lambda: names(app) == ["better"])
        await press(pilot, "a")
        await on_runs(pilot, lambda: names(app) == [])
        await press(pilot, "escape")
        await on_runs(pilot, lambda: names(app) == ["better", "one"])
        await press(pilot, "D", "y", "enter")
        await on_runs(pilot, lambda: names(app) == ["one"])
        assert [run.name for run in trash.trashed(kept)] == ["better"]
        await press(pilot, "u")
        await on_runs(pilot, lambda: "Bring back" in texts(app))
        await press(pilot, "enter")
        await on_runs(pilot, lambda: names(app) == ["better", "one"])
        await press(pilot, "home", "D", "y", "enter")
        await on_runs(pilot, lambda: names(app) == ["one"])
        await press(pilot, "Z")
        await on_runs(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "better" in texts(app)
        await press(pilot, "y", "enter")
        await on_runs(pilot, lambda: trash.trashed(kept) == [])


async def test_a_sweep_comes_back_from_the_trash_whole_or_run_by_run(kept: Home) -> None:
    for name, number in (("tune-a", 1), ("tune-b", 2), ("tune-c", 3)):
        write(kept, name, number=number, sweep={"id": "tune", "values": {"lora.r": number}})
    app = WorkbenchApp(kept, feed=StoreFeed(kept), start="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await on_runs(pilot, lambda: sorted(names(app)) == ["[tune]", "one", "two"])
        await press(pilot, "slash", *"sweep=tune", "enter", "D")
        await on_runs(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "u brings all of them back, or one" in " ".join(texts(app).split())
        await press(pilot, "y", "enter")
        await on_runs(pilot, lambda: len(trash.trashed(kept)) == 3)
        await press(pilot, "escape", "u")
        await on_runs(pilot, lambda: "Bring back" in texts(app))
        assert texts(app).count("all 3 runs of the sweep") == 1
        await press(pilot, *"tune-b", "enter")
        await on_runs(pilot, lambda: len(trash.trashed(kept)) == 2)
        assert "tune-b is back" in _told(app)
        await press(pilot, "u")
        await on_runs(pilot, lambda: "all 2 runs of the sweep" in texts(app))
        await press(pilot, "enter")
        await on_runs(pilot, lambda: trash.trashed(kept) == [])
        assert "2 runs of tune back" in _told(app)
        await on_runs(pilot, lambda: "[tune]" in names(app))


def test_what_of_a_sweep_cannot_come_back_is_told(kept: Home) -> None:
    for number in (1, 2):
        run = write(kept, f"tune-{number}", number=number, sweep={"id": "tune", "values": {}})
        trash.move_to_trash(kept, RunFolder(kept.runs / run))
    taken = write(kept, "tune-1", number=3)
    with pytest.raises(UserError, match=f"1 run of tune back; .*'tune-1' is taken by {taken}"):
        historyacts.restore_sweep(kept, "tune")
    assert [run.name for run in trash.trashed(kept)] == ["tune-1"]


async def test_the_full_text_search_is_asked_by_the_filter(kept: Home) -> None:
    from engine.history.notes import add_note
    from engine.jobs.find import find_run

    add_note(kept, find_run(kept, "one").id, "smaller batches, please")
    app = WorkbenchApp(kept, feed=StoreFeed(kept), start="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await on_runs(pilot, lambda: names(app) == ["two", "one"])
        await press(pilot, "slash", *"text:batch", "enter")
        await on_runs(pilot, lambda: names(app) == ["one"])
        marks.star(kept, find_run(kept, "two").id)
        await on_runs(pilot, lambda: bool(app.snapshot.starred))
        assert names(app) == ["one"], "it holds when something else changes"


async def test_e_repeats_a_run_with_a_change(kept: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, str | None]] = []

    def start(home: Home, recipe: Any, name: str | None, repeats: str | None) -> str:
        begun.append((recipe.lora.r, repeats))
        return "new"

    monkeypatch.setattr(acts, "start_run", start)
    app = WorkbenchApp(kept, feed=StoreFeed(kept), start="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await on_runs(pilot, lambda: names(app) == ["two", "one"])
        row = app.screen.chosen()  # type: ignore[attr-defined]
        await press(pilot, "e")
        await on_runs(pilot, lambda: isinstance(app.screen, TrainScreen) and app.screen.form.ready)
        form = app.screen.form  # type: ignore[attr-defined]
        await on_runs(pilot, lambda: form.repeated and form.repeated.id == row.id)
        assert "run two" in texts(app)
        assert form.field("name").value == "two-2", "named after the run, not after its recipe"
        await press(pilot, "escape", "s")
        await on_runs(pilot, lambda: "Train two again, as two-2?" in texts(app))
        assert "nothing: the recipe of two as it was" in texts(app)
        await press(pilot, "escape", "e")
        form.field("lora.r").box.focus()
        await press(pilot, "end", "ctrl+u", *"4", "escape", "s")
        await on_runs(pilot, lambda: "lora.r: 16 → 4" in texts(app))
        await press(pilot, "enter")
        await on_runs(pilot, lambda: bool(begun))
        assert begun == [(4, row.id)]
        await press(pilot, "r")
        await on_runs(pilot, lambda: form.repeated is None)


async def test_what_an_import_did_not_tell_is_never_shown_as_its_own(kept: Home) -> None:
    """The form has to have some value, so the defaults: each is marked until it is changed."""
    past = Path(__file__).parents[1] / "engine" / "fixtures" / "past" / "trl"
    assert main(["runs", "import", str(past), "--json", "--home", str(kept.path)]) == 0
    app = WorkbenchApp(kept, feed=StoreFeed(kept), start="runs")
    async with app.run_test(size=(120, 40)) as pilot:
        await on_runs(pilot, lambda: "trl" in names(app))
        await press(pilot, "G")
        await on_runs(pilot, lambda: app.screen.chosen().name == "trl")  # type: ignore[attr-defined]
        await press(pilot, "e")
        await on_runs(pilot, lambda: isinstance(app.screen, TrainScreen) and app.screen.form.ready)
        form = app.screen.form  # type: ignore[attr-defined]
        await on_runs(pilot, lambda: form.repeated is not None)
        assert "what is marked ? has the default" in _told(app)
        assert form.field("name").value == "trl-2"
        assert "learning_rate              ?" in texts(app), "not told"
        assert "lora_dropout      ?" not in texts(app), "told"
        form.sheet.put("data.source", "builtin:catalogue")
        form.sheet.put("model.model_name_or_path", "builtin:base")
        form.sheet.put("train.learning_rate", "3e-4")
        form.show_sheet()
        assert "learning_rate              ?" not in texts(app), "told by the user"
        assert "train.max_steps" in form.draft.untold
        assert "train.learning_rate" not in form.draft.untold
        await press(pilot, "escape", "s")
        await on_runs(pilot, lambda: "Train trl again, as trl-2?" in texts(app))
        told = dict(app.screen.basics)["not known"]  # type: ignore[attr-defined]
        assert "more: the import did not tell them, these are the defaults" in told
        assert "not known" in texts(app)
        await press(pilot, "escape", "a")
        await on_runs(pilot, lambda: "all" in texts(app) and " ? " in texts(app))


async def test_the_editor_changes_the_form(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import contextlib

    script = tmp_path / "editor.sh"
    script.write_text("#!/bin/sh\nsed -i 's/^r = 16$/r = 4/; s/^lora_alpha.*/lora_alpha = 5/' $1\n")
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    monkeypatch.setattr(WorkbenchApp, "suspend", lambda self: contextlib.nullcontext())
    app = frozen_app(running(), mode="train")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        form = app.screen.form  # type: ignore[attr-defined]
        form.take(Repeated("demo-id", "demo", "demo-2"), load_recipe("demo"))
        await settle(pilot)
        await press(pilot, "V")
        assert {key: now for key, _, now in form.draft.changes} == {
            "lora.r": "4",
            "lora.lora_alpha": "5",
        }
        assert form.repeated.id == "demo-id"
        assert form.field("name").value == "demo-2" and form.draft.name is None, "nobody renamed it"
        script.write_text("#!/bin/sh\nprintf 'r = [' >> $1\n")
        await press(pilot, "V")
        assert "not valid TOML" in _told(app) and form.recipe.lora.r == 4


@pytest.mark.parametrize(
    "editor, told",
    [
        ("/nowhere/editor", "cannot be started"),
        ("false", "exit status 1"),
        ('"', "No closing quotation"),
        ("sh -c 'kill -9 $$'", "exit status -9"),
    ],
)
async def test_an_editor_that_fails_gives_the_terminal_back(
    frozen_app: MakeApp, monkeypatch: pytest.MonkeyPatch, editor: str, told: str
) -> None:
    """Textual takes it back after the block only when the block ends well."""
    import contextlib

    steps: list[str] = []

    @contextlib.contextmanager
    def suspend(self: WorkbenchApp) -> Iterator[None]:
        steps.append("given")
        yield
        steps.append("back")

    monkeypatch.setenv("VISUAL", editor)
    monkeypatch.setattr(WorkbenchApp, "suspend", suspend)
    app = frozen_app(running(), mode="train")
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "V")
        assert steps == ["given", "back"] and told in _told(app)


def _told(app: App[Any]) -> str:
    return " ".join(notice.message for notice in app._notifications)


async def test_of_keys_that_come_together_the_second_finds_the_cursor_moved(
    frozen_app: MakeApp,
) -> None:
    app = frozen_app(feed=FrozenFeed(several()), mode="runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for key in ("j", "j", "enter"):  # as a slow link delivers them
            app.post_message(Key(key, key if len(key) == 1 else None))
        await settle(pilot)
        assert app.screen.chosen().name == "amazon-2"  # type: ignore[attr-defined]
